"""What a call makes a service do, counted: rows written and read, bytes, messages, CPU. For holding declared costs to
it."""

import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from mesh.contract import Contract
from mesh.errors import MeshError
from mesh.storage.database import Database

SLOWER = 5
"""How much slower than the machine on which the costs were written down another one may be."""
CLIENT_MILLISECONDS = 3
"""What the client in the same process may take of a call, beside."""

_INSTALL = """
CREATE TABLE metered (relation name NOT NULL, operation text NOT NULL, rows bigint NOT NULL);
CREATE FUNCTION metered() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO metered SELECT TG_TABLE_NAME, TG_OP, count(*) FROM rows;
    RETURN NULL;
END $$;
DO $$
DECLARE relation name;
BEGIN
    FOR relation IN SELECT relname FROM pg_stat_user_tables WHERE relname <> 'metered' LOOP
        EXECUTE format('CREATE TRIGGER metered_i AFTER INSERT ON %I '
                       'REFERENCING NEW TABLE AS rows EXECUTE FUNCTION metered()', relation);
        EXECUTE format('CREATE TRIGGER metered_u AFTER UPDATE ON %I '
                       'REFERENCING NEW TABLE AS rows EXECUTE FUNCTION metered()', relation);
        EXECUTE format('CREATE TRIGGER metered_d AFTER DELETE ON %I '
                       'REFERENCING OLD TABLE AS rows EXECUTE FUNCTION metered()', relation);
    END LOOP;
END $$;
"""
_READ = """
SELECT (SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)) FROM pg_stat_user_tables
    WHERE relname <> 'metered')
    + (SELECT coalesce(sum(idx_tup_read), 0) FROM pg_stat_user_indexes)
"""


@dataclass(frozen=True)
class Measured:
    """The most of several calls."""

    rows_written: int
    rows_read: int
    bytes: int
    milliseconds: float
    messages: int


class Meter:
    """Counts what calls do to one database. It has one connection, whose statistics are told at once."""

    def __init__(self, database: Database, admin: "asyncpg.Connection[Any]", backend: int) -> None:
        self._database = database
        self._admin = admin
        self._backend = backend
        self.asked = 0
        """Questions to other services, for stand-ins to count up."""

    async def measure(self, calls: list[Callable[[], Awaitable[Any]]]) -> Measured:
        """Makes each call once, one after the other. A refusal is an answer, too."""
        found, seconds = [], []
        ticks = self._ticks()
        for call in calls:
            await self._admin.execute("TRUNCATE metered")
            read, asked = await self._rows_read(), self.asked
            began = time.process_time()
            try:
                answer = await call()
            except MeshError:
                answer = None
            seconds.append(time.process_time() - began)
            written = await self._admin.fetchval("SELECT coalesce(sum(rows), 0)::bigint FROM metered")
            sent = await self._admin.fetchval(
                "SELECT coalesce(sum(rows), 0)::bigint FROM metered WHERE relation = 'outbox' AND operation = 'INSERT'"
            )
            size = answer.ByteSize() if answer is not None else 0
            found.append((written, await self._rows_read() - read, size, sent + self.asked - asked))
        of_database = (self._ticks() - ticks) / os.sysconf("SC_CLK_TCK") / len(calls)
        written, read, size, messages = (max(column) for column in zip(*found, strict=True))
        # The median: now and then a call pays for the garbage of all.
        return Measured(written, read, size, (statistics.median(seconds) + of_database) * 1000, messages)

    async def _rows_read(self) -> int:
        await self._database.fetchval("SELECT pg_stat_force_next_flush()")
        return int(await self._admin.fetchval(_READ))

    def _ticks(self) -> int:
        """CPU time of the server's process that serves the connection."""
        fields = Path(f"/proc/{self._backend}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])


@asynccontextmanager
async def metered(url: str) -> AsyncIterator[tuple[Database, Meter]]:
    """Opens a database whose writes are counted."""
    admin = await asyncpg.connect(url)
    try:
        await admin.execute(_INSTALL)
        # Tables of tests are small, and a planner would read all of them where it must not in earnest.
        await admin.execute(
            f"ALTER DATABASE {await admin.fetchval('SELECT quote_ident(current_database())')} SET enable_seqscan = off"
        )
        # Nor may statistics come in the middle, on a slow machine: two people are no sample.
        for row in await admin.fetch(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        ):
            await admin.execute(f'ALTER TABLE "{row["relname"]}" SET (autovacuum_enabled = off)')
        async with Database.open(url, size=1) as database:
            yield database, Meter(database, admin, await database.fetchval("SELECT pg_backend_pid()"))
    finally:
        await admin.close()


def hold_to_contract(service: str, measured: Mapping[str, Measured]) -> None:
    """Holds what was measured to what the contract declares: no call costs more, and none far less.

    Args:
        service: Full name of the proto service.
        measured: Of each method with a token that it serves and that answers once.
    """
    declared = {rpc.name: rpc.cost for rpc in Contract.load().services[service]}
    wrong = []
    for name, found in measured.items():
        cost = declared[name]
        milliseconds = cost.cpu.ToTimedelta().total_seconds() * 1000
        for what, most, did in (
            ("rows written", cost.rows_written, found.rows_written),
            ("rows read", cost.rows_read, found.rows_read),
            ("bytes", cost.bytes, found.bytes),
            ("messages", cost.messages, found.messages),
        ):
            if not did <= most <= 3 * did + 20:
                wrong.append(f"{name}: {most} {what} declared, {did} measured")
        if found.milliseconds > SLOWER * milliseconds + CLIENT_MILLISECONDS:
            wrong.append(f"{name}: {milliseconds:g} ms declared, {found.milliseconds:.1f} ms measured")
    assert not wrong, "\n".join(wrong)
