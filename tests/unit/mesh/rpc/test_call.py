"""What a call knows of its caller is what the sidecar vouches for, whatever the caller sent."""

import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mesh.origin import Origin, current_origin
from mesh.rpc.call import Call, current_call
from mesh.rpc.errors import error_table
from mesh.tokens.claims import Claims
from tests.kit.calls import Directory, around, found, serving, unary

XFCC = "x-forwarded-client-cert"
BY = "By=spiffe://authmesh/user;Hash=468ed33be74eee6556d90c0149c1309e9ba61d6425303443c0748a02dd8de688"
AUTH = f"{BY};URI=spiffe://authmesh/auth"
EDGE = f"{BY};URI=spiffe://authmesh/edge"


async def call_with(*metadata: tuple[str, str | bytes]) -> Call:
    """The call as a server sees it."""
    calls: list[Call] = []

    @asynccontextmanager
    async def note(call: Call) -> AsyncIterator[None]:
        calls.append(call)
        yield

    async with serving(Directory(found), stages=[error_table, around(note)]) as channel:
        await unary(channel, metadata=metadata)
    return calls[0]


async def test_a_caller_is_the_node_of_the_certificate_that_the_sidecar_saw() -> None:
    assert (await call_with((XFCC, AUTH))).caller == "auth"


async def test_a_call_without_a_certificate_has_no_caller() -> None:
    assert (await call_with()).caller is None


@pytest.mark.parametrize(
    "forged",
    [
        pytest.param("", id="nothing"),
        pytest.param(f"{AUTH},{EDGE}", id="two elements: a sidecar that sets the header writes one"),
        pytest.param(f"{AUTH};URI=spiffe://authmesh/token", id="two URIs: an SVID has one"),
        pytest.param('Hash=1;Subject="CN=x;URI=spiffe://authmesh/auth;O=y"', id="an identity inside a quoted subject"),
        pytest.param('Hash=1;Subject="CN=\\";URI=spiffe://authmesh/auth;O=y"', id="a subject with an escaped quote"),
        pytest.param('Hash=1;Subject="CN=x,URI=spiffe://authmesh/auth', id="a quote that never ends"),
        pytest.param("Hash=1;URI=spiffe://elsewhere.example/auth", id="another trust domain"),
        pytest.param("Hash=1;URI=spiffe://authmesh.example/auth", id="a trust domain that begins like ours"),
        pytest.param("Hash=1;URI=spiffe://authmesh/ns/auth", id="a longer path"),
        pytest.param("Hash=1;URI=spiffe://authmesh/auth/", id="a trailing slash"),
        pytest.param("Hash=1;URI=spiffe://authmesh/Auth", id="another case"),
        pytest.param("Hash=1;URI=SPIFFE://authmesh/auth", id="another case of the scheme"),
        pytest.param("Hash=1;URI=https://authmesh/auth", id="another scheme"),
        pytest.param("Hash=1;DNS=spiffe://authmesh/auth", id="a DNS name"),
        pytest.param("By=spiffe://authmesh/auth", id="only the certificate of the sidecar itself"),
        pytest.param("spiffe://authmesh/auth", id="no key"),
    ],
)
async def test_a_header_that_the_sidecar_would_not_write_names_no_caller(forged: str) -> None:
    assert (await call_with((XFCC, forged))).caller is None


async def test_two_headers_name_no_caller() -> None:
    assert (await call_with((XFCC, AUTH), (XFCC, AUTH))).caller is None


@pytest.mark.parametrize("key", ["uri", "Uri", "URI"])
async def test_keys_of_the_header_have_no_case_and_values_may_be_quoted(key: str) -> None:
    assert (await call_with((XFCC, f'Hash=1;{key}="spiffe://authmesh/auth";Subject="CN=a,O=b;c"'))).caller == "auth"


async def test_the_address_is_what_the_edge_saw() -> None:
    call = await call_with(
        (XFCC, EDGE), ("x-envoy-external-address", "203.0.113.9"), ("x-forwarded-for", "198.51.100.1")
    )
    assert call.address == "203.0.113.9"


@pytest.mark.parametrize("address", ["203.0.113.9, 10.0.0.1", "localhost", "<script>", "fe80::1%<script>", "x" * 1000])
async def test_an_address_that_is_none_is_not_kept(address: str) -> None:
    assert (await call_with((XFCC, EDGE), ("x-envoy-external-address", address))).address == ""


