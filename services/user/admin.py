"""`authmesh admin`: what only whoever has the machine (or a shell in the pod) may do, such as making the first administrator.

It works on User's own database, beside the running process, whose relay then tells Token.
"""

import asyncio
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, NoReturn

import typer

from mesh.database import Database
from mesh.errors import MeshError, NotFound
from mesh.local.databases import running_url
from mesh.local.errors import LocalMeshError
from mesh.outbox import Outbox
from services.user import roles
from services.user.administration import Administration
from services.user.courier import NoCourier
from services.user.profile import User

OPERATOR = "operator"
"""The `actor` of what is done here."""

commands = typer.Typer(no_args_is_help=True, help="What only the machine's operator may do.")


@commands.callback()
def _group() -> None:
    """What only the machine's operator may do."""


@commands.command()
def grant(
    email: Annotated[str, typer.Argument(metavar="EMAIL", help="Address of a user who has signed up and verified it.")],
    role: Annotated[str, typer.Option(help="The role to give.")] = roles.ADMIN,
) -> None:
    """Give a user a role. The user's next sign-in or refresh brings it."""
    try:
        user = asyncio.run(give_role(database_url(os.environ), email, role))
    except NotFound:
        _fail(f"nobody with the address {email} has an account: sign up and verify the address first")
    except (MeshError, LocalMeshError) as error:
        _fail(str(error))
    typer.echo(f"{user.name} ({user.email}) has the roles: {', '.join(user.roles)}")


def database_url(environment: Mapping[str, str]) -> str:
    """Address of User's database: of this pod, or of the mesh that runs on this machine. `DATABASE_URL` alone may be anybody's.

    Raises:
        LocalMeshError: there is neither.
    """
    if environment.get("NODE") == "user" and (url := environment.get("DATABASE_URL")):
        return url
    return running_url("user", environment)


async def give_role(url: str, email: str, role: str) -> User:
    """Adds a role to whoever has the address, and writes the event and the command that User's own SetRoles would write.

    Raises:
        NotFound: USER_NOT_FOUND.
        InvalidArgument: FIELD_INVALID, for a role that doesn't exist.
        Unavailable: DEPENDENCY_UNAVAILABLE.
    """
    async with Database.open(url, size=1) as database:
        administration = Administration(database, Outbox(source="user"), NoCourier(), clock=lambda: datetime.now(UTC))
        return await administration.grant(email, role, actor=OPERATOR)


def _fail(message: str) -> NoReturn:
    typer.echo(f"authmesh: {message}", err=True)
    raise typer.Exit(1)
