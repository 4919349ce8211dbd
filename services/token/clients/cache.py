"""The clients, for those who issue tokens: from PostgreSQL, remembered for a second."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from cachetools import LRUCache

from mesh.storage.database import Database, Transaction
from mesh.tokens.claims import is_name
from mesh.tokens.verifier import MAX_LIFETIME_SECONDS
from services.token.clients.client import Client, ClientRecord
from services.token.clients.store import find_client, hold_client

KEPT_SECONDS = 1.0
"""How old what is remembered of a client may be: how soon every process knows of a change."""
REMEMBERED = 1000
"""How many clients are remembered, about 2 KB each. Ids that don't exist count, too."""


@dataclass(slots=True)
class _Memory:
    record: ClientRecord | None
    read_at: float


class ClientDirectory:
    """Finds clients.

    A refresh takes lifetimes, grace and scopes from what is remembered. Whether the session lives is decided by the
    refresh's own statement, and a client that is deleted or disabled has no sessions.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], float] = time.monotonic,
        longest_token: timedelta = timedelta(seconds=MAX_LIFETIME_SECONDS),
    ) -> None:
        """Initializes the instance.

        Args:
            database: Token's own.
            clock: Monotonic seconds.
            longest_token: How long access tokens may live at the most. A client that was allowed more before gets this:
                a signing key is kept no longer.
        """
        self._database = database
        self._clock = clock
        self._longest_token = int(longest_token.total_seconds())
        self._memories: LRUCache[str, _Memory] = LRUCache(REMEMBERED)

    async def find(self, client_id: str) -> Client | None:
        """The client as it was at most a second ago; None when it is deleted, disabled, or never was.

        Raises:
            Unavailable: DEPENDENCY_UNAVAILABLE.
        """
        record = await self.recall(client_id)
        return record.client if record else None

    async def recall(self, client_id: str) -> ClientRecord | None:
        """The same with its version: what is decided by it is held against the database before it takes effect.

        Raises:
            Unavailable: DEPENDENCY_UNAVAILABLE.
        """
        if not is_name(client_id):
            # PostgreSQL's text can't hold every string of protobuf.
            return None
        now = self._clock()
        memory = self._memories.get(client_id)
        if memory is not None and now - memory.read_at <= KEPT_SECONDS:
            return memory.record
        found = self._usable(await find_client(self._database, client_id))
        self._memories[client_id] = _Memory(found, now)
        return found

    async def read(self, client_id: str) -> ClientRecord | None:
        """The client as it is now; None as above."""
        return self._usable(await find_client(self._database, client_id)) if is_name(client_id) else None

    async def hold(self, tx: Transaction, client_id: str) -> ClientRecord | None:
        """The client as it is, and stays until the transaction ends.

        None when it is deleted, disabled, or never was.
        """
        return self._usable(await hold_client(tx, client_id)) if is_name(client_id) else None

    def _usable(self, found: ClientRecord | None) -> ClientRecord | None:
        if found is None or found.client.disabled:
            return None
        if found.client.access_token_seconds <= self._longest_token:
            return found
        return replace(found, client=found.client.model_copy(update={"access_token_seconds": self._longest_token}))
