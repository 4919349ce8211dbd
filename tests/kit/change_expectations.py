"""What tests wait for and what they expect to be refused."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import pytest

from mesh.errors import MeshError, Reason


@contextmanager
def refused(kind: type[MeshError], reason: Reason, field: str | None = None) -> Iterator[None]:
    """The block is refused, for this reason and this field."""
    with pytest.raises(kind) as caught:
        yield
    assert caught.value.reason == reason
    if field is not None:
        assert [violation.field for violation in caught.value.violations] == [field]


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Waits until the condition holds, ten seconds at most."""
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.01)
