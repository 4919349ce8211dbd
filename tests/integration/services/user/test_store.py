"""A few users are found among many without reading the many."""

import json

import pytest

from mesh.storage.database import Database
from services.user.store import HOLDERS, LOCK_ADMINISTRATORS, Users
from tests.conftest import OpenDatabase
from tests.kit.plans import most_rows, plan

FILLED = """
    INSERT INTO users (id, email, display_name, roles, create_time, update_time)
    SELECT uuidv7(), number || '@example.com', '', CASE WHEN number = 7 THEN '{admin}'::text[] ELSE '{}' END,
        now(), now()
    FROM generate_series(1, 20000) AS number
"""


@pytest.fixture
async def database(open_database: OpenDatabase) -> Database:
    opened = await open_database("services.user")
    await opened.execute(FILLED)
    await opened.execute("ANALYZE")
    return opened


@pytest.mark.parametrize("statement", [HOLDERS, LOCK_ADMINISTRATORS])
async def test_those_with_a_role_are_found_by_an_index(database: Database, statement: str) -> None:
    async with database.transaction() as tx:
        found = await plan(tx, statement)
    assert most_rows(found) == 1, json.dumps(found)


async def test_an_address_is_found_in_a_list_of_many(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        before = await _read(tx)
        (found,) = await Users().page(tx, after=None, email="19999@example.com", size=50)
        assert found.email == "19999@example.com"
        assert await _read(tx) - before <= 1


async def _read(tx: object) -> int:
    """Rows of the table that were read one after the other, in this transaction."""
    rows = await tx.fetchval(  # type: ignore[attr-defined]
        "SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables "
        "WHERE relname = 'users'"
    )
    return int(rows)
