"""Where the trail lies: the bucket, or a copy of it on disk (`aws s3 sync`). Reading only."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

READS_AHEAD = 16
"""Objects that are fetched while one is looked at."""


class Archive(Protocol):
    """Objects by key."""

    def keys(self, prefix: str, after: str = "") -> AsyncIterator[str]:
        """Keys that begin with `prefix` and sort behind `after`, in order."""

    async def folders(self, prefix: str) -> list[str]:
        """What follows `prefix` up to the next slash, of all keys: `source=auth/`."""

    async def read(self, key: str) -> bytes | None:
        """An object; None when there is none."""


class Bucket:
    """The bucket itself."""

    def __init__(self, s3: "S3Client", bucket: str) -> None:
        self._s3 = s3
        self._bucket = bucket

    async def keys(self, prefix: str, after: str = "") -> AsyncIterator[str]:
        """See `Archive`."""
        async for page in self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=prefix, StartAfter=after
        ):
            for item in page.get("Contents", []):
                yield item["Key"]

    async def folders(self, prefix: str) -> list[str]:
        """See `Archive`."""
        found = []
        async for page in self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=prefix, Delimiter="/"
        ):
            found += [item["Prefix"].removeprefix(prefix) for item in page.get("CommonPrefixes", [])]
        return found

    async def read(self, key: str) -> bytes | None:
        """See `Archive`."""
        try:
            answer = await self._s3.get_object(Bucket=self._bucket, Key=key)
            return await answer["Body"].read()
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in {"NoSuchKey", "404"}:
                return None
            raise


class LocalArchive:
    """A copy on disk, with the bucket's keys as paths."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def keys(self, prefix: str, after: str = "") -> AsyncIterator[str]:
        """See `Archive`."""
        folder = self._path / prefix.rpartition("/")[0]
        found = sorted(str(file.relative_to(self._path).as_posix()) for file in folder.rglob("*") if file.is_file())
        for key in found:
            if key.startswith(prefix) and key > after:
                yield key

    async def folders(self, prefix: str) -> list[str]:
        """See `Archive`."""
        folder = self._path / prefix
        return sorted(f"{item.name}/" for item in folder.iterdir() if item.is_dir()) if folder.is_dir() else []

    async def read(self, key: str) -> bytes | None:
        """See `Archive`."""
        try:
            return (self._path / key).read_bytes()
        except FileNotFoundError:
            return None


async def read_all(archive: Archive, keys: Iterable[str]) -> AsyncIterator[tuple[str, bytes | None]]:
    """Objects in the order of `keys`, some of them fetched ahead."""
    ahead: deque[tuple[str, asyncio.Task[bytes | None]]] = deque()
    try:
        for key in keys:
            ahead.append((key, asyncio.ensure_future(archive.read(key))))
            if len(ahead) >= READS_AHEAD:
                first, task = ahead.popleft()
                yield first, await task
        while ahead:
            first, task = ahead.popleft()
            yield first, await task
    finally:
        for _, task in ahead:
            task.cancel()
