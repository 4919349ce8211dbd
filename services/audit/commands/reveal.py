"""`authmesh audit reveal`.

Shows the personal data in lines of the trail to those who may read the keys, and `erased` where there is no key any
more.

The trail holds the data sealed, and the keys are in the databases of the services that wrote it
(`mesh.audit.subject_keys`): no service has those of another, so reading them is for the operator of the machine, or of
the pod of that service. Reveal what was verified: `audit verify` needs no keys.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack
from typing import Annotated

import typer
from authmesh.audit.v1.audit_event_pb2 import AuditEvent
from google.protobuf import json_format

from mesh.audit.personal import SealError, key_names, reveal
from mesh.audit.subject_keys import held
from mesh.errors import Unavailable
from mesh.operator import terminal
from mesh.operator.errors import OperatorError
from mesh.operator.target import Target
from mesh.storage.database import Database


class Keyrings:
    """The keys of each source, read from its database when the first event of it comes."""

    def __init__(self, stack: AsyncExitStack, target: Target) -> None:
        """Initializes the instance.

        Args:
            stack: Closes the databases.
            target: Has the databases.
        """
        self._stack = stack
        self._target = target
        self._databases: dict[str, Database] = {}

    async def keys(self, source: str, names: Iterable[str]) -> Mapping[str, bytes | None]:
        """What there is of keys.

        Raises:
            OperatorError: there is no way to the source's database from here.
            Unavailable: it is out of reach.
        """
        if source not in self._databases:
            opened = Database.open(self._target.database_url(source), size=1)
            self._databases[source] = await self._stack.enter_async_context(opened)
        return await held(self._databases[source], list(names))


async def reveal_lines(lines: Iterable[str], keyrings: Keyrings) -> AsyncIterator[str]:
    """Each line with its personal data opened, in the same order. A line without any stays as it is.

    Args:
        lines: Events in JSON, as S3 has them, or each as the member `event` of an object, as
            `authmesh audit tail --json` prints them.
        keyrings: The keys.

    Raises:
        OperatorError, Unavailable: keys are not to be had.
        SealError: a line's data was changed, or the line is not an event.
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


def command(
    database_urls: Annotated[
        list[str] | None,
        typer.Option(
            "--database-url",
            metavar="SOURCE=URL",
            help="postgresql://… of a source's database; may be given again. By default that of this pod, or those of "
            "the mesh that runs here.",
        ),
    ] = None,
) -> None:
    """Open the personal data in events, read from standard input as JSON lines.

    What was erased is shown as `erased`.
    """
    named = dict(pair.partition("=")[::2] for pair in database_urls or ())
    if not all(named.values()):
        terminal.fail("--database-url takes SOURCE=URL: auth=postgresql://…")

    async def work() -> None:
        async with AsyncExitStack() as stack:
            async for line in reveal_lines(sys.stdin, Keyrings(stack, Target(named))):
                terminal.line(line)

    try:
        asyncio.run(work())
    except (OperatorError, Unavailable, SealError) as error:
        terminal.fail(str(error))
