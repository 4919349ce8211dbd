"""`authmesh keys`: the keys that tokens are signed with, for the operator of the machine (or of the pod).

It works on Token's own database, beside the running processes, which see the change within a second. So it needs
neither an administrator's token, which no one can get while no key signs and no one should trust while one is stolen,
nor any private key. From elsewhere the same is done with `authmesh call KeyService/RotateKey` and a token that has
`admin:keys`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import typer

from mesh.errors import MeshError
from mesh.operator import terminal
from mesh.operator.errors import OperatorError
from mesh.operator.target import DatabaseUrlOption, Target
from mesh.outbox.work import Work
from mesh.storage.database import Database
from services.token.keys.admin import KeyAdmin
from services.token.keys.key import KEY, State
from services.token.keys.schedule import KeyPolicy
from services.token.keys.store import KeyStore
from services.token.revocation.log import RevocationLog

OPERATOR = "operator"
"""The `actor` of what is done here."""
Answer = TypeVar("Answer")

commands = typer.Typer(no_args_is_help=True, help="The keys that tokens are signed with.")


@commands.callback()
def _group() -> None:
    """The keys that tokens are signed with."""


@commands.command("list")
def list_keys(database_url: DatabaseUrlOption = None) -> None:
    """Show the keys, newest first."""
    for line in _do(database_url, _list):
        terminal.line(line)


@commands.command()
def rotate(database_url: DatabaseUrlOption = None) -> None:
    """Have the next key take over as soon as every verifier knows it."""

    async def order(orders: KeyAdmin) -> str:
        key, due = await orders.rotate()
        return f"{key.key_id} signs from {due:%Y-%m-%d %H:%M:%S} UTC on"

    terminal.line(_do(database_url, order))


# A thumbprint may begin with `-`, and is not an option then.
@commands.command(context_settings={"ignore_unknown_options": True})
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="KID", help="As `authmesh keys list` shows it.")],
    database_url: DatabaseUrlOption = None,
) -> None:
    """Refuse every token that a key has signed. People refresh, or sign in again; no one's session ends."""

    async def order(orders: KeyAdmin) -> str:
        await orders.revoke(KEY.id(key_id) if "/" in key_id else key_id)
        return (
            f"{key_id} is revoked: services refuse its tokens within a second, sidecars when they read the JWKS again"
        )

    terminal.line(_do(database_url, order))


async def _list(orders: KeyAdmin) -> list[str]:
    keys, now = await orders.keys(), datetime.now(UTC)
    due = orders.activation_time(keys)
    lines = []
    for key in keys:
        state = key.state(now)
        since = {State.PUBLISHED: key.publish_time, State.ACTIVE: key.active_time, State.RETIRING: key.retire_time}.get(
            state, key.revoke_time
        )
        line = (
            f"{key.key_id}  {key.algorithm}  {key.custody:10}  {state.name.lower():9}  since {since:%Y-%m-%d %H:%M:%S}"
        )
        lines.append(line + (f", signs from {due:%Y-%m-%d %H:%M:%S} on" if state is State.PUBLISHED and due else ""))
    return lines


def _do(database_url: str | None, order: Callable[[KeyAdmin], Awaitable[Answer]]) -> Answer:
    async def carry_out() -> Answer:
        async with open_orders(Target.of("token", database_url)) as orders:
            return await order(orders)

    try:
        return asyncio.run(carry_out())
    except (MeshError, OperatorError) as error:
        terminal.fail(str(error))


@asynccontextmanager
async def open_orders(target: Target) -> AsyncIterator[KeyAdmin]:
    """Orders for Token's database.

    Raises:
        OperatorError: there is no database to be found.
        Unavailable: DEPENDENCY_UNAVAILABLE.
    """
    async with Database.open(target.database_url("token"), size=1) as database:
        store = KeyStore(database)
        yield KeyAdmin(
            Work(database, "token", actor=OPERATOR),
            store,
            RevocationLog(database),
            await store.pace() or KeyPolicy().pace,
        )
