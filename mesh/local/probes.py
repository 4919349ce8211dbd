"""Short questions to processes: does it answer? A probe answers False, it never raises."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

TIMEOUT = 2.0
"""Seconds to wait for an answer."""


@asynccontextmanager
async def _connected(
    target: Path | tuple[str, int],
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await (
        asyncio.open_unix_connection(target) if isinstance(target, Path) else asyncio.open_connection(*target)
    )
    try:
        yield reader, writer
    finally:
        writer.close()


async def _answers(ask: Callable[[], Awaitable[bool]]) -> bool:
    try:
        async with asyncio.timeout(TIMEOUT):
            return await ask()
    except (OSError, EOFError, ValueError):
        return False


def _chunks(body: bytes) -> Iterator[bytes]:
    """The pieces of a chunked body (RFC 9112, 7.1)."""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size.partition(b";")[0], 16)
        yield rest[:length]
        body = rest[length + 2 :] if length else b""


async def http_get(target: Path | tuple[str, int], path: str) -> tuple[int, bytes] | None:
    """Status and body of a plain HTTP GET to a unix socket or a (host, port); None when there is no answer."""
    answer: list[tuple[int, bytes]] = []

    async def ask() -> bool:
        async with _connected(target) as (reader, writer):
            # Envoy answers HTTP/1.0 with 426.
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            chunked = b"transfer-encoding: chunked" in head.lower()
            answer.append((int(head.split(maxsplit=2)[1]), b"".join(_chunks(body)) if chunked else body))
            return True

    return answer[0] if await _answers(ask) and answer else None


async def http_ok(target: Path | tuple[str, int], path: str) -> bool:
    """Whether a plain HTTP GET is answered with 200."""
    answer = await http_get(target, path)
    return answer is not None and answer[0] == 200


async def valkey_pong(socket: Path, password: str) -> bool:
    """Whether Valkey takes the password and answers PING."""

    async def ask() -> bool:
        async with _connected(socket) as (reader, writer):
            writer.write(f"AUTH {password}\r\nPING\r\n".encode())
            return (await reader.readline(), await reader.readline()) == (b"+OK\r\n", b"+PONG\r\n")

    return await _answers(ask)
