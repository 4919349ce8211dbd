"""The `authmesh` command and a sign-in, on a mesh that a test started."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from tests.e2e.conftest import AUTHMESH, RunningMesh


async def authmesh(home: Path, *arguments: str, **environment: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        AUTHMESH,
        *arguments,
        env=os.environ | {"AUTHMESH_HOME": str(home)} | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), 20)
    except TimeoutError:
        # One that was not refused, as it should have been.
        process.terminate()
        raise
    return process.returncode or 0, output.decode(), errors.decode()


async def sign_in(mesh: RunningMesh) -> dict[str, Any]:
    demo = mesh.status["demo"]
    request = json.dumps({"email": demo["email"], "password": demo["password"], "clientId": demo["client_id"]})
    code, output, errors = await mesh.authmesh("call", "AuthService/SignIn", request)
    assert code == 0, errors
    tokens: dict[str, Any] = json.loads(output)["tokens"]
    return tokens
