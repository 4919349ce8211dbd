import json
from datetime import UTC, date, datetime
from typing import Any

import pytest
from authmesh.audit.v1.audit_event_pb2 import AuditEvent
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.audit.pipeline.envelope import EnvelopeError, Intake, names, read
from tests.kit.envelopes import envelope, event


def test_an_event_is_read_whole() -> None:
    sent = event(7, actor="users/ada", previous_hash=b"\x00\xff" * 16, detail={"k": "v\u2028é"})
    record = read(envelope(sent))
    assert (record.source, record.sequence, record.date) == ("auth", 7, date(2026, 11, 24))
    assert json_format.Parse(record.line, AuditEvent()) == sent
    assert record.line.isascii()
    assert b"\n" not in record.line


def test_the_day_is_the_events_own_in_utc() -> None:
    assert read(envelope(event(1, at=datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)))).date == date(2026, 12, 31)


def test_a_repetition_has_the_same_identity_whatever_its_envelope_and_order_of_members() -> None:
    body = json.loads(envelope(event(7)))
    shuffled = body | {"id": "other", "detail": dict(reversed(body["detail"].items()))}
    assert read(json.dumps(body)).identity == read(json.dumps(shuffled)).identity
    assert read(envelope(event(7))).identity != read(envelope(event(7, actor="users/eve"))).identity


def test_a_type_that_a_newer_source_knows_is_taken() -> None:
    body = json.loads(envelope(event(7)))
    body["detail"]["type"] = body["detail-type"] = "auth.invented"
    assert json.loads(read(json.dumps(body)).line)["type"] == "auth.invented"


@pytest.mark.parametrize(
    "members",
    [
        {"newMember": {"a": 1}},
        {"previousHash": "AAAA"},
        {"previousHash": ""},
        {"sequence": str(10**16)},
        {"type": "audit.parked", "detail": {"replaces": "zz"}},
        {"type": "audit.parked", "detail": {"replaces": "00"}},
    ],
)
def test_what_no_verifier_could_hold_against_the_chain_is_refused(members: dict[str, Any]) -> None:
    body = json.loads(envelope(event(7)))
    body["detail"] |= members
    body["detail-type"] = body["detail"]["type"]
    with pytest.raises(EnvelopeError):
        read(json.dumps(body))


def test_the_first_event_names_none_before_it() -> None:
    with pytest.raises(EnvelopeError):
        read(envelope(event(1, previous_hash=bytes(32))))


def test_a_line_is_the_one_form_of_its_event() -> None:
    body = json.loads(envelope(event(7)))
    detail = body["detail"]
    others = [
        detail | {"sequence": 7},
        detail | {"sequence": 7.0},
        detail | {"actor": "", "reason": None, "detail": {}},
        detail | {"eventTime": detail["eventTime"].replace("Z", ".000+00:00")},
        {"event_id" if name == "eventId" else name: value for name, value in detail.items()},
        detail | {"outcome": 1},
    ]
    assert {read(json.dumps(body | {"detail": other})).line for other in others} == {read(json.dumps(body)).line}


INTAKE = Intake(names("auth, token"), names("AIDAEVENTBRIDGE,AROAREDRIVE"))


def test_events_of_nodes_of_the_mesh_are_taken_from_the_bus_and_from_who_redrives() -> None:
    for sender in ("AIDAEVENTBRIDGE", "AROAREDRIVE:ada"):
        assert INTAKE.read(envelope(event(7)), sender).sequence == 7
    assert Intake(["auth"]).read(envelope(event(7)), "anybody").sequence == 7


@pytest.mark.parametrize("sender", ["", "AROANODE:i-1", "AIDAEVENTBRIDGE2", ":AIDAEVENTBRIDGE"])
def test_a_message_that_another_one_put_into_the_queue_is_refused(sender: str) -> None:
    with pytest.raises(EnvelopeError, match="another sender"):
        INTAKE.read(envelope(event(7)), sender)


def test_an_event_of_what_is_not_a_node_of_the_mesh_is_refused() -> None:
    with pytest.raises(EnvelopeError, match="not a node"):
        INTAKE.read(envelope(event(7, source="payment")), "AIDAEVENTBRIDGE")
    with pytest.raises(EnvelopeError, match="not a node"):
        Intake([]).read(envelope(event(7)), "AIDAEVENTBRIDGE")


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "authmesh.token"},
        {"source": "auth"},
        {"source": None},
        {"detail-type": "auth.signed_up"},
        {"detail": None},
        {"detail": []},
        {"detail": "text"},
        {"detail": {}},
        {"detail": {"source": "auth", "type": "auth.signed_in", "sequence": "1"}},
        {"detail": {"source": "auth", "type": "auth.signed_in", "sequence": "0", "eventTime": "2026-11-24T12:00:00Z"}},
        {"detail": {"source": "auth", "type": "auth.signed_in", "sequence": "-1", "eventTime": "2026-11-24T12:00:00Z"}},
        {
            "detail": {
                "source": "auth",
                "type": "auth.signed_in",
                "sequence": "1" * 30,
                "eventTime": "2026-11-24T12:00:00Z",
            }
        },
        {"detail": {"source": "auth", "type": "auth.signed_in", "sequence": "1", "eventTime": "yesterday"}},
        {
            "detail": {
                "source": "auth",
                "type": "auth.signed_in",
                "sequence": "1",
                "eventTime": "2026-11-24T12:00:00Z",
                "actor": "\ud800",
            }
        },
        {
            "source": "authmesh.../../x",
            "detail": {
                "source": "../../x",
                "type": "auth.signed_in",
                "sequence": "1",
                "eventTime": "2026-11-24T12:00:00Z",
            },
        },
        {"detail-type": "", "detail": {"source": "auth", "sequence": "1", "eventTime": "2026-11-24T12:00:00Z"}},
    ],
)
def test_a_message_without_a_good_event_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(EnvelopeError):
        read(envelope(event(1), **changes))


@pytest.mark.parametrize(
    "body",
    ["", "{", "[]", "null", "5", '"text"', "[" * 100_000, '{"detail": NaN}', '{"detail": {"detail": {"a": ' * 10_000],
)
def test_what_is_no_envelope_is_refused(body: str) -> None:
    with pytest.raises(EnvelopeError):
        read(body)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


# The first input takes seconds on a machine that is busy.
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.sampled_from([*sorted(AuditEvent.DESCRIPTOR.fields_by_name), "eventTime", "eventId"]), _json))
def test_no_content_makes_anything_but_a_record_or_a_refusal(detail: dict[str, Any]) -> None:
    try:
        record = read(envelope(event(1), detail=detail))
    except EnvelopeError:
        return
    assert record.sequence >= 1


def test_a_number_that_json_has_no_word_for_is_refused() -> None:
    # Python reads it as infinity, and what it would write of that spoils the object for everybody else.
    with pytest.raises(EnvelopeError):
        read(envelope(event(1)).replace('"eventId"', '"newMember": 1e999, "eventId"'))


def test_a_refusal_does_not_repeat_the_content() -> None:
    with pytest.raises(EnvelopeError) as caught:
        read(envelope(event(1), detail={"email": ["ada@example.com"]}))
    assert "ada" not in str(caught.value)
