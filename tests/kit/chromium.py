"""A headless Chromium that trusts a CA, driven by the DevTools protocol over pipes."""

import asyncio
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
ANSWER_SECONDS = 60
COMMANDS, ANSWERS = 3, 4
"""Descriptors of `--remote-debugging-pipe`."""


def missing() -> str:
    """What is not there of what it takes, for the reason of a skipped test; empty when everything is."""
    if not any(map(shutil.which, PROGRAMS)):
        return "Chromium is not installed (apt-get install chromium)"
    return "" if shutil.which("certutil") else "certutil is not installed (apt-get install libnss3-tools)"


class Page:
    """One page."""

    def __init__(self, reader: asyncio.StreamReader, writer: int) -> None:
        self._reader = reader
        self._writer = writer
        self._numbers = itertools.count(1)
        self._session = ""

    async def command(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the protocol, and its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._writer, json.dumps(message).encode() + b"\0")
        async with asyncio.timeout(ANSWER_SECONDS):
            while True:
                answer = json.loads((await self._reader.readuntil(b"\0"))[:-1])
                if answer.get("id") == number:
                    assert "error" not in answer, f"{method}: {answer['error']}"
                    result: dict[str, Any] = answer["result"]
                    return result

    async def open(self, url: str) -> None:
        """Goes to an address."""
        target = await self.command("Target.createTarget", url="about:blank")
        attached = await self.command("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        gone = await self.command("Page.navigate", url=url)
        assert not gone.get("errorText"), gone

    async def run(self, script: str) -> Any:
        """What the body of an async function returns in the page."""
        answer = await self.command(
            "Runtime.evaluate", expression=f"(async () => {{ {script} }})()", awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")


@asynccontextmanager
async def browser(home: Path, authority: Path) -> AsyncIterator[Page]:
    """Starts it with a profile of its own in `home`, and ends it."""
    store = home / ".pki" / "nssdb"
    store.mkdir(parents=True)
    for arguments in (["-N", "--empty-password"], ["-A", "-t", "C,,", "-n", "authmesh", "-i", str(authority)]):
        certutil = await asyncio.create_subprocess_exec("certutil", "-d", f"sql:{store}", *arguments)
        assert await certutil.wait() == 0
    commands_out, commands_in = os.pipe()
    answers_out, answers_in = os.pipe()
    program = next(path for name in PROGRAMS if (path := shutil.which(name)))

    def give_pipes() -> None:
        os.dup2(commands_out, COMMANDS)
        os.dup2(answers_in, ANSWERS)

    process = subprocess.Popen(  # noqa: ASYNC220 - asyncio's knows no preexec_fn
        [
            program,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--remote-debugging-pipe",
            f"--user-data-dir={home / 'profile'}",
        ],
        env=os.environ | {"HOME": str(home)},
        pass_fds=(COMMANDS, ANSWERS),
        preexec_fn=give_pipes,
        stdout=subprocess.DEVNULL,
        stderr=(home / "chromium.log").open("wb"),
    )
    os.close(commands_out)
    os.close(answers_in)
    reader = asyncio.StreamReader(limit=2**24)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(answers_out, "rb")
    )
    page = Page(reader, commands_in)
    try:
        try:
            await page.command("Browser.getVersion")
        except (asyncio.IncompleteReadError, BrokenPipeError):
            pytest.skip(f"Chromium does not start here: {(home / 'chromium.log').read_text()[-300:]}")
        yield page
    finally:
        process.kill()
        process.wait()
        transport.close()
        os.close(commands_in)
