"""Databases of earlier releases: they become what a new one is, keep their rows, and what was issued goes on.

`release_0_1_0` was made by that release's own migrations and its own sessions; `after_0_1_0` by the commits behind it,
when each service still had the mesh's tables in revisions of its own.
"""

from datetime import datetime
from pathlib import Path

import asyncpg
import pytest
from authmesh.audit.v1.audit_event_pb2 import AuditEvent

from mesh.errors import MeshError, Reason
from mesh.outbox.work import Work
from mesh.storage.database import Database
from mesh.storage.migrations import migrate
from tests.integration.mesh.conftest import NewUrl
from tests.integration.services.token.conftest import assemble
from tests.kit.chains import verifies
from tests.kit.outbox import Collector, is_empty, relaying, until

HERE = Path(__file__).parent
SERVICES = ("auth", "token", "user", "resource", "audit")
MOVED = {"alembic_version", "attempts", "changes"}
"""Tables whose rows a migration is to change: counted attempts are dropped, and changes of a resource are one."""

SCHEMA = """
SELECT 'column ' || concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default, is_identity)
FROM information_schema.columns WHERE table_schema = 'public'
UNION ALL SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT 'constraint ' || conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT 'table ' || relname || ' ' || coalesce(reloptions::text, '')
FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
UNION ALL SELECT 'revision ' || version_num FROM alembic_version
"""


async def restored(url: str, release: str, service: str) -> str:
    connection = await asyncpg.connect(url)
    await connection.execute((HERE / release / f"{service}.sql").read_text())
    await connection.close()
    return url


async def schema(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(SCHEMA)
    await connection.close()
    return {row[0] for row in rows}


async def counts(url: str) -> dict[str, int]:
    connection = await asyncpg.connect(url)
    tables = [row[0] for row in await connection.fetch("SELECT relname FROM pg_stat_user_tables")]
    found = {table: await connection.fetchval(f"SELECT count(*) FROM {table}") for table in tables}
    await connection.close()
    return found


@pytest.mark.parametrize("release", ["release_0_1_0", "after_0_1_0"])
@pytest.mark.parametrize("service", SERVICES)
async def test_an_old_database_becomes_what_a_new_one_is(
    empty_database_url: NewUrl, release: str, service: str
) -> None:
    old, new = await restored(await empty_database_url(), release, service), await empty_database_url()
    rows = await counts(old)
    assert await migrate(old, f"services.{service}") == await migrate(new, f"services.{service}")
    assert await schema(old) == await schema(new)
    kept = await counts(old)
    assert {table: kept.get(table) for table in rows if table not in MOVED} == {
        table: number for table, number in rows.items() if table not in MOVED
    }


def noted(service: str) -> dict[str, str]:
    """What the dump says of itself in its first lines."""
    lines = (HERE / "release_0_1_0" / f"{service}.sql").read_text().splitlines()
    return {name: value for line in lines if line.startswith("-- ") for name, value in [line[3:].split(" ", 1)]}


async def test_a_session_of_0_1_0_goes_on(empty_database_url: NewUrl) -> None:
    url, said = await restored(await empty_database_url(), "release_0_1_0", "token"), noted("token")
    await migrate(url, "services.token")
    async with Database.open(url) as database:
        token = await assemble(database)
        token.clock.now = datetime.fromisoformat(said["made_at"])
        # Within its grace the token that was spent is answered as it was.
        assert (await token.refresh(said["spent"])).refresh_token == said["refresh_token"]
        issued = await token.refresh(said["refresh_token"])
        assert token.claims(issued).session
        again = await token.refresh(issued.refresh_token)
        assert (token.claims(again).session, token.claims(again).subject) == (
            token.claims(issued).session,
            token.claims(issued).subject,
        )
        with pytest.raises(MeshError) as refused:
            await token.refresh(said["signed_out"])
        assert refused.value.reason == Reason.REFRESH_INVALID


@pytest.mark.parametrize("service", ["auth", "token", "user"])
async def test_the_chain_of_0_1_0_goes_on(empty_database_url: NewUrl, service: str) -> None:
    url = await restored(await empty_database_url(), "release_0_1_0", service)
    await migrate(url, f"services.{service}")
    async with Database.open(url) as database:
        work = Work(database, service)
        async with work.begin() as tx:
            tx.record(AuditEvent(type="auth.signed_in", subject="users/ada", address="192.0.2.1"))
        await database.execute("UPDATE outbox SET next_attempt_time = now()")
        sinks = [Collector(), Collector("message"), Collector("command")]
        async with relaying(work, *sinks):
            await until(lambda: is_empty(database))
        events = sorted(sinks[0].events, key=lambda event: event.sequence)
        assert verifies(events)
        assert events[-1].subject == "users/ada"
        assert len(sinks[1].taken) == (service == "auth")
        assert len(sinks[2].taken) == (service == "user")
