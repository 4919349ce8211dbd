"""`authmesh new service orders` in a copy of the tree: it passes lint and its tests, and answers through the edge."""

import asyncio
import json
import os
import re
import shlex
import shutil
import ssl
from pathlib import Path

import httpx
import pytest

from mesh.local.infra import Infra
from tests.e2e.conftest import running_by
from tests.kit.authmesh_command import sign_in

CHECKOUT = Path(__file__).parents[2]
TEMPLATES = sorted(f"deploy/aws/{file.name}" for file in CHECKOUT.glob("deploy/aws/*.yaml"))
TESTS = "deploy mesh/cloudformation/test_settings.py mesh/model mesh/test_limits.py protos services test_readme.py"
(RENDER,) = re.findall(r"\$\(BIN\)/(authmesh mesh render .*)", (CHECKOUT / "Makefile").read_text())
COMMANDS = (
    "authmesh new service orders",
    "python protos/generate.py",
    RENDER,
    "python -m ruff check .",
    "python -m ruff format --check .",
    "python -m mypy",
    "python -c 'from importlinter.cli import lint_imports_command as lint; lint()' --no-cache",
    "buf lint protos",
    "buf format --diff --exit-code protos",
    f"python -c 'from cfnlint.runner import main; main()' {' '.join(TEMPLATES)}",
    f"python -m pytest -q tests/integration/services/orders {' '.join(f'tests/unit/{test}' for test in TESTS.split())}",
)
"""What a developer runs, one after the other."""


def linked(source: str, target: str) -> None:
    """A second name for a file, or a copy where that can't be."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


@pytest.mark.slow
async def test_a_new_context_works_at_once(tmp_path: Path) -> None:
    copy = tmp_path / "authmesh"
    left_out = shutil.ignore_patterns(".git", ".venv", ".mesh", "__pycache__", "build", "dist", ".hypothesis")
    shutil.copytree(CHECKOUT, copy, ignore=left_out, symlinks=True)
    # It finds the code beside it, wherever that is.
    environment = copy / ".venv" / "app"
    shutil.copytree(CHECKOUT / ".venv" / "app", environment, symlinks=True, copy_function=linked)
    (copy / ".venv" / "place").write_text(f"{copy}\n")
    infra = Infra.find().python.parents[1]
    for command in COMMANDS:
        program, *arguments = shlex.split(command)
        process = await asyncio.create_subprocess_exec(
            environment / "bin" / program,
            *arguments,
            cwd=copy,
            env=os.environ | {"AUTHMESH_INFRA": str(infra)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, f"{command}:\n{output.decode()}"
    authmesh = environment / "bin" / "authmesh"
    async with running_by(authmesh, tmp_path / "mesh", AUTHMESH_INFRA=str(infra)) as mesh:
        token = (await sign_in(mesh))["accessToken"]
        status, made, errors = await mesh.authmesh(
            "call", "OrderService/CreateOrder", '{"order": {"displayName": "first"}}', "--token", token
        )
        assert (status, errors) == (0, "")
        order = json.loads(made)
        assert order["displayName"] == "first"
        # Over JSON, too: the edge has its paths.
        async with httpx.AsyncClient(verify=ssl.create_default_context(cafile=mesh.status["ca_file"])) as http:
            answer = await http.get(f"{mesh.status['edge']}/v1/orders", headers={"authorization": f"Bearer {token}"})
        assert [one["name"] for one in answer.json()["orders"]] == [order["name"]]
