"""`authmesh audit reveal`: shows the personal data in lines of the trail to those who may read the keys, and `erased`
where there is no key any more.

The trail holds the data sealed, and the keys are in the databases of the services that wrote it
(`mesh.audit.subject_keys`): no service has those of another, so reading them is for the operator of the machine, or of
the pod of that service. Reveal what was verified: `audit verify` needs no keys.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack
from typing import NoReturn

import typer
from authmesh.audit.v1.audit_event_pb2 import AuditEvent
from google.protobuf import json_format

from mesh.audit.personal import SealError, key_names, reveal
from mesh.audit.subject_keys import held
from mesh.errors import Unavailable
from mesh.local.databases import running_url
from mesh.local.errors import LocalMeshError
from mesh.operator import terminal
from mesh.storage.database import Database


class Keyrings:
    """The keys of each source, read from its database when the first event of it comes."""

    def __init__(self, stack: AsyncExitStack, environment: Mapping[str, str]) -> None:
        """Args:
        stack: Closes the databases.
        environment: Names this pod's database (`NODE`, `DATABASE_URL`), or the local mesh.
        """
        self._stack = stack
        self._environment = environment
        self._databases: dict[str, Database] = {}

    async def keys(self, source: str, names: Iterable[str]) -> Mapping[str, bytes | None]:
        """What there is of keys.

        Raises:
            LocalMeshError: there is no way to the source's database from here.
            Unavailable: it is out of reach.
        """
        if source not in self._databases:
            self._databases[source] = await self._stack.enter_async_context(Database.open(self._url(source), size=1))
        return await held(self._databases[source], list(names))

    def _url(self, source: str) -> str:
        if self._environment.get("NODE") == source and (url := self._environment.get("DATABASE_URL")):
            return url
        return running_url(source, self._environment)


async def reveal_lines(lines: Iterable[str], keyrings: Keyrings) -> AsyncIterator[str]:
    """Each line with its personal data opened, in the same order. A line without any stays as it is.

    Args:
        lines: Events in JSON, as S3 has them, or each as the member `event` of an object, as
            `authmesh audit tail --json` prints them.
        keyrings: The keys.

    Raises:
        LocalMeshError, Unavailable: keys are not to be had.
        SealError: a line's data was changed, or the line is no event.
    """
    for line in lines:
        try:
            document = json.loads(line)
            inner = document["event"] if isinstance(document.get("event"), dict) else document
            event = json_format.ParseDict(inner, AuditEvent(), ignore_unknown_fields=True)
        except (ValueError, AttributeError, json_format.Error):
            raise SealError("not a line of the audit trail: give one event in JSON a line") from None
        if not event.sealed:
            yield line.rstrip("\n")
            continue
        shown = reveal(event, await keyrings.keys(event.source, key_names(event)))
        # Members that this release does not know stay.
        opened = {name: value for name, value in inner.items() if name != "sealed"} | json_format.MessageToDict(shown)
        yield json.dumps(opened if inner is document else document | {"event": opened})


def command() -> None:
    """Open the personal data in events, read from standard input as JSON lines. What was erased is shown as
    `erased`.
    """

    async def work() -> None:
        async with AsyncExitStack() as stack:
            async for line in reveal_lines(sys.stdin, Keyrings(stack, os.environ)):
                terminal.line(line)

    try:
        asyncio.run(work())
    except (LocalMeshError, Unavailable, SealError) as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    terminal.lines(f"authmesh: {message}", error=True)
    raise typer.Exit(1)
