"""The relay is killed with SIGKILL at every line that it executes, one after the other, and afterwards nothing is lost,
changed or out of order."""

import asyncio
import random
import sys
from pathlib import Path

import pytest
from authmesh.audit.v1.audit_event_pb2 import AuditEvent

from mesh.audit import tombstone
from mesh.storage.database import Database
from tests.kit.chains import verifies

pytestmark = pytest.mark.slow

EVERY = 7
"""Lines between two deaths. Which ones changes with every run, so that in time it is all of them."""


async def test_a_relay_that_is_killed_at_any_line_resumes_exactly(
    outbox_url: str, database: Database, tmp_path: Path
) -> None:
    delivered, committed = tmp_path / "delivered", tmp_path / "committed"
    first = random.randint(1, EVERY)
    command = [
        sys.executable,
        "-m",
        "tests.kit.relay_under_fire",
        outbox_url,
        str(delivered),
        str(committed),
        str(first),
        str(EVERY),
    ]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    lines, status = map(int, output.split())
    assert (process.returncode, status) == (0, 0)
    assert lines > 100, first

    by_number: dict[int, set[bytes]] = {}
    for line in delivered.read_text().splitlines():
        payload = bytes.fromhex(line)
        by_number.setdefault(AuditEvent.FromString(payload).sequence, set()).add(payload)
    assert sorted(by_number) == list(range(1, len(by_number) + 1))
    assert all(len(payloads) == 1 for payloads in by_number.values()), "a number was given to two events"
    events = [AuditEvent.FromString(next(iter(by_number[number]))) for number in sorted(by_number)]
    assert verifies(events)
    names = {event.detail["amr"] for event in events if event.type != tombstone.PARKED}
    assert {f"{name}.{number}" for name in committed.read_text().split() for number in range(2)} <= names
    assert sum(event.type == tombstone.PARKED for event in events) == await database.fetchval(
        "SELECT count(*) FROM outbox_parked"
    )
