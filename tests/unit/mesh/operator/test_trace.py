"""How a trace is drawn."""

from dataclasses import replace
from io import StringIO

from rich.console import Console

from mesh.operator.trace import Span, Trace, listing, rows, table

ROOT = Span("t", "1", "", "edge", "AuthService/SignIn", 0, 10_000_000, False, {"http.status_code": "200"})
CALL = Span(
    "t", "2", "1", "auth", "authmesh.auth.v1.AuthService/SignIn", 1_000_000, 9_000_000, False,
    {"rpc.method": "authmesh.auth.v1.AuthService/SignIn", "rpc.response.status_code": "UNAUTHENTICATED",
     "authmesh.reason": "CREDENTIALS_INVALID"},
)  # fmt: skip
PART = Span("t", "3", "2", "auth", "SELECT accounts", 2_000_000, 3_000_000, True, {"error.type": "TimeoutError"})


def test_a_trace_is_named_by_its_first_call_and_ends_as_that_did() -> None:
    trace = Trace("t", (PART, CALL, ROOT))
    assert (trace.name, trace.status) == (CALL.name, "UNAUTHENTICATED CREDENTIALS_INVALID")
    assert (trace.milliseconds, trace.failed, trace.root) == (10, True, ROOT)
    alone = Trace("t", (ROOT,))
    assert (alone.name, alone.status, alone.failed) == (ROOT.name, "200", False)


def test_parts_are_below_what_they_are_parts_of_in_the_order_of_time() -> None:
    later = replace(PART, span_id="4", start=5_000_000, end=6_000_000, name="COMMIT")
    found = list(rows(Trace("t", (later, PART, ROOT, CALL))))
    assert [(row.span.span_id, row.depth) for row in found] == [("1", 0), ("2", 1), ("3", 2), ("4", 2)]
    assert (found[2].left, found[2].width) == (0.2, 0.1)


def test_a_part_whose_whole_did_not_come_is_drawn_all_the_same() -> None:
    found = list(rows(Trace("t", (PART, replace(ROOT, span_id="9")))))
    assert [(row.span.span_id, row.depth) for row in found] == [("9", 0), ("3", 0)]


def test_spans_that_name_each_other_end() -> None:
    around = (replace(ROOT, span_id="1", parent_id="2"), replace(ROOT, span_id="2", parent_id="1"))
    trace = Trace("t", around)
    assert list(rows(trace)) == []
    assert trace.root in around


def test_it_is_drawn_for_a_terminal() -> None:
    drawn = StringIO()
    console = Console(file=drawn, width=160)
    console.print(table(Trace("t", (ROOT, CALL, PART))))
    console.print(
        listing([{"started": "1", "name": "n", "status": "OK", "failed": False, "milliseconds": 1.5, "id": "t"}])
    )
    text = drawn.getvalue()
    assert "    SELECT accounts" in text
    assert "CREDENTIALS_INVALID" in text
    assert "1.5 ms" in text
