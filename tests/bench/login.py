"""Sign-ins through the whole mesh, against what Argon2 lets this machine do; and refreshes while it is busy with them.

One after the other in each round: nothing but hashes, nothing but refreshes, and both at once.
"""

import asyncio
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher, Type

from services.auth.settings import AuthSettings
from tests.bench.load import Call
from tests.bench.report import Samples, Table, cpu_seconds, percentile
from tests.e2e.conftest import Person, RunningMesh, running, sign_in_again, sign_up

PEOPLE = 200
"""So many that no one has too many sessions."""
AT_ONCE = 16
REFRESHERS = 4
PAUSE_SECONDS = 0.04
"""Between two refreshes of a client: they are few, and it is their time that is looked at."""


@dataclass
class _Round:
    hashes: float = 0
    logins: float = 0
    auth_seconds: float = 0
    """CPU time of the Auth process, a sign-in."""
    quiet: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)


async def measure(seconds: float, rounds: int) -> Table:
    """Hashes, sign-ins and refreshes of each round."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        async with running(Path(folder) / "mesh", LOG_LEVEL="warning", TRACE_PERCENT="1") as mesh:
            found = await _rounds(mesh, seconds, rounds)
    quiet = [1000 * percentile(one.quiet, 0.99) for one in found]
    busy = [1000 * percentile(one.busy, 0.99) for one in found]
    rows: list[tuple[object, ...]] = [
        ("Argon2 alone, a second", Samples([one.hashes for one in found])),
        ("sign-ins, a second", Samples([one.logins for one in found])),
        ("sign-ins, part of Argon2", Samples([one.logins / one.hashes for one in found])),
        ("CPU of the Auth process a sign-in, ms", Samples([1000 * one.auth_seconds for one in found])),
        ("Argon2's part of that CPU", Samples([_threads() / one.hashes / one.auth_seconds for one in found])),
        ("refresh alone, p50 ms", Samples([1000 * percentile(one.quiet, 0.5) for one in found])),
        ("refresh alone, p99 ms", Samples(quiet)),
        ("refresh beside sign-ins, p50 ms", Samples([1000 * percentile(one.busy, 0.5) for one in found])),
        ("refresh beside sign-ins, p99 ms", Samples(busy)),
        ("refresh p99, beside as a multiple of alone", Samples([b / q for b, q in zip(busy, quiet, strict=True)])),
    ]
    return Table("login", "Sign-ins against the limit of Argon2", ("", "found"), rows, (
        (f"The whole local mesh, through the edge in gRPC: {AT_ONCE} sign-ins at once, of {PEOPLE} people with right "
        f"passwords. The client is on the same cores."),
        ("Argon2 alone: the default parameters in as many threads as there are cores, in this process, while "
        "nothing else is asked."),
        ("Everything shares these cores: five services, eleven Envoys and databases, the AWS emulator and the "
        "client. Argon2's part of the Auth process is what a node reaches that has its cores for itself."),
        f"Refreshes: {REFRESHERS} clients with a pause of {1000 * PAUSE_SECONDS:.0f} ms between two.",
    ))  # fmt: skip


async def _rounds(mesh: RunningMesh, seconds: float, rounds: int) -> list[_Round]:
    client = mesh.clients["grpc"]
    people = [await sign_up(mesh, client, sign_in=False) for _ in range(PEOPLE)]
    refreshers = [await sign_up(mesh, client) for _ in range(REFRESHERS)]
    waiting = iter(people * 1_000_000)

    async def login() -> None:
        await sign_in_again(client, next(waiting))

    await _repeat([login] * AT_ONCE, seconds / 2)
    found = []
    for _ in range(rounds):
        one = _Round(hashes=await _hashes(seconds))
        one.quiet = await _refreshes(mesh, refreshers, seconds)
        auth = mesh.row("auth")["pid"]
        before = cpu_seconds(auth)
        (calls, spent), one.busy = await asyncio.gather(
            _repeat([login] * AT_ONCE, seconds), _refreshes(mesh, refreshers, seconds)
        )
        one.logins, one.auth_seconds = calls / spent, (cpu_seconds(auth) - before) / calls
        found.append(one)
    return found


def _threads() -> int:
    return os.cpu_count() or 1


async def _hashes(seconds: float) -> float:
    """Hashes a second, with as many threads as there are cores."""
    fields: Any = AuthSettings.model_fields
    argon2 = PasswordHasher(
        time_cost=fields["argon2_time_cost"].default,
        memory_cost=fields["argon2_memory_kib"].default,
        parallelism=fields["argon2_lanes"].default,
        type=Type.ID,
    )
    stored = argon2.hash("correct horse")
    end = time.perf_counter() + seconds

    def verify() -> int:
        count = 0
        while time.perf_counter() < end:
            argon2.verify(stored, "correct horse")
            count += 1
        return count

    threads = _threads()
    with ThreadPoolExecutor(threads) as pool:
        loop, started = asyncio.get_running_loop(), time.perf_counter()
        counts = await asyncio.gather(*(loop.run_in_executor(pool, verify) for _ in range(threads)))
        return sum(counts) / (time.perf_counter() - started)


async def _refreshes(mesh: RunningMesh, people: list[Person], seconds: float) -> list[float]:
    """What each took, in seconds."""
    client, taken = mesh.clients["grpc"], list[float]()
    end = time.perf_counter() + seconds

    async def refresh(person: Person) -> None:
        while (started := time.perf_counter()) < end:
            person.tokens = await client.ok("TokenService/RefreshToken", person.refresh)
            taken.append(time.perf_counter() - started)
            await asyncio.sleep(PAUSE_SECONDS)

    await asyncio.gather(*(refresh(person) for person in people))
    return taken


async def _repeat(calls: list[Call], seconds: float) -> tuple[int, float]:
    """How many there were, in how many seconds."""
    count, started = 0, time.perf_counter()

    async def repeat(call: Call) -> None:
        nonlocal count
        while time.perf_counter() - started < seconds:
            await call()
            count += 1

    await asyncio.gather(*map(repeat, calls))
    return count, time.perf_counter() - started
