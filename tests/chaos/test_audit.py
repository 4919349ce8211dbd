"""Ten thousand changes under load while everything on the way of their events dies in turn: every one is in S3
afterwards, and the proof says so.

Whoever got an OK for a change must find its event. Service (with its relay), consumer, PostgreSQL and Valkey are killed
with SIGKILL. The AWS emulator is not: it keeps accepted messages in memory only, so SIGKILL would test its persistence,
which AWS doesn't share. It gets SIGTERM in the middle of the load (connections break, answers are lost, and it is away
for seconds), upon which it saves what it accepted.
"""

import asyncio
import gzip
import json
import os
import signal
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mesh.operator.state_dir import StateDir
from services.audit.proof.findings import Report
from services.audit.proof.statement import PinnedKey
from services.audit.proof.verification import verify
from services.audit.trail.archive import Bucket, read_all
from tests.e2e.conftest import Person, RunningMesh, eventually, running, sign_up

EVENTS = int(os.environ.get("CHAOS_EVENTS", "10000"))
CALLERS = 24
ROUND = (
    ("audit", signal.SIGKILL),
    ("aws", signal.SIGTERM),
    ("resource", signal.SIGKILL),
    ("postgres", signal.SIGKILL),
    ("valkey", signal.SIGKILL),
)
"""Who dies, one after the other, evenly over the load. Twice."""
DRAIN_SECONDS = 180

pytestmark = pytest.mark.slow


class Load:
    """Callers who create resources and remember which ones they were told exist."""

    def __init__(self, mesh: RunningMesh, persons: Sequence[Person]) -> None:
        self._client = mesh.clients["grpc"]
        # Each has a quota of resources.
        self._persons = persons
        self.created: set[str] = set()
        self.refused = 0
        self.deaths_to_come = True

    async def run(self) -> None:
        """Until there are enough, and everybody has died."""
        async with asyncio.TaskGroup() as group:
            for person in self._persons:
                group.create_task(self._create(person))

    async def _create(self, person: Person) -> None:
        while self.deaths_to_come or len(self.created) < EVENTS:
            answer = await self._client.call(
                "ResourceService/CreateResource", {"resource": {"displayName": "x"}}, person.token
            )
            if answer.status == "OK":
                self.created.add(answer.body["name"])
                continue
            # Never a lost token, whatever has died: an answer that is certain must be right.
            assert answer.status in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}, answer
            self.refused += 1
            await asyncio.sleep(0.1)


async def kill_in_turn(mesh: RunningMesh, load: Load) -> list[str]:
    """Kills each part at its time. Returns whom."""
    killed = []
    for number, (name, how) in enumerate(ROUND * 2, 1):
        while len(load.created) < EVENTS * number / (len(ROUND) * 2 + 1):
            await asyncio.sleep(0.02)
        pid = mesh.row(name)["pid"]
        os.kill(pid, how)
        killed.append(name)

        async def back(name: str = name, pid: int = pid) -> bool:
            row = mesh.row(name)
            return bool(row["health"] == "healthy" and row["pid"] != pid)

        await eventually(back, within=60)
    load.deaths_to_come = False
    return killed


@asynccontextmanager
async def bucket(mesh: RunningMesh) -> AsyncIterator[Bucket]:
    async with mesh.aws.client("s3") as s3:
        yield Bucket(s3, mesh.status["audit_bucket"])


async def stored(archive: Bucket) -> dict[tuple[str, int], set[str]]:
    """The events in S3 by source and number: their lines."""
    found: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
    keys = [key async for key in archive.keys("audit/")]
    async for _, body in read_all(archive, keys):
        for line in gzip.decompress(body or b"").splitlines():
            event = json.loads(line)
            found[event["source"], int(event["sequence"])].add(line.decode())
    return found


def missing(found: dict[tuple[str, int], set[str]], created: set[str]) -> set[str]:
    """Resources whose creation S3 doesn't tell of."""
    events = [json.loads(line) for lines in found.values() for line in lines]
    return created - {event.get("target", "") for event in events if event["type"] == "resource.created"}


async def test_every_event_is_stored_and_proven_whoever_dies(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("chaos") / "mesh"
    async with running(home) as mesh:
        load = Load(mesh, [await sign_up(mesh, mesh.clients["grpc"]) for _ in range(CALLERS)])
        started = asyncio.get_running_loop().time()
        _, killed = await asyncio.gather(load.run(), kill_in_turn(mesh, load))
        took = asyncio.get_running_loop().time() - started
        async with bucket(mesh) as archive:

            async def all_there() -> bool:
                await asyncio.sleep(1)
                return not missing(await stored(archive), load.created)

            await eventually(all_there, within=DRAIN_SECONDS)
            drained = asyncio.get_running_loop().time() - started - took
            report = await proven(archive, home)
            found = await stored(archive)
        assert not missing(found, load.created)
        assert [key for key, lines in found.items() if len(lines) != 1] == [], "one event in two forms"
        assert report.intact, report.findings
        assert sum(report.events.values()) == len(found) >= EVENTS
        for source, count in report.events.items():
            assert sorted(number for name, number in found if name == source) == list(range(1, count + 1))
        again = sum(report.events.values()) + report.repetitions
        print(
            f"\n{len(load.created)} changes in {took:.0f} s ({load.refused} refused and repeated), "
            f"drained {drained:.0f} s later; killed {killed}"
        )
        print(
            f"{len(found)} events in {report.objects} objects, {again - len(found)} of them stored "
            f"twice; {report.checkpoints} checkpoints; intact"
        )


async def proven(archive: Bucket, home: Path) -> Report:
    """The verification, as soon as a checkpoint vouches for everything."""
    key = PinnedKey(StateDir(home).audit_key.read_bytes())

    async def signed_for() -> Report | None:
        report = await verify(archive, key)
        return report if not report.pending and not any(report.unsigned.values()) else None

    report: Report = await eventually(signed_for, within=DRAIN_SECONDS)
    return report
