"""The refresh token of a browser: in a cookie that no script can read, and not in the answer.

A page asks for it with the header `x-authmesh-refresh: cookie` at sign-in, refresh and sign-out. Any presence of that
header makes the edge's csrf filter hold the request's origin against its own and those that mesh.yaml names, and the
edge lets cookies through to no other methods than these (see `cookie_methods` in mesh.yaml), so a cookie that arrives
here was sent by a page that may.
"""

import time
from typing import Any

from authmesh.token.v1 import token_set_pb2
from grpc import aio

from mesh.errors import PermissionDenied, Reason, Unauthenticated, field_invalid
from mesh.rpc.call import Call, current_call, send_initial_metadata

ASKED_BY = "x-authmesh-refresh"
"""The header, whose one value is `cookie`."""
NAME = "__Host-authmesh-refresh"
"""The prefix makes browsers refuse a cookie of that name that is not Secure, or that another host of the domain set."""

_ATTRIBUTES = "Path=/; Secure; HttpOnly; SameSite=Strict"
Context = aio.ServicerContext[Any, Any]


def is_asked_for() -> bool:
    """Whether the caller keeps its refresh token in the cookie.

    Raises:
        InvalidArgument: FIELD_INVALID, the header says something else.
        PermissionDenied: CALLER_NOT_ALLOWED, the page was not served over https: its browser would drop the cookie and
            lose the session.
    """
    call = current_call()
    values = call.values(ASKED_BY) if call else []
    if not call or not values:
        return False
    if values != ["cookie"]:
        raise field_invalid(ASKED_BY, "its one value is `cookie`")
    if any(origin.startswith("http:") for origin in call.values("origin")):
        raise PermissionDenied(
            Reason.CALLER_NOT_ALLOWED,
            f"browsers keep the refresh token's cookie for https pages only: serve the page over "
            f"https, or leave {ASKED_BY} out",
        )
    return True


def token_of_request(given: str, field: str) -> str:
    """The token that a request is about.

    The given one, or the cookie's where none is given and the caller keeps it there.

    Args:
        given: The field's value.
        field: Its name.

    Raises:
        InvalidArgument: FIELD_INVALID `field`, there is none and no cookie was asked for; or the header says something
            else. That must be known before the token is spent.
        Unauthenticated: REFRESH_INVALID, the browser has no such cookie (any more), or two.
    """
    asked, call = is_asked_for(), current_call()
    if given:
        return given
    if call is None or not asked:
        raise field_invalid(field, "is required")
    found = _cookies(call)
    if len(found) != 1:
        raise Unauthenticated(Reason.REFRESH_INVALID, "the browser has no refresh token: sign in")
    return found[0]


async def keep_in_cookie(context: Context, tokens: token_set_pb2.TokenSet) -> token_set_pb2.TokenSet:
    """Moves the refresh token of an answer into the cookie, where the caller asked for that."""
    if is_asked_for() and tokens.refresh_token:
        seconds = max(0, tokens.refresh_expire_time.seconds - int(time.time()))
        await _set(context, tokens.refresh_token, seconds)
        tokens.refresh_token = ""
    return tokens


async def clear_cookie(context: Context) -> None:
    """Makes the browser forget the cookie, where the caller keeps its refresh token there."""
    if is_asked_for():
        await _set(context, "", 0)


async def _set(context: Context, value: str, seconds: int) -> None:
    await send_initial_metadata(context, ("set-cookie", f"{NAME}={value}; Max-Age={seconds}; {_ATTRIBUTES}"))


def _cookies(call: Call) -> list[str]:
    # HTTP/2 may bring the cookies in one header or in several (RFC 9113, section 8.2.3).
    pairs = (pair.strip().partition("=") for header in call.values("cookie") for pair in header.split(";"))
    return [value for name, _, value in pairs if name == NAME]
