"""The commands of README and docs/, typed into a shell in the order in which they are printed."""

import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.e2e.conftest import RunningMesh, running
from tests.kit.pages import PAGES, PROJECT, Shell, blocks, commands

ELSEWHERE = {
    "make run-mesh": "tests/integration/mesh/local/test_run.py",
    "make test": "this is one of them",
}
"""Commands that start what tests run in."""
NEED_AWS = pytest.mark.skipif(shutil.which("aws") is None, reason="the aws command is not installed")


@asynccontextmanager
async def reader(mesh: RunningMesh, folder: Path) -> AsyncIterator[Shell]:
    """A shell in a checkout whose mesh runs, with what every account has in its environment and nothing else."""
    (folder / ".mesh").symlink_to(mesh.home)
    (folder / ".venv").symlink_to(PROJECT / ".venv")
    async with Shell(
        folder, {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", "AUTHMESH_HOME": str(mesh.home)}
    ) as shell:
        yield shell


async def follow(mesh: RunningMesh, shell: Shell, page: str) -> dict[str, str]:
    """Types the commands of a page, and gives what each printed."""
    printed = {}
    password = (mesh.home / "secrets" / "demo-password").read_text().strip()
    for command in commands(page):
        bare = command.partition("  #")[0].strip()
        if bare in ELSEWHERE:
            continue
        if addressee := re.search(r"inbox --email (\S+)", command):
            await mesh.code(addressee[1])
        typed = command.replace("https://localhost:8443", mesh.status["edge"]).replace('"…"', f'"{password}"')
        printed[bare] = await shell.type(typed)
    return printed


async def test_the_commands_of_the_readme_work_in_their_order(mesh: RunningMesh, tmp_path: Path) -> None:
    async with reader(mesh, tmp_path) as shell:
        printed = await follow(mesh, shell, "README.md")
    outputs = list(printed.values())
    assert any('"reason":"TOKEN_MISSING"' in output for output in outputs)
    assert any('"displayName":"first"' in output for output in outputs)
    assert "you@example.com" in printed["authmesh inbox --email you@example.com"]
    assert "intact" in printed["authmesh audit verify"]
    # Each does what it says, and not an error with a good exit status.
    for command, output in printed.items():
        assert "Traceback" not in output, command
        if command.startswith("authmesh"):
            assert "FIELD_INVALID" not in output, command


async def test_the_commands_of_the_page_about_sign_in_work_in_their_order(mesh: RunningMesh, tmp_path: Path) -> None:
    async with reader(mesh, tmp_path) as shell:
        await shell.type("source .venv/app/bin/activate")
        printed = await follow(mesh, shell, "docs/identity.md")
    assert len(printed) >= len(set(commands("docs/identity.md"))) - 1
    for command, output in printed.items():
        assert "Traceback" not in output, command
        assert "_INVALID" not in output, command
    assert any('"displayName": "Grace"' in output for output in printed.values())


async def test_the_commands_of_the_page_about_traces_work(mesh: RunningMesh, tmp_path: Path) -> None:
    async with reader(mesh, tmp_path) as shell:
        await shell.type("source .venv/app/bin/activate")
        printed = await follow(mesh, shell, "docs/observability.md")
    assert [output.split()[0] for output in printed.values()] == ["NODE", "ENVOY", "WHEN"]


async def test_the_commands_of_the_page_about_app_mesh_work_in_their_order(mesh: RunningMesh, tmp_path: Path) -> None:
    (tmp_path / "tests").symlink_to(PROJECT / "tests")
    async with reader(mesh, tmp_path) as shell:
        await shell.type("source .venv/app/bin/activate")
        printed = await follow(mesh, shell, "docs/appmesh.md")
    imported, checked, *rendered = printed.values()
    assert "carried: 1 Mesh, 2 VirtualNode" in imported
    assert "palette_paint: Envoy takes its files" in checked
    assert all("files in build/" in output for output in rendered)


@NEED_AWS
@pytest.mark.slow
async def test_the_commands_of_the_pages_for_operators_work_in_their_order(tmp_path: Path) -> None:
    """On a mesh of their own: keys are revoked on the way."""
    async with running(tmp_path / "mesh") as mesh:
        for page in ("docs/operations.md", "docs/audit.md", "docs/keys.md"):
            folder = tmp_path / Path(page).stem
            folder.mkdir()
            async with reader(mesh, folder) as shell:
                await shell.type("source .venv/app/bin/activate")
                printed = await follow(mesh, shell, page)
            assert len(printed) == len(commands(page))
            if page == "docs/audit.md":
                assert any("Verified OK" in output for output in printed.values())


def test_every_page_with_commands_is_followed() -> None:
    assert {page for page in PAGES if commands(page)} == {
        "README.md",
        "docs/appmesh.md",
        "docs/observability.md",
        "docs/operations.md",
        "docs/audit.md",
        "docs/identity.md",
        "docs/keys.md",
    }


@pytest.mark.parametrize("page", PAGES)
def test_a_block_says_what_it_holds(page: str) -> None:
    """A `console` block is run. A `text` block is a drawing, or needs what no test has (an AWS account, a person's
    decision)."""
    for language, text in blocks(page):
        assert language, text
