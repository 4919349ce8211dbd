"""What services stand on: PostgreSQL, Valkey, AWS. Started here, or the user's own."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mesh.local.child import Child
from mesh.local.components import aws_emulator, postgres, valkey
from mesh.local.infra import Infra
from mesh.local.options import COGNITO, Options
from mesh.local.persisted_state import PersistedState
from mesh.local.ports import free_port, is_free
from mesh.local.supervisor import Supervisor
from mesh.operator.aws_account import AwsAccount
from mesh.operator.errors import OperatorError
from mesh.operator.secret_file import write_private
from mesh.operator.state_dir import StateDir


@dataclass(slots=True)
class Servers:
    """Where they are, once they run."""

    redis_url: str
    account: AwsAccount
    redis: Mapping[str, str]
    """The settings that lead to it."""
    database_url: str = ""
    emulator: Child | None = None
    """Ours, if we started it."""
    cluster: postgres.Postgres | None = None
    children: tuple[Child, ...] = ()

    def close(self) -> None:
        """Gives back what the cluster took, after its end."""
        if self.cluster is not None:
            self.cluster.undo.close()


async def start(
    home: StateDir, infra: Infra, sockets: Path, choices: Options, memory: PersistedState, supervisor: Supervisor
) -> Servers:
    """Starts those that the user doesn't bring. Returns before they are healthy.

    Raises:
        OperatorError: one can't be started.
    """
    emulator = None
    if choices.aws_endpoint_url:
        account = AwsAccount.of_user(choices.aws_endpoint_url, choices.environment)
    else:
        if memory.aws_port is None or not is_free(memory.aws_port):
            memory.aws_port = free_port()
        has_pool = choices.identity == COGNITO
        prepared = aws_emulator.prepare(
            infra,
            home.path / "aws",
            port=memory.aws_port,
            log=home.log("aws"),
            services=(*aws_emulator.SERVICES, "cognito-idp") if has_pool else aws_emulator.SERVICES,
            inbox=home.inbox if has_pool else None,
        )
        account = prepared.account
        (emulator,) = supervisor.start([prepared.program])
    write_private(home.aws_environment, account.published.encode())
    children = [emulator] if emulator else []
    if choices.redis_url:
        await _check_redis(choices.redis_url)
        servers = Servers(choices.redis_url, account, {"REDIS_URL": choices.redis_url}, emulator=emulator)
    else:
        cache = valkey.prepare(infra, home.path / "valkey", sockets, log=home.log("valkey"))
        children += supervisor.start([cache.program])
        # The password in a file: what is in the environment of a process is there for as long as it lives.
        redis = {"REDIS_URL": cache.address, "REDIS_SECRET": str(cache.secret)}
        servers = Servers(cache.url, account, redis, emulator=emulator)
    if choices.database_url:
        await _check_postgres(choices.database_url)
        servers.database_url = choices.database_url
    else:
        servers.cluster = await postgres.prepare(infra, home.path / "postgres", log=home.log("postgres"))
        servers.database_url = servers.cluster.admin_url
        children += supervisor.start([servers.cluster.program])
    servers.children = tuple(children)
    return servers


async def _check_redis(url: str) -> None:
    import redis

    from mesh.storage.redis_address import RedisAddress

    try:
        async with asyncio.timeout(5), RedisAddress.parse(url).connect("authmesh", name="authmesh") as client:
            await client.ping()
    except (OSError, TimeoutError, ValueError, redis.RedisError) as error:
        raise OperatorError(f"REDIS_URL does not answer: {error}; unset it to have Valkey started for you") from None


async def _check_postgres(url: str) -> None:
    import asyncpg

    try:
        connection = await asyncpg.connect(url, timeout=5)
        await connection.close()
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise OperatorError(
            f"DATABASE_URL does not answer: {error}; unset it to have PostgreSQL started for you"
        ) from None
