"""The life of a local mesh: killed, started again, met by a second one, stopped.

One mesh for all of it: `before` is what the first run said of itself when it was killed, `mesh` the run after that.
That one is started in an environment that is meant for other programs, and from a directory with other code.
"""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mesh.model.mesh import load_mesh
from mesh.operator.identity import Identity
from tests.conftest import held
from tests.e2e.conftest import RunningMesh, running
from tests.kit.authmesh_command import authmesh, sign_in
from tests.kit.conditions import until
from tests.kit.surroundings import HOSTILE, other_code


@pytest.fixture(scope="module")
async def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """The home of a mesh whose runner was killed with everything running, its last status, and a token of then."""
    home = tmp_path_factory.mktemp("run") / "mesh"
    async with running(home) as mesh:
        token = (await sign_in(mesh))["accessToken"]
        status = mesh.status
        mesh.process.kill()
        await mesh.process.wait()
    return home, status, token


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return other_code(tmp_path_factory.mktemp("elsewhere"))


@pytest.fixture(scope="module")
async def mesh(killed: tuple[Path, dict[str, Any], str], elsewhere: Path) -> AsyncIterator[RunningMesh]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(elsewhere)
        async with held(running(killed[0], **HOSTILE, PYTHONPATH=str(elsewhere))) as started:
            # The status of the killed run says ready, too, until it is replaced.
            await until(
                lambda: started.status["runner"]["pid"] == started.process.pid and started.status["state"] == "ready",
                60,
            )
            patch.undo()
            yield started


@pytest.fixture(scope="module")
def before(killed: tuple[Path, dict[str, Any], str]) -> dict[str, Any]:
    return killed[1]


async def test_the_next_start_cleans_up_after_a_killed_one(mesh: RunningMesh, before: dict[str, Any]) -> None:
    now = {row["pid"] for row in mesh.status["processes"]}
    left = [row["name"] for row in before["processes"] if row["pid"] not in now and Identity.of(row["pid"])]
    assert left == []
    assert {row["health"] for row in mesh.status["processes"]} == {"healthy"}
    assert {row["restarts"] for row in mesh.status["processes"]} == {0}


async def test_state_survives(
    mesh: RunningMesh, before: dict[str, Any], killed: tuple[Path, dict[str, Any], str]
) -> None:
    assert mesh.status["edge"] == before["edge"]
    assert mesh.status["demo"] == before["demo"]
    code, output, errors = await mesh.authmesh(
        "call", "UserService/GetUser", '{"name": "users/me"}', "--token", killed[2]
    )
    assert code == 0, errors
    assert json.loads(output)["email"] == before["demo"]["email"]
    await sign_in(mesh)


