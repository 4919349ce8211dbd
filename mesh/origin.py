"""On whose behalf code runs. Set where a call comes in; read by what lies below and knows nothing of calls."""

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Protocol


class Origin(Protocol):
    """Where work comes from: a call, as a rule."""

    @property
    def principal(self) -> str:
        """For whom the work is done, as far as is known: `users/…`, `clients/…`, `nodes/…` or `addresses/…`.

        Empty when nothing is known.
        """

    def event_fields(self) -> Mapping[str, str]:
        """What it says of an audit event: actor, client, session, address, user agent, request and trace id.

        A field that it does not know is missing or empty.
        """


_CURRENT: ContextVar[Origin] = ContextVar("authmesh_origin")


def set_current_origin(origin: Origin) -> None:
    """Makes `origin` the current one of this task and of the tasks that it starts."""
    _CURRENT.set(origin)


def current_origin() -> Origin | None:
    """The origin of the running code, or None for background work."""
    return _CURRENT.get(None)
