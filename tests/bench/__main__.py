"""Runs the measures and writes `bench/*.md`."""

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from tests.bench import audit, login, revocation, rpc, token, tracing, verify
from tests.bench.report import FOLDER, Table

MEASURES: dict[str, Callable[[float, int], Awaitable[Table]]] = {
    "verify": verify.measure,
    "rpc": rpc.measure,
    "tracing": tracing.measure,
    "token": token.measure,
    "login": login.measure,
    "revocation": revocation.measure,
    "audit": audit.measure,
}


async def main(names: list[str], folder: Path, seconds: float, rounds: int) -> None:
    for name in names:
        started = time.monotonic()
        print((await MEASURES[name](seconds, rounds)).write(folder, seconds))
        print(f"({name}: {time.monotonic() - started:.0f} s)\n", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description="Measures on this machine. Tables go to bench/."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which: {', '.join(MEASURES)}; all of them by default"
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a round (default 4)")
    parser.add_argument(
        "--rounds",
        type=int,
        default=5,
        help="how often each is measured, in turn with what it is compared with (default 5)",
    )
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the tables go (default bench/)")
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - MEASURES.keys():
        parser.error(f"no such measure: {', '.join(sorted(unknown))}")
    if not Path("/proc/self/stat").exists():
        sys.exit("python -m tests.bench: CPU times come from /proc, so this runs on Linux only")
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    # Not uvloop: it starts no process as another user, which PostgreSQL needs where this runs as root.
    asyncio.run(main(chosen.names or list(MEASURES), chosen.folder, chosen.seconds, chosen.rounds))
