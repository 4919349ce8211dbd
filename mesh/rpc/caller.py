"""Who calls, for handlers: of the current call, whose method demands a token."""

from typing import TYPE_CHECKING
from uuid import UUID

from mesh.errors import PermissionDenied, Reason
from mesh.resources.name import USER
from mesh.rpc.call import current_call

if TYPE_CHECKING:
    from mesh.tokens.claims import Claims

ME = "me"
"""In a resource name: the caller."""


def caller_claims() -> "Claims":
    """What the caller's token says."""
    call = current_call()
    # The access rules of these methods demand a token, and authentication denies by default.
    assert call is not None
    assert call.claims is not None
    return call.claims


def caller_user() -> UUID:
    """The person who calls.

    Raises:
        PermissionDenied: CALLER_NOT_ALLOWED: the token is a client's own (RFC 7523).
    """
    try:
        return UUID(caller_claims().subject)
    except ValueError:
        raise PermissionDenied(
            Reason.CALLER_NOT_ALLOWED, "this method takes a person's token, and this one is a client's own"
        ) from None


def user_of(name: str) -> UUID:
    """The user of a resource name: `users/{uuid}`, `users/me` and what is below them.

    Raises:
        PermissionDenied: CALLER_NOT_ALLOWED: `users/me` with the token of a client.
    """
    user = USER.id("/".join(name.split("/", 2)[:2]))
    return caller_user() if user == ME else UUID(user)
