"""A sweep reads what it deletes, however much stays."""

import json

import pytest

from services.auth.store import SWEEP, SWEPT
from tests.integration.services.auth.conftest import Auth
from tests.kit.plans import most_rows, plan

pytestmark = pytest.mark.slow

ROWS = 20_000
FILLED = (
    """
    INSERT INTO accounts (user_id, email, password_hash, create_time)
    SELECT uuidv7(), number || '@example.com', '', now() FROM generate_series(1, $1::int) AS number
    """,
    """
    INSERT INTO sign_ups (user_id, email, display_name, password_hash, create_time)
    SELECT user_id, email, '', '', now() + (1 + random()) * interval '1 hour' FROM accounts LIMIT $1
    """,
    """
    INSERT INTO codes (email, digest, rest, user_id, expire_time)
    SELECT email, '', '', user_id, now() + (1 + random()) * interval '1 hour' FROM sign_ups LIMIT $1
    """,
    """
    INSERT INTO reset_codes (user_id, digest, expire_time)
    SELECT user_id, '', now() + (1 + random()) * interval '1 hour' FROM accounts LIMIT $1
    """,
    """
    INSERT INTO challenges (digest, user_id, client_id, device, scopes, installation_known, expire_time)
    SELECT decode(md5(user_id::text), 'hex'), user_id, '', '', '{}', false, now() + (1 + random()) * interval '1 hour'
    FROM accounts LIMIT $1
    """,
    """
    INSERT INTO provider_demands (digest, sealed, expire_time)
    SELECT decode(md5(user_id::text), 'hex'), '', now() + (1 + random()) * interval '1 hour' FROM accounts LIMIT $1
    """,
    """
    INSERT INTO spent SELECT decode(md5(user_id::text), 'hex'), now() + (1 + random()) * interval '1 hour'
    FROM accounts LIMIT $1
    """,
    """
    INSERT INTO buckets SELECT decode(md5(user_id::text), 'hex'), now() + (1 + random()) * interval '1 hour'
    FROM accounts LIMIT $1
    """,
    """
    INSERT INTO familiar_sources (key, user_id, last_time)
    SELECT decode(md5(user_id::text), 'hex'), user_id, now() + (1 + random()) * interval '1 hour'
    FROM accounts LIMIT $1
    """,
)


@pytest.mark.parametrize("table", SWEPT)
async def test_a_sweep_reads_the_rows_that_it_deletes_and_no_others(auth: Auth, table: str) -> None:
    database, age = auth.database, SWEPT[table]
    for statement in FILLED:
        await database.execute(statement, ROWS)
    await database.execute("ANALYZE")
    for expired in (0, 100):
        await database.execute(
            f"UPDATE {table} SET {age} = now() - interval '1 day' "
            f"WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} LIMIT {expired}))"
        )
        async with database.transaction() as tx:
            found = await plan(tx, SWEEP.format(table=table, age=age), "timestamptz, integer", "(now(), 1000)")
        assert most_rows(found) == expired, json.dumps(found)
