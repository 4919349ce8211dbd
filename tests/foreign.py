"""Other people's tools and languages as judges: their commands, and the listings of our pages that they run."""

import asyncio
import os
import re
from pathlib import Path

PROJECT = Path(__file__).parents[1]


def write_listing(page: str, folder: Path, file: str) -> str:
    """Writes the listing of a page of docs/ that begins with a file's name into a folder, under that name, and gives its text.

    Raises:
        AssertionError: the page has none.
    """
    text = (PROJECT / "docs" / page).read_text()
    found = re.search(rf"```\w+\n((?:#|//) {re.escape(file)}\n.*?)```", text, re.DOTALL)
    assert found is not None, f"docs/{page} has no listing {file}"
    (folder / file).write_text(found[1])
    return found[1]


async def run(folder: Path, *command: str | Path, **environment: str) -> str:
    """Runs a command and gives its output.

    Raises:
        AssertionError: it failed; with all that it printed.
    """
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=os.environ | environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, f"{command}: {output}"
    return output


async def npm_install(folder: Path, *packages: str) -> Path:
    """Installs packages into a folder's own `node_modules`, and gives the folder of their commands."""
    (folder / "package.json").write_text('{"type": "module"}')
    await run(folder, "npm", "install", "--silent", "--no-fund", "--no-audit", *packages)
    return folder / "node_modules" / ".bin"
