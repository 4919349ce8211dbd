"""Whoever has the keys sees the personal data, and `erased` where it was."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from authmesh.audit.v1.audit_event_pb2 import AuditEvent
from google.protobuf import json_format

from mesh.audit import subject_keys
from mesh.audit.personal import SealError
from mesh.operator.errors import OperatorError
from mesh.operator.target import Target
from mesh.outbox.sinks.numbering import number_events
from mesh.outbox.work import Work
from mesh.storage.database import Database
from services.audit.commands.reveal import Keyrings, reveal_lines


async def lines(database: Database) -> list[str]:
    """Events as S3 has them."""
    async with Work(database, "auth").begin() as tx:
        for subject in ("users/ada", "users/bob"):
            tx.record(AuditEvent(type="auth.signed_in", subject=subject, email=f"{subject[6:]}@example.org"))
        tx.record(AuditEvent(type="auth.status_changed", subject="users/ada"))
    await number_events(database, "auth")
    rows = await database.fetch("SELECT payload FROM outbox ORDER BY sequence")
    return [json_format.MessageToJson(AuditEvent.FromString(row["payload"]), indent=None) for row in rows]


async def revealed(given: list[str], url: str) -> list[dict[str, str]]:
    async with AsyncExitStack() as stack:
        return [
            json.loads(line)
            async for line in reveal_lines(given, Keyrings(stack, Target({"auth": url}, {"AUTHMESH_HOME": "/absent"})))
        ]


@pytest.fixture
async def url(new_database_url: Callable[[str], Awaitable[str]]) -> str:
    return await new_database_url("services.auth")


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    async with Database.open(url) as opened:
        yield opened


async def test_personal_data_is_shown_until_it_is_erased(url: str, database: Database) -> None:
    sealed = await lines(database)
    assert not any("example.org" in line for line in sealed)
    shown = await revealed(sealed, url)
    assert [event.get("email") for event in shown] == ["ada@example.org", "bob@example.org", None]
    assert not any("sealed" in event for event in shown)
    tailed = json.dumps({"event": json.loads(sealed[0]), "resumeToken": "here"})
    assert await revealed([tailed], url) == [{"event": shown[0], "resumeToken": "here"}]
    async with database.transaction() as tx:
        await subject_keys.erase(tx, "users/ada")
    assert [event.get("email") for event in await revealed(sealed, url)] == ["erased", "bob@example.org", None]
    with pytest.raises(OperatorError):
        await revealed([sealed[0].replace('"auth"', '"user"')], url)
    with pytest.raises(SealError):
        await revealed([sealed[1].replace('"sequence": "2"', '"sequence": "1"')], url)
    with pytest.raises(SealError):
        await revealed(["no event"], url)
    with pytest.raises(SealError):
        await revealed(["[]"], url)
