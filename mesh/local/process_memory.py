"""How much memory processes take."""

import contextlib

import psutil


def pss_mb(root: int | None = None) -> int | None:
    """Megabytes (PSS) of a process, ours by default, and of all that descend from it.

    A shared page is counted once among its users.

    None where the system doesn't tell: PSS is Linux's.
    """
    if not psutil.LINUX:
        return None
    total = 0
    # A process that is gone, or another account's, counts for nothing.
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(root)
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += one.memory_full_info().pss
    return round(total / 1_000_000)
