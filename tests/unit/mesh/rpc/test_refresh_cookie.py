"""The refresh token's cookie, as a process reads and writes it."""

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest
from authmesh.token.v1 import token_set_pb2

from mesh.contract import Contract
from mesh.errors import InvalidArgument, MeshError, PermissionDenied, Unauthenticated
from mesh.rpc import refresh_cookie
from mesh.rpc.call import set_current_call
from tests.kit.calls import call_from_edge

RPC = Contract.load().rpcs["/authmesh.token.v1.TokenService/RefreshToken"]
ASKED = (refresh_cookie.ASKED_BY, "cookie")
Answer = TypeVar("Answer")


class Context:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []

    async def send_initial_metadata(self, metadata: Sequence[tuple[str, str]]) -> None:
        self.sent += metadata


def during(metadata: Sequence[tuple[str, str]], body: Callable[[], Answer]) -> Answer:
    """The answer of `body` in a call with this metadata."""

    def run() -> Answer:
        set_current_call(call_from_edge(RPC, *metadata, context=Context()))
        return body()

    return contextvars.copy_context().run(run)


def found(given: str, *metadata: tuple[str, str]) -> str:
    return during(metadata, lambda: refresh_cookie.token_of_request(given, "refresh_token"))


@pytest.mark.parametrize("cookies", [
    ["__Host-authmesh-refresh=t"], ["a=b; __Host-authmesh-refresh=t; c=d"], ["a=b", "__Host-authmesh-refresh=t"],
    [" __Host-authmesh-refresh=t ;a"],
])  # fmt: skip
def test_the_cookie_is_found_among_others(cookies: list[str]) -> None:
    assert found("", ASKED, *(("cookie", value) for value in cookies)) == "t"


def test_a_token_in_the_request_goes_before_the_cookie() -> None:
    assert found("given", ASKED, ("cookie", "__Host-authmesh-refresh=t")) == "given"


@pytest.mark.parametrize("metadata", [[(refresh_cookie.ASKED_BY, "Cookie")], [ASKED, ASKED]])
def test_a_header_that_says_nonsense_is_refused_before_the_token_is_spent(metadata: list[tuple[str, str]]) -> None:
    with pytest.raises(InvalidArgument):
        found("given", *metadata)


@pytest.mark.parametrize(("metadata", "error"), [
    ([("cookie", "__Host-authmesh-refresh=t")], InvalidArgument), ([], InvalidArgument),
    ([(refresh_cookie.ASKED_BY, "Cookie"), ("cookie", "__Host-authmesh-refresh=t")], InvalidArgument),
    ([ASKED, ASKED, ("cookie", "__Host-authmesh-refresh=t")], InvalidArgument),
    ([ASKED], Unauthenticated), ([ASKED, ("cookie", "authmesh-refresh=t; __host-authmesh-refresh=t")], Unauthenticated),
    ([ASKED, ("cookie", "__Host-authmesh-refresh=t; __Host-authmesh-refresh=u")], Unauthenticated),
])  # fmt: skip
def test_without_one_cookie_that_was_asked_for_there_is_none(
    metadata: list[tuple[str, str]], error: type[MeshError]
) -> None:
    with pytest.raises(error):
        found("", *metadata)


def test_a_page_without_tls_is_told_that_its_browser_would_drop_the_cookie() -> None:
    with pytest.raises(PermissionDenied, match="serve the page over https"):
        found("", ASKED, ("origin", "http://localhost:5173"), ("cookie", "__Host-authmesh-refresh=t"))
    assert found("given", ("origin", "http://localhost:5173")) == "given"


async def test_outside_of_a_call_nothing_is_asked_for() -> None:
    assert not contextvars.Context().run(refresh_cookie.is_asked_for)


@pytest.mark.parametrize("asked", [True, False])
async def test_the_token_moves_from_the_answer_into_the_cookie_when_it_is_asked_for(asked: bool) -> None:
    tokens, context = token_set_pb2.TokenSet(access_token="a", refresh_token="t"), Context()
    tokens.refresh_expire_time.GetCurrentTime()
    tokens.refresh_expire_time.seconds += 100

    def move() -> asyncio.Task[token_set_pb2.TokenSet]:
        # The task's context is a copy of this one, in which the call is.
        return asyncio.ensure_future(refresh_cookie.keep_in_cookie(context, tokens))  # type: ignore[arg-type]

    answer = await during([ASKED] if asked else [], move)
    if not asked:
        assert (answer.refresh_token, context.sent) == ("t", [])
        return
    assert (answer.access_token, answer.refresh_token) == ("a", "")
    ((name, value),) = context.sent
    assert name == "set-cookie"
    assert value in {
        f"__Host-authmesh-refresh=t; Max-Age={seconds}; Path=/; Secure; HttpOnly; "
        f"SameSite=Strict" for seconds in (99, 100)
    }  # fmt: skip
