"""The outbox of a service: the table of what must leave it.

Rows are written with the change that they tell of (`mesh.outbox.work`), and leave by the relay (`mesh.outbox.relay`).
The migrations of `mesh.storage` make the table.

Three kinds: `audit` (events, numbered and chained, to EventBridge), `message` (to people, to SNS) and `command` (to
other services, by RPC).
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from authmesh.audit.v1.audit_event_pb2 import OUTCOME_SUCCESS, OUTCOME_UNSPECIFIED, AuditEvent

from mesh.ids import uuid7
from mesh.model.event_types import DETAILS
from mesh.origin import current_origin
from mesh.storage.database import Transaction

INSERT = "INSERT INTO outbox (kind, destination, payload) VALUES ($1, $2, $3)"
INSERT_MANY = """
INSERT INTO outbox (kind, destination, payload)
SELECT kind, destination, payload
FROM unnest($1::text[], $2::text[], $3::bytea[]) WITH ORDINALITY AS entry (kind, destination, payload, place)
ORDER BY place
"""

NewEntry = tuple[str, str, bytes]
"""Kind, destination and payload of a row."""


class Outbox:
    """One service's outbox, as a process sees it."""

    def __init__(self, source: str, actor: str = "") -> None:
        """Initializes the instance.

        Args:
            source: The service's name, the `source` of its audit events.
            actor: Of events that say none and that no call is the origin of.
        """
        self.source = source
        self._actor = actor
        self._wakeups: list[asyncio.Event] = []

    def event(self, event: AuditEvent) -> AuditEvent:
        """A copy of `event` with its id, source and time, and what its origin tells (`mesh.origin`).

        Actor, client, session, address, request and trace id. Set fields stay.

        Raises:
            ValueError: the type is not in the catalogue, or does not list a key of `detail`.
        """
        listed = DETAILS.get(event.type)
        if listed is None:
            raise ValueError(f"{event.type!r} is not an event of the catalogue (authmesh.audit.v1.EventType)")
        if unlisted := event.detail.keys() - listed:
            raise ValueError(
                f"{event.type} lists no detail {', '.join(sorted(unlisted))} (authmesh.audit.v1.EventType)"
            )
        filled = AuditEvent()
        filled.CopyFrom(event)
        origin = current_origin()
        fields = origin.event_fields() if origin else {"actor": self._actor}
        for field, value in {"event_id": str(uuid7()), "source": self.source, **fields}.items():
            if not getattr(filled, field):
                setattr(filled, field, value)
        if not filled.HasField("event_time"):
            filled.event_time.FromDatetime(datetime.now(UTC))
        if filled.outcome == OUTCOME_UNSPECIFIED:
            filled.outcome = OUTCOME_SUCCESS
        return filled

    async def insert(self, tx: Transaction, entries: Sequence[NewEntry]) -> None:
        """Writes rows in one statement. The relay is woken after the commit."""
        if len(entries) == 1:
            await tx.execute(INSERT, *entries[0])
        else:
            await tx.execute(INSERT_MANY, *zip(*entries, strict=True))
        tx.after_commit[self.wake] = None

    def wake(self) -> None:
        """Tells this process's relay that there is something to send. Rows of a unit of work do it by themselves."""
        for wakeup in self._wakeups:
            wakeup.set()

    def wakeup(self) -> asyncio.Event:
        """An event that `wake` sets, for a relay."""
        self._wakeups.append(asyncio.Event())
        return self._wakeups[-1]
