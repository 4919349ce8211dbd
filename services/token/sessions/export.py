"""What Token holds of a person: the roles and the sessions."""

import uuid
from collections.abc import AsyncIterator, Callable
from datetime import datetime

from authmesh.export.v1.export_pb2 import ExportedItem

from mesh.export import exported
from services.token.sessions.answers import session_message
from services.token.sessions.store import Store

_PAGE = 100


class Export:
    """Hands it out."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock

    async def items(self, subject: uuid.UUID) -> AsyncIterator[ExportedItem]:
        """Of a person. Sessions that were ended say nothing of anyone."""
        known = await self._store.find_subject(subject)
        yield exported("grants", {"roles": sorted(known.roles), "disabled": known.disabled})
        before: uuid.UUID | None = None
        while page := await self._store.live_sessions(subject, before, _PAGE, self._clock()):
            for session in page:
                yield exported("sessions", session_message(session, None))
            before = page[-1].id
