"""How much memory processes take."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path


def _pss_kib(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        # Gone, or another account's: counts for nothing.
        pass
    return 0


def _parents() -> dict[int, int]:
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    return parents


def _descendants(roots: Iterable[int], parents: dict[int, int]) -> Iterator[int]:
    for pid in parents:
        ancestor = pid
        while ancestor and ancestor not in roots:
            ancestor = parents.get(ancestor, 0)
        if ancestor:
            yield pid


def pss_mb(root: int | None = None) -> int | None:
    """Megabytes (PSS) of a process, ours by default, and of all that descend from it.

    A shared page is counted once among its users.

    None where the system doesn't tell: it is Linux's.
    """
    if not Path("/proc/self/smaps_rollup").exists():
        return None
    pids = set(_descendants({root or os.getpid()}, _parents()))
    return round(sum(_pss_kib(pid) for pid in pids) * 1024 / 1_000_000)