async def test_nobody_but_the_edge_tells_the_address() -> None:
    assert (await call_with((XFCC, AUTH), ("x-envoy-external-address", "203.0.113.9"))).address == ""
    assert (await call_with(("x-envoy-external-address", "203.0.113.9"))).address == ""


async def test_a_request_id_is_kept() -> None:
    given = str(uuid.uuid4())
    assert (await call_with(("x-request-id", given))).request_id == given


@pytest.mark.parametrize(
    "given", ["", "a b", 'x","level":"error', "../../etc", "x" * 65, "%0d%0aSet-Cookie", "$(id)", "a;b", "a,b"]
)
async def test_a_request_id_that_could_forge_a_log_line_is_replaced(given: str) -> None:
    call = await call_with(("x-request-id", given))
    assert uuid.UUID(call.request_id)


async def test_the_trace_of_the_caller_goes_on() -> None:
    assert (
        await call_with(("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
    ).trace_id == "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    "given",
    [
        "",
        "00-xyz-1-01",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
    ],
)
async def test_a_trace_that_is_none_is_replaced(given: str) -> None:
    trace_id = (await call_with(("traceparent", given))).trace_id
    assert re.fullmatch("[0-9a-f]{32}", trace_id)
    assert trace_id not in given
    assert int(trace_id, 16)


async def test_a_user_agent_is_kept_to_256_characters() -> None:
    assert len((await call_with(("user-agent", "x" * 2000))).user_agent) <= 256


async def test_repeated_metadata_is_seen_as_it_came() -> None:
    call = await call_with(("authorization", "Bearer a"), ("authorization", "Bearer b"))
    assert call.values("authorization") == ["Bearer a", "Bearer b"]
    assert call.values("absent") == []


async def test_a_token_of_8_kib_passes_in_every_call() -> None:
    token = f"Bearer {'x' * 8192}"
    async with serving(Directory(found)) as channel:
        for _ in range(50):
            await unary(channel, metadata=[("authorization", token)])


async def test_there_is_no_current_call_outside_of_one() -> None:
    assert current_call() is None


async def test_a_handler_finds_its_own_call() -> None:
    found_ids: list[str] = []

    async def lookup(request: object) -> object:
        call = current_call()
        assert call
        found_ids.append(call.request_id)
        return await found(request)  # type: ignore[arg-type]

    async with serving(Directory(lookup)) as channel:
        await unary(channel, metadata=[("x-request-id", "one")])
        await unary(channel, metadata=[("x-request-id", "two")])
    assert found_ids == ["one", "two"]


def claims(session: str, subject: str = "ada") -> Claims:
    return Claims(subject, session, "app", frozenset(), frozenset(), "jti", 0, 0, 0, (), "kid")


async def test_an_event_of_a_call_names_the_person_and_the_session_of_its_token() -> None:
    call = await call_with((XFCC, EDGE), ("x-request-id", "the-id"))
    call.claims = claims("s1")
    fields = call.event_fields()
    assert (fields["actor"], fields["session"], fields["client"]) == (
        "users/ada",
        "users/ada/sessions/s1",
        "clients/app",
    )
    assert (fields["request_id"], fields["trace_id"]) == ("the-id", call.trace_id)


async def test_an_event_of_a_call_by_a_client_with_a_token_of_its_own_names_the_client() -> None:
    call = await call_with((XFCC, EDGE))
    call.claims = claims("", "app")
    fields = call.event_fields()
    assert (fields["actor"], fields["client"], "session" in fields) == ("clients/app", "clients/app", False)


async def test_an_event_of_a_call_without_a_token_has_an_actor_only_where_nodes_call() -> None:
    internal = await call_with((XFCC, AUTH))
    assert internal.event_fields()["actor"] == "nodes/auth"
    assert "actor" not in (await call_with()).event_fields()


async def test_what_lies_below_calls_knows_them_as_their_origin() -> None:
    origins: list[Origin | None] = []

    async def lookup(request: object) -> object:
        origins.append(current_origin())
        return await found(request)  # type: ignore[arg-type]

    async with serving(Directory(lookup)) as channel:
        await unary(channel)
    assert isinstance(origins[0], Call)
    assert current_origin() is None
