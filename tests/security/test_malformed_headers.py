"""Headers that grpc core can't parse, at every hop: refused by name or taken off, and nobody else loses a call by
them."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from mesh.contract import Contract
from mesh.model.mesh import load_mesh
from tests.conftest import held
from tests.kit.envoy_chain import Chain, running
from tests.kit.protocols import Answer, from_json, from_trailers, method
from tests.kit.raw_http2 import Field, call, connected, frame, grpc_head
from tests.kit.under_attack import good_calls

# A public method that nodes may call, too, so that each hop admits it.
METHOD = method("TokenService/RevokeToken")
HOPS = ("edge grpc", "edge grpc-web", "edge connect", "edge json", "ingress", "egress")
INVALID, UNSUPPORTED = ("INVALID_ARGUMENT", "FIELD_INVALID"), ("UNIMPLEMENTED", "NOT_IMPLEMENTED")

REFUSED = [
    *(
        (("grpc-timeout", value), INVALID)
        for value in ("abc", "1", "S", "-1S", "1.5S", "1s", "123456789S", "1S,1S", " 1S x")
    ),
    *((("grpc-encoding", value), UNSUPPORTED) for value in ("gzip", "deflate", "nothing", "")),
]
REMOVED = [
    *(
        (f"grpc-{name}", "x")
        for name in (
            "status",
            "message",
            "internal-encoding-request",
            "retry-pushback-ms",
            "previous-rpc-attempts",
            "",
            "a",
        )
    ),
    *(
        (name, "!")
        for name in (
            "some-bin",
            "grpc-trace-bin",
            "grpc-tags-bin",
            "lb-cost-bin",
            "endpoint-load-metrics-bin",
            "authorization-bin",
        )
    ),
    *((name, "x") for name in ("some!thing", "some+thing", "some~thing", "!", "some'thing", "some|thing")),
]


@pytest.fixture(scope="module")
async def chain() -> AsyncIterator[Chain]:
    mesh = load_mesh()
    # One address makes all the calls here.
    unlimited = mesh.model_copy(update={"virtual_gateway": mesh.virtual_gateway.model_copy(update={"rate_limits": ()})})
    async with held(running(unlimited, Contract.load(), ["auth", "token"])) as found:
        yield found


@pytest.fixture(params=HOPS)
def hop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def door(chain: Chain, hop: str) -> tuple[tuple[str, int] | str, ssl.SSLContext | None, str]:
    """Where a hop is, what a caller needs to get in, and the protocol to speak there."""
    where, _, protocol = hop.partition(" ")
    if where == "egress":
        return str(chain.placement("auth").egress_socket), None, "grpc"
    trusted = chain.authorities.public_certificates if where == "edge" else chain.authorities.certificates("edge")
    context = ssl.create_default_context(cafile=str(trusted / "ca.crt"))
    context.check_hostname = False
    if where == "ingress":
        context.load_cert_chain(trusted / "tls.crt", trusted / "tls.key")
    return chain.addresses["edge" if where == "edge" else "token"], context, protocol or "grpc"


async def send(chain: Chain, hop: str, *fields: Field) -> Answer:
    """One call with more header fields."""
    address, context, protocol = door(chain, hop)
    return await call(address, context, protocol, METHOD, *fields)


@pytest.mark.parametrize(("field", "outcome"), REFUSED, ids=[f"{name}: {value}" for (name, value), _ in REFUSED])
async def test_what_can_t_be_parsed_is_refused_by_name(
    chain: Chain, hop: str, field: Field, outcome: tuple[str, str]
) -> None:
    heard = chain.processes["token"].heard
    heard.clear()
    answer = await send(chain, hop, field)
    assert answer.outcome == outcome
    assert not heard
    if outcome == INVALID:
        assert answer.fields == (field[0],)
    else:
        assert field[0] in answer.message


async def test_of_two_timeouts_neither_is_taken(chain: Chain, hop: str) -> None:
    for second in ("abc", "2S", ""):
        answer = await send(chain, hop, ("grpc-timeout", "1S"), ("grpc-timeout", second))
        # Envoy joins headers of one name by a comma, and drops an empty one.
        assert answer.outcome == (INVALID if second else ("OK", ""))


@pytest.mark.parametrize("value", ["0S", "1n", "00000001H", "99999999H", "99999999n", ""])
async def test_whatever_the_grammar_of_grpc_allows_is_parsed_and_an_empty_one_is_none(
    chain: Chain, hop: str, value: str
) -> None:
    answer = await send(chain, hop, ("grpc-timeout", value))
    # The time may be up before the answer is there.
    assert answer.status in ("OK", "DEADLINE_EXCEEDED")


@pytest.mark.parametrize("field", REMOVED, ids=lambda field: field[0])
async def test_what_no_caller_has_a_say_in_never_reaches_a_process(chain: Chain, hop: str, field: Field) -> None:
    heard = chain.processes["token"].heard
    heard.clear()
    assert (await send(chain, hop, field)).status == "OK"
    assert heard[-1].path == METHOD.path
    assert field[0] not in heard[-1].metadata
    assert not [name for name in heard[-1].metadata if name.startswith("x-authmesh")]


@pytest.mark.parametrize("value", ["abc", "", "-1", "1.5", "12345678901", "99999999999999999999"])
async def test_a_timeout_of_connect_that_is_none_is_no_timeout(chain: Chain, value: str) -> None:
    assert (await send(chain, "edge connect", ("connect-timeout-ms", value))).status == "OK"
    assert (await send(chain, "edge grpc", ("grpc-timeout", "10S"))).status == "OK"


@pytest.mark.parametrize(
    "field",
    [("grpc-timeout", "abc"), ("x-bin", "!"), ("a!b", "x"), ("grpc-status", "x"), ("x", "y" * 20_000)],
    ids=lambda field: field[0],
)
async def test_nothing_behind_a_body_reaches_a_process(chain: Chain, field: tuple[str, str]) -> None:
    for hop in ("edge grpc", "ingress", "egress"):
        address, context, _ = door(chain, hop)
        async with connected(address, context) as connection:
            for _ in range(2):
                stream = await connection.open(grpc_head(METHOD.path))
                await connection.send(stream, frame(b""))
                await connection.send_trailers(stream, [field])
                assert (await stream.end()).headers["grpc-status"] == "0", hop


@pytest.mark.parametrize("verb", ["GET", "PUT", "DELETE", "OPTIONS", "SOMETHING"])
async def test_a_grpc_call_is_a_post(chain: Chain, verb: str) -> None:
    for hop in ("edge grpc", "edge grpc-web", "ingress", "egress"):
        assert (await send(chain, hop, (":method", verb))).outcome == UNSUPPORTED, hop


async def test_a_compressed_json_body_is_refused_by_name(chain: Chain) -> None:
    answer = await send(chain, "edge json", ("content-encoding", "gzip"))
    assert (answer.outcome, answer.fields) == (INVALID, ("content-encoding",))


async def test_http_1_is_no_way_around(chain: Chain) -> None:
    async with chain.http(http1=True, http2=False) as http:
        for fields in ({"grpc-timeout": "abc"}, {"grpc-timeout": "abc", "te": "gzip"}):
            response = await http.post(METHOD.http[0].template, json={}, headers=fields)
            assert from_json(response.status_code, response.content, dict(response.headers)).fields == ("grpc-timeout",)
        assert (
            await http.post(METHOD.http[0].template, json={}, headers={"te": "gzip, trailers", "some-bin": "!"})
        ).status_code == 200


@pytest.mark.parametrize(
    "path", ["/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/authmesh.auth.v1.AuthService/Nothing", "/x"]
)
async def test_a_stream_to_a_method_that_does_not_exist_is_refused_before_it_says_anything(
    chain: Chain, path: str
) -> None:
    context = ssl.create_default_context(cafile=str(chain.authorities.public_certificates / "ca.crt"))
    async with connected(chain.addresses["edge"], context) as connection:
        stream = await connection.open(grpc_head(path))
        answer = await stream.end(within=2)
    assert from_trailers(answer.headers).outcome == UNSUPPORTED


@pytest.mark.parametrize("hop_", ["edge grpc", "edge connect", "ingress"])
async def test_no_good_call_is_lost_beside_any_of_them(chain: Chain, hop_: str) -> None:
    def good(hop: str) -> Callable[[], Awaitable[Answer]]:
        return lambda: send(chain, hop, ("grpc-timeout", "10S"))

    async with good_calls(good("edge grpc"), good("edge connect"), good("edge json"), good("egress")) as calls:
        for field in [
            *(field for field, _ in REFUSED),
            *REMOVED,
            (":method", "DELETE"),
            ("te", "gzip"),
            ("content-type", "text/plain"),
        ]:
            await asyncio.gather(send(chain, hop_, field), return_exceptions=True)
    assert calls.answered > 100
