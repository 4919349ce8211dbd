"""Roles: which exist, and that someone must be left who can give them."""

from collections.abc import Collection, Iterable

from mesh.errors import FailedPrecondition, Reason, field_invalid

ADMIN = "admin"
KNOWN = frozenset({ADMIN})
"""What each may do is in Token's map from roles to scopes."""


def known(roles: Iterable[str]) -> tuple[str, ...]:
    """The roles, sorted, each once.

    Raises:
        InvalidArgument: FIELD_INVALID `roles`, for one that doesn't exist.
    """
    for role in roles:
        if role not in KNOWN:
            raise field_invalid("roles", f"`{role[:100]}` is not a role: choose from {', '.join(sorted(KNOWN))}")
    return tuple(sorted(set(roles)))


def demand_administrator_left(administrators: Collection[object], leaving: object) -> None:
    """Refuses to take the role from, or to disable, the last enabled administrator.

    Only the machine's operator could undo it.

    An administrator may disable or demote themselves while another one is left.

    Raises:
        FailedPrecondition: LAST_ADMINISTRATOR.
    """
    if set(administrators) == {leaving}:
        raise FailedPrecondition(Reason.LAST_ADMINISTRATOR, "this is the last administrator: make another one first")
