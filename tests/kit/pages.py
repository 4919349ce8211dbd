"""README and docs/ as a reader uses them: listings that are compiled, and commands that are pasted into a shell."""

import asyncio
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Self

PROJECT = Path(__file__).parents[2]
PAGES = sorted(
    str(path.relative_to(PROJECT))
    for path in (PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *PROJECT.glob("docs/**/*.md"))
)
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[tuple[str, str]]:
    """The fenced blocks of a page: their language and their text."""
    return [(found[1], found[2]) for found in _FENCE.finditer((PROJECT / page).read_text())]


def commands(page: str) -> list[str]:
    """What a page tells its reader to type, in its order: of `console` blocks the lines behind `$`, each with its
    continuation."""
    found = []
    for language, text in blocks(page):
        if language == "console":
            found += re.findall(r"^\$ ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    return found


def write_listing(page: str, folder: Path, file: str) -> str:
    """Writes the listing of a page that begins with a file's name into a folder, under that name, and gives its text.

    Raises:
        AssertionError: the page has none.
    """
    mark = re.compile(rf"(?:#|//) {re.escape(file)}\n")
    text = next((text for _, text in blocks(page) if mark.match(text)), None)
    assert text is not None, f"{page} has no listing {file}"
    (folder / file).write_text(text)
    return text


async def run(folder: Path, *command: str | Path, **environment: str) -> str:
    """Runs a command and gives its output.

    Raises:
        AssertionError: it failed; with all that it printed.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, f"{command}: {output}"
    return output


async def npm_install(folder: Path, *packages: str) -> Path:
    """Installs packages into a folder's own `node_modules`, and gives the folder of their commands."""
    (folder / "package.json").write_text('{"type": "module"}')
    await run(folder, "npm", "install", "--silent", "--no-fund", "--no-audit", *packages)
    return folder / "node_modules" / ".bin"


class Shell:
    """A shell that a reader has open: what one command sets, the next one has."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        """Args:
        folder: Where the reader is.
        environment: The only variables that there are.
        """
        self._folder = folder
        self._environment = dict(environment)
        self._end = f"--- {os.urandom(8).hex()} "
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            "bash", "--noprofile", "--norc", cwd=self._folder, env=self._environment, limit=1 << 22,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def type(self, command: str, *, seconds: float = 60) -> str:
        """Runs one command and gives what it printed.

        Raises:
            AssertionError: it ended with another status than 0.
            TimeoutError: it did not end.
        """
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"set -o pipefail\n{command}\necho; echo '{self._end}'$?\n".encode())
        lines: list[str] = []
        async with asyncio.timeout(seconds):
            while not (line := (await self._process.stdout.readline()).decode()).startswith(self._end):
                assert line, f"the shell ended: {command}\n{''.join(lines)}"
                lines.append(line)
        output = "".join(lines)
        assert line.removeprefix(self._end).strip() == "0", f"$ {command}\n{output}"
        return output
