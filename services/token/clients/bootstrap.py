"""The first clients: those of the file that the database has never had."""

import asyncio
from collections.abc import Mapping

import structlog

from mesh.errors import Unavailable
from mesh.outbox.work import Work
from mesh.runtime.part import Part
from services.token import events
from services.token.clients.client import Client
from services.token.clients.store import add_client, find_client

PAUSE_SECONDS = 0.5
_log = structlog.get_logger("authmesh.clients")


class ClientBootstrap(Part):
    """Takes the clients of the file over into the database, which decides from then on.

    What an administrator changed or deleted stays so.
    """

    name = "clients"

    def __init__(self, work: Work, clients: Mapping[str, Client]) -> None:
        """Initializes the instance.

        Args:
            work: Of Token.
            clients: Of the file, by id.
        """
        self._work = work
        self._clients = clients
        self.sown = False
        """Whether that is done. Until then this process knows no clients to serve."""

    @property
    def ready(self) -> bool:
        """Whether there are clients to serve."""
        return self.sown

    async def run(self) -> None:
        """Sows once, as soon as the database answers."""
        while not self.sown:
            try:
                await self.apply()
            except Unavailable:
                await asyncio.sleep(PAUSE_SECONDS)

    async def apply(self) -> None:
        """Adds the clients of the file that the database has never had.

        A deleted one is not added again. Clients that differ from the file are named in the log.

        Raises:
            Unavailable: DEPENDENCY_UNAVAILABLE.
        """
        for client_id, client in self._clients.items():
            async with self._work.begin() as tx:
                if await add_client(tx, client_id, client, again=False):
                    tx.record(events.client_created_from_file(client_id, client))
                    continue
            known = await find_client(self._work.database, client_id)
            if known is None or known.client != client:
                _log.warning(
                    "the client differs from clients.yaml: keeping the database's value",
                    client=client_id,
                    deleted=known is None,
                )
        self.sown = True
