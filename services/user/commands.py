"""`authmesh admin`.

What only the operator of the machine (or of the pod) may do, such as making the first administrator.

It works on User's own database, beside the running process, whose relay then tells Token.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

from mesh.errors import MeshError, NotFound
from mesh.operator import terminal
from mesh.operator.errors import OperatorError
from mesh.operator.target import DatabaseUrlOption, Target
from mesh.outbox.work import Work
from mesh.storage.database import Database
from services.user import roles
from services.user.administration import Administration
from services.user.command_pusher import NoCourier

OPERATOR = "operator"
"""The `actor` of what is done here."""

Answer = TypeVar("Answer")

commands = typer.Typer(no_args_is_help=True, help="What only the machine's operator may do.")


@commands.callback()
def _group() -> None:
    """What only the machine's operator may do."""


Email = Annotated[str, typer.Argument(metavar="EMAIL", help="Address of a user who has signed up and verified it.")]
Role = Annotated[str, typer.Option(help="The role.")]


@commands.command("list")
def list_holders(database_url: DatabaseUrlOption = None) -> None:
    """Show who has a role."""
    holders = _do(database_url, lambda administration: administration.holders())
    for user in holders:
        terminal.line(f"{user.name}  {user.email}  {', '.join(user.roles)}{'  disabled' if user.disabled else ''}")
    if not holders:
        terminal.line("no user has a role: `authmesh admin grant EMAIL` makes an administrator")


@commands.command()
def grant(email: Email, role: Role = roles.ADMIN, database_url: DatabaseUrlOption = None) -> None:
    """Give a user a role. The user's next sign-in or refresh brings it."""
    user = _do(database_url, lambda administration: administration.grant(email, role), email)
    terminal.line(f"{user.name} ({user.email}) has the roles: {', '.join(user.roles)}")


@commands.command()
def revoke(email: Email, role: Role = roles.ADMIN, database_url: DatabaseUrlOption = None) -> None:
    """Take a role from a user, also from the last administrator. Tokens that carry it are refused within seconds."""
    user = _do(database_url, lambda administration: administration.revoke(email, role), email)
    held = f"the roles: {', '.join(user.roles)}" if user.roles else "no role"
    terminal.line(f"{user.name} ({user.email}) has {held}")


@commands.command("reset-mfa")
def reset_mfa(email: Email, database_url: DatabaseUrlOption = None) -> None:
    """Remove a user's second factor, for one who has lost the authenticator app and the recovery codes.

    Make sure that it is that person who asks: afterwards the password alone signs in. The person gets a message.
    """
    user = _do(database_url, lambda administration: administration.reset_mfa(email), email)
    terminal.line(f"{user.name} ({user.email}) signs in without a second factor as soon as Auth has heard of it")


def _do(database_url: str | None, action: Callable[[Administration], Awaitable[Answer]], email: str = "") -> Answer:
    """Works on User's database and writes the events and the commands that User's own methods would write."""

    async def run() -> Answer:
        async with Database.open(Target.of("user", database_url).database_url("user"), size=1) as database:
            return await action(Administration(Work(database, "user", actor=OPERATOR), NoCourier()))

    try:
        return asyncio.run(run())
    except NotFound:
        terminal.fail(f"no user with the address {email} has an account: sign up and verify the address first")
    except (MeshError, OperatorError) as error:
        terminal.fail(str(error))
