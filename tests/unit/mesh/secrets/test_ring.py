"""Secrets that protect what is stored, and are rotated."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from mesh.secrets.ring import KeyRing
from mesh.secrets.source import FileSecret, SecretUnavailableError

OLD, NEW = b"o" * 32, b"n" * 32


def file_of(path: Path, content: bytes) -> FileSecret:
    path.write_bytes(content)
    path.chmod(0o600)
    return FileSecret(path)


async def test_whoever_follows_hears_of_each_change(tmp_path: Path) -> None:
    ring = KeyRing("peppers", [file_of(tmp_path / "one", OLD), file_of(tmp_path / "two", OLD)])
    heard: list[Sequence[bytes]] = []
    ring.follow(heard.append)
    await ring.step()
    await ring.step()
    file_of(tmp_path / "one", NEW)
    await ring.step()
    assert heard == [(), (OLD,), (NEW, OLD)]
    assert ring.secrets == (NEW, OLD)


async def test_what_was_read_before_stays(tmp_path: Path) -> None:
    ring = KeyRing("peppers", [file_of(tmp_path / "one", OLD)])
    await ring.step()
    for content, fault in ((b"n" * 31, "at least 32 random bytes"), (None, "No such file")):
        if content is None:
            (tmp_path / "one").unlink()
        else:
            (tmp_path / "one").write_bytes(content)
        with pytest.raises(SecretUnavailableError, match=fault):
            await ring.step()
        assert ring.secrets == (OLD,)


async def test_without_sources_there_are_none() -> None:
    ring = KeyRing("peppers", [])
    await ring.step()
    assert ring.secrets == ()
