"""What one caller can make each service do in a second, by docs/limits.md: cost of a call times calls, over all
methods."""

import re
from pathlib import Path

import pytest

from mesh.contract import Contract, Rpc
from mesh.operator.implemented import implemented
from mesh.rpc.limits import LEAST_MESSAGE, STREAM_BYTES

CONTRACT = Contract.load()
SERVICES = {name: rpcs for name, rpcs in CONTRACT.services.items() if any(rpc.rate for rpc in rpcs)}
BUDGET = {"rows_written": 60, "rows_read": 30_000, "bytes": 12_000_000, "milliseconds": 250, "messages": 40}
"""The most that one caller makes one service do in a second, in the long run: a quarter of one core, for one."""
CLIENTS = {"/authmesh.token.v1.TokenService/IntrospectToken"}
"""Methods for clients that serve many people. They have a budget of their own."""
CLIENT_MILLISECONDS = 300
BURST = {"rows_written": 3_500, "milliseconds": 3_000}
"""The most that one call after the other makes of it after a rest, of one method."""


def in_a_second(rpc: Rpc, figure: str) -> float:
    assert rpc.rate
    # The costs of a stream are those of a second already.
    often = 1 if rpc.server_streaming else rpc.rate.per_second
    return of_one_call(rpc, figure) * often


def of_one_call(rpc: Rpc, figure: str) -> float:
    return (
        rpc.cost.cpu.ToTimedelta().total_seconds() * 1000
        if figure == "milliseconds"
        else float(getattr(rpc.cost, figure))
    )


@pytest.mark.parametrize("service", SERVICES)
def test_every_method_with_a_token_says_what_it_may_cost(service: str) -> None:
    served = [rpc for rpc in implemented(CONTRACT) if rpc.service == service and rpc.rate]
    assert [rpc.path for rpc in served if not rpc.cost.cpu.nanos] == []


@pytest.mark.parametrize("figure", BUDGET)
@pytest.mark.parametrize("service", SERVICES)
def test_all_that_one_caller_can_call_is_within_the_budget(service: str, figure: str) -> None:
    spent = {
        rpc.name: in_a_second(rpc, figure) for rpc in CONTRACT.services[service] if rpc.rate and rpc.path not in CLIENTS
    }
    assert sum(spent.values()) <= BUDGET[figure], spent


def test_a_client_that_serves_many_people_is_within_its_own() -> None:
    for path in CLIENTS:
        assert in_a_second(CONTRACT.rpcs[path], "milliseconds") <= CLIENT_MILLISECONDS


@pytest.mark.parametrize("figure", BURST)
def test_what_a_caller_can_do_on_end_after_a_rest_is_bounded(figure: str) -> None:
    for rpc in CONTRACT.rpcs.values():
        if rpc.rate and not rpc.server_streaming:
            assert of_one_call(rpc, figure) * rpc.rate.requests <= BURST[figure], rpc.path


def test_a_stream_declares_what_streams_are_sent() -> None:
    messages = STREAM_BYTES.requests // LEAST_MESSAGE
    for rpc in CONTRACT.rpcs.values():
        if rpc.rate and rpc.server_streaming:
            assert STREAM_BYTES.requests <= rpc.cost.bytes <= 1.1 * STREAM_BYTES.requests, rpc.path
            assert 2 * messages <= rpc.cost.rows_read <= 12 * messages, rpc.path


def test_the_page_has_a_line_for_each_method() -> None:
    page = (Path(__file__).parents[3] / "docs" / "limits.md").read_text()
    lines = set(re.findall(r"^\| (\w+) \|", page, re.MULTILINE)) - {"RPC"}
    assert lines == {rpc.name for rpc in CONTRACT.rpcs.values() if rpc.rate}