@pytest.mark.slow
async def test_commands_take_nothing_from_their_surroundings(
    mesh: RunningMesh, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (HOSTILE | {"PYTHONPATH": str(elsewhere)}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(elsewhere)
    email = mesh.status["demo"]["email"]
    commands = [
        ["status"],
        ["inbox"],
        ["admin", "grant", email],
        ["keys", "list"],
        ["audit", "redrive"],
        ["audit", "rebuild"],
        ["audit", "verify"],
    ]
    answers = await asyncio.gather(*(mesh.authmesh(*command) for command in commands))
    for command, (status, output, errors) in zip(commands, answers, strict=True):
        assert status == 0, (command, output, errors)
    assert await sign_in(mesh)


async def test_no_process_has_a_variable_that_was_meant_for_others(mesh: RunningMesh) -> None:
    for row in mesh.status["processes"]:
        found = dict(line.split("=", 1) for line in Path(f"/proc/{row['pid']}/environ").read_text().split("\0") if line)
        assert {name for name, value in HOSTILE.items() if value and found.get(name) == value} == set(), row["name"]
        assert "PYTHONPATH" not in found, row["name"]


async def test_processes_know_callers_by_the_ids_that_the_mesh_gives(mesh: RunningMesh) -> None:
    known = load_mesh()
    for node in known.nodes:
        found = dict(
            line.split("=", 1)
            for line in Path(f"/proc/{mesh.row(node)['pid']}/environ").read_text().split("\0")
            if line
        )
        assert (found["TRUST_DOMAIN"], found["SPIFFE_PATH"]) == (known.trust_domain, known.spiffe_path)


async def test_start_and_memory_are_measured(mesh: RunningMesh) -> None:
    assert 0 < mesh.status["startup_seconds"] < 60
    assert 100 < mesh.status["memory_pss_mb"] < 1200


async def test_every_process_has_a_row_and_a_log(mesh: RunningMesh) -> None:
    names = [row["name"] for row in mesh.status["processes"]]
    nodes = list(load_mesh().nodes)
    assert sorted(names) == sorted(
        ["postgres", "valkey", "aws", "edge", *nodes, *(f"{node}-sidecar" for node in nodes)]
    )
    assert [name for name in names if not (mesh.home / "logs" / f"{name}.log").exists()] == []


async def test_everything_it_keeps_is_private(mesh: RunningMesh) -> None:
    assert mesh.home.stat().st_mode & 0o777 == 0o700
    open_to_others = [path for path in (mesh.home / "secrets").rglob("*") if path.stat().st_mode & 0o077]
    assert open_to_others == []
    sockets = Path(mesh.row("auth")["address"].removeprefix("unix:")).parent
    assert sockets.stat().st_mode & 0o777 == 0o700


async def test_only_loopback_is_listened_on(mesh: RunningMesh) -> None:
    inodes = set()
    for row in mesh.status["processes"]:
        for descriptor in Path(f"/proc/{row['pid']}/fd").iterdir():
            inodes.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
    listening = [
        line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    addresses = {fields[1].split(":")[0] for fields in listening if fields[3] == "0A" and fields[9] in inodes}
    assert addresses - {"00000000000000000000000001000000"} == {"0100007F"}


async def test_a_second_mesh_in_the_same_place_is_refused_in_one_line(mesh: RunningMesh) -> None:
    code, _, errors = await authmesh(mesh.home, "run")
    assert code == 1
    assert errors.startswith(f"authmesh: a mesh runs in {mesh.home} already (pid {mesh.process.pid})")
    assert errors.count("\n") == 1
    assert mesh.status["state"] == "ready"


async def test_a_busy_edge_port_is_refused_in_one_line(mesh: RunningMesh, tmp_path: Path) -> None:
    port = mesh.status["edge"].rpartition(":")[2]
    code, _, errors = await authmesh(tmp_path / "other", "run", EDGE_PORT=port)
    assert code == 1
    assert errors == (
        f"authmesh: port {port} is in use: stop what listens there, or choose another: make run-mesh EDGE_PORT=8443\n"
    )
    code, _, errors = await authmesh(tmp_path / "other", "status")
    assert (code, "failed: port" in errors) == (1, True)


async def test_the_status_command_shows_it(mesh: RunningMesh) -> None:
    code, output, _ = await mesh.authmesh("status")
    assert code == 0
    assert output.startswith("ready: https://localhost:")
    assert "resource-sidecar" in output
    code, output, _ = await mesh.authmesh("status", "--json")
    assert json.loads(output)["state"] == "ready"


async def test_a_service_that_is_not_ready_says_what_it_waits_for(mesh: RunningMesh) -> None:
    postmaster = mesh.row("postgres")["pid"]
    processes = [postmaster, *map(int, Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split())]
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        await until(lambda: (mesh.row("user")["health"], mesh.row("user")["lacks"]) == ("unhealthy", ["database"]), 20)
        _, output, _ = await mesh.authmesh("status")
        assert "unhealthy, waits for database" in output
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)
    await until(lambda: all(row["health"] == "healthy" and row["lacks"] == [] for row in mesh.status["processes"]), 20)


async def test_calls_fail_in_words(mesh: RunningMesh) -> None:
    code, output, errors = await mesh.authmesh("call", "UserService/GetUser", '{"name": "users/me"}')
    assert (code, output) == (1, "")
    assert errors.startswith("authmesh: UNAUTHENTICATED TOKEN_MISSING: ")
    token = (await sign_in(mesh))["accessToken"]
    code, _, errors = await mesh.authmesh(
        "call", "ResourceService/GetResource", '{"name": "nonsense"}', "--token", token
    )
    assert code == 1
    assert errors.startswith("authmesh: INVALID_ARGUMENT FIELD_INVALID: name: ")
    assert errors.count("name: ") == errors.count("\n") == 1


async def test_the_emulator_finds_its_stack_again_when_it_was_killed(mesh: RunningMesh) -> None:
    await mesh.kill("aws")
    # It remembers the stack, and the inbox is still listening.
    await sign_in(mesh)
    assert mesh.row("aws")["restarts"] == 1


async def test_stopping_ends_everything_and_leaves_no_socket(mesh: RunningMesh) -> None:
    """Last: there is no mesh after it."""
    status = mesh.status
    identities = [Identity.of(row["pid"]) for row in status["processes"]]
    directories = {
        Path(row["address"].removeprefix("unix:")).parent
        for row in status["processes"]
        if row["address"].startswith("unix:")
    }
    stranger = await asyncio.create_subprocess_exec("sleep", "60")
    mesh.process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(mesh.process.wait(), 30) == 0
    await until(lambda: not any(identity and identity.alive() for identity in identities))
    assert [directory for directory in directories if directory.exists()] == []
    assert not (mesh.home / "status.json").exists()
    assert stranger.returncode is None
    stranger.kill()
    await stranger.wait()
    code, _, errors = await authmesh(mesh.home, "status")
    assert (code, errors) == (1, f"authmesh: no mesh runs in {mesh.home}: `make run-mesh` starts one\n")
