"""Purging reads what it deletes, however much stays."""

import json

import pytest

from mesh.storage.database import Database
from services.token.retention import STATEMENTS
from tests.conftest import OpenDatabase
from tests.kit.plans import most_rows, plan

pytestmark = pytest.mark.slow

ROWS = 20_000
FILLED = (
    """
    INSERT INTO subjects (id) SELECT uuidv7() FROM generate_series(1, $1)
    """,
    """
    INSERT INTO sessions (id, subject, client_id, display_name, platform, scopes, roles, not_before, auth_time, amr,
        address, user_agent, create_time, last_used_time, refresh_expire_time, expire_time)
    SELECT uuidv7(), id, 'demo', '', '', '{}', '{}', now(), now(), '{}', '', '', now(), now(), now(),
        now() + interval '15 days'
    FROM subjects LIMIT $1
    """,
    """
    INSERT INTO refresh_tokens (hash, session_id, token_id, issue_time, access_expire_time, expire_time, scopes, roles)
    SELECT decode(md5(number || ''), 'hex'), uuidv7(), uuidv7(), now(), now(),
        now() + (1 + random()) * interval '15 days', '{}', '{}'
    FROM generate_series(1, $1) AS number
    """,
    """
    INSERT INTO revocations (sequence, kind, value, not_before, expire_time)
    SELECT number, 2, number, 0, extract(epoch FROM now())::bigint + 3600 FROM generate_series(1, $1) AS number
    """,
    "INSERT INTO commands (request_id) SELECT uuidv7() FROM generate_series(1, $1)",
    """
    INSERT INTO client_assertions SELECT 'backend', number, now() + interval '1 minute'
    FROM generate_series(1, $1) AS number
    """,
)


@pytest.fixture
async def database(open_database: OpenDatabase) -> Database:
    database = await open_database("services.token")
    for statement in FILLED:
        await database.execute(statement, ROWS)
    await database.execute("UPDATE revocation_log SET sequence = $1", ROWS)
    await database.execute("ANALYZE")
    return database


@pytest.mark.parametrize("number", range(len(STATEMENTS)))
async def test_a_purge_that_finds_nothing_reads_nothing(database: Database, number: int) -> None:
    async with database.transaction() as tx:
        found = await plan(tx, STATEMENTS[number], "timestamptz, integer", "(now(), 1000)")
    assert most_rows(found) <= 1, json.dumps(found)


@pytest.mark.parametrize("number", range(len(STATEMENTS)))
async def test_a_purge_that_finds_a_few_reads_those(database: Database, number: int) -> None:
    for table, column, past in (
        ("sessions", "expire_time", "now() - interval '1 day'"),
        ("refresh_tokens", "expire_time", "now() - interval '1 day'"),
        ("revocations", "expire_time", "extract(epoch FROM now())::bigint - 100"),
        ("commands", "create_time", "now() - interval '31 days'"),
        ("client_assertions", "expire_time", "now() - interval '1 day'"),
    ):
        await database.execute(
            f"UPDATE {table} SET {column} = {past} WHERE ctid IN (SELECT ctid FROM {table} LIMIT 100)"
        )
    async with database.transaction() as tx:
        found = await plan(tx, STATEMENTS[number], "timestamptz, integer", "(now(), 1000)")
    assert most_rows(found) == 100, json.dumps(found)
