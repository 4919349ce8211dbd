"""Another process's view of revocations: prints when it refuses each.
`python -m tests.bench.follower feed|bare REDIS_URL EPOCH`."""

import sys
import time
from collections.abc import Iterable
from typing import Any

import uvloop
from redis.asyncio import Redis

from mesh.tokens.feed import RevocationFeed
from mesh.tokens.revocations import Revocation, RevocationSet
from tests.kit.snapshots import nothing_revoked

BARE_STREAM = "bench:bare"


class _Printing(RevocationSet):
    def add(self, revocations: Iterable[Revocation]) -> None:
        found = tuple(revocations)
        super().add(found)
        for revocation in found:
            print(revocation.value, time.monotonic(), flush=True)


async def feed(url: str, epoch: str) -> None:
    await RevocationFeed(url, lambda: nothing_revoked(epoch), _Printing()).run()


async def bare(url: str) -> None:
    async with Redis.from_url(url, socket_timeout=None) as redis:
        last: Any = "0-0"
        while True:
            found: Any = await redis.xread({BARE_STREAM: last}, block=5000)
            for _, entries in found:
                for entry_id, fields in entries:
                    print(fields[b"value"].decode(), time.monotonic(), flush=True)
                    last = entry_id


if __name__ == "__main__":
    uvloop.run(feed(sys.argv[2], sys.argv[3]) if sys.argv[1] == "feed" else bare(sys.argv[2]))
