"""Roles and status, on a real database."""

import asyncio
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from mesh.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound, Reason
from mesh.ids import uuid7
from mesh.storage.database import Database
from services.user import commands as admin

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .conftest import UserParts

GRANTS = "/authmesh.token.v1.TokenIssuer/SetSubjectGrants"
STATUS = "/authmesh.auth.v1.CredentialDirectory/SetSubjectStatus"


async def test_roles_reach_token_at_once_and_by_the_outbox(user: "UserParts") -> None:
    user_id = await user.new_user("ada@example.com")
    changed = await user.administration.set_roles(user_id, ["admin"], "")
    assert (changed.roles, changed.version) == (("admin",), 2)
    (grants,) = await user.grants()
    assert (grants.subject, list(grants.roles), grants.disabled, grants.version) == (str(user_id), ["admin"], False, 2)
    (event,) = await user.events()
    assert (event.type, event.detail["roles"], event.detail["roles_before"]) == ("user.roles_changed", "admin", "")
    # After the commit: what is told at once is never undone.
    assert (user.courier.delivered, user.courier.committed) == ([GRANTS], [1])


async def test_roles_that_are_set_already_change_nothing(user: "UserParts") -> None:
    user_id = await user.new_administrator("ada@example.com")
    assert (await user.administration.set_roles(user_id, ["admin"], "")).version == 2
    assert (await user.events(), user.courier.delivered) == ([], [])


async def test_roles_are_refused_for_good_reasons(user: "UserParts") -> None:
    user_id = await user.new_user("ada@example.com")
    with pytest.raises(InvalidArgument):
        await user.administration.set_roles(user_id, ["emperor"], "")
    with pytest.raises(Aborted):
        await user.administration.set_roles(user_id, ["admin"], "stale")
    with pytest.raises(NotFound):
        await user.administration.set_roles(uuid7(), ["admin"], "")
    assert await user.events() == []


async def test_disabling_reaches_token_and_auth(user: "UserParts") -> None:
    user_id = await user.new_user("ada@example.com")
    assert (await user.administration.set_disabled(user_id, disabled=True)).disabled
    await user.administration.set_disabled(user_id, disabled=True)
    await user.administration.set_disabled(user_id, disabled=False)
    assert [(item.disabled, item.version) for item in await user.grants()] == [(True, 2), (False, 3)]
    assert [(item.disabled, item.version) for item in await user.statuses()] == [(True, 2), (False, 3)]
    assert [event.type for event in await user.events()] == ["user.disabled", "user.enabled"]
    assert user.courier.delivered == [GRANTS, STATUS] * 2


async def test_the_last_administrator_can_neither_be_demoted_nor_disabled(user: "UserParts") -> None:
    first = await user.new_administrator("ada@example.com")
    for attempt in (
        user.administration.set_roles(first, [], ""),
        user.administration.set_disabled(first, disabled=True),
    ):
        with pytest.raises(FailedPrecondition) as refusal:
            await attempt
        assert refusal.value.reason is Reason.LAST_ADMINISTRATOR
    second = await user.new_administrator("bob@example.com")
    await user.administration.set_disabled(second, disabled=True)
    with pytest.raises(FailedPrecondition):
        await user.administration.set_roles(first, [], "")
    await user.administration.set_disabled(second, disabled=False)
    assert (await user.administration.set_roles(first, [], "")).roles == ()


async def test_two_administrators_who_demote_each_other_do_not_both_succeed(user: "UserParts") -> None:
    for _ in range(5):
        both = [await user.new_administrator(f"{uuid7()}@example.com") for _ in range(2)]
        results = await asyncio.gather(
            *(user.administration.set_roles(one, [], "") for one in both), return_exceptions=True
        )
        assert sum(isinstance(result, FailedPrecondition) for result in results) == 1
        assert await user.database.fetchval("SELECT count(*) FROM users WHERE 'admin' = ANY (roles)") == 1
        await user.database.execute("UPDATE users SET roles = '{}'")


async def test_the_operator_grants_a_role_on_the_machine(
    user: "UserParts", new_database_url: "Callable[[str], Awaitable[str]]"
) -> None:
    url = await new_database_url("services.user")
    environment = {"NODE": "user", "DATABASE_URL": url}

    async def run(*arguments: str) -> tuple[int, str]:
        result = await asyncio.to_thread(CliRunner().invoke, admin.commands, arguments, env=environment)
        return result.exit_code, result.output

    status, output = await run("grant", "ada@example.com")
    assert (status, output.count("\n")) == (1, 1)
    assert "sign up" in output

    async with Database.open(url) as database:
        parts = type(user)(database)
        user_id = await parts.new_user("ada@example.com")
        for _ in range(2):
            status, output = await run("grant", "Ada@example.com", "--role", "admin")
            assert (status, output) == (0, f"users/{user_id} (ada@example.com) has the roles: admin\n")
        (event,) = await parts.events()
        assert (event.type, event.actor, event.subject) == ("user.roles_changed", "operator", f"users/{user_id}")
        assert [list(grants.roles) for grants in await parts.grants()] == [["admin"]]
        assert (await run("grant", "ada@example.com", "--role", "emperor"))[0] == 1


async def test_the_operator_sees_who_has_a_role_and_takes_it_also_from_the_last(
    user: "UserParts", new_database_url: "Callable[[str], Awaitable[str]]"
) -> None:
    url = await new_database_url("services.user")

    async def run(*arguments: str) -> tuple[int, str]:
        result = await asyncio.to_thread(
            CliRunner().invoke, admin.commands, arguments, env={"NODE": "user", "DATABASE_URL": url}
        )
        return result.exit_code, result.output

    assert await run("list") == (0, "no user has a role: `authmesh admin grant EMAIL` makes an administrator\n")
    async with Database.open(url) as database:
        parts = type(user)(database)
        ada, bob = [await parts.new_user(f"{name}@example.com") for name in ("ada", "bob")]
        for email in ("bob@example.com", "ada@example.com"):
            await run("grant", email)
        await parts.administration.set_disabled(bob, disabled=True)
        assert await run("list") == (
            0,
            f"users/{ada}  ada@example.com  admin\nusers/{bob}  bob@example.com  admin  disabled\n",
        )
        for _ in range(2):
            assert await run("revoke", "Ada@example.com") == (0, f"users/{ada} (ada@example.com) has no role\n")
        assert await run("list") == (0, f"users/{bob}  bob@example.com  admin  disabled\n")
        event = (await parts.events())[-1]
        assert (event.type, event.actor, event.subject) == ("user.roles_changed", "operator", f"users/{ada}")
        assert (event.detail["roles_before"], event.detail["roles"]) == ("admin", "")
        assert [list(grants.roles) for grants in await parts.grants() if grants.subject == str(ada)] == [["admin"], []]
    assert (await run("revoke", "nobody@example.com"))[0] == 1
    assert (await run("revoke", "bob@example.com", "--role", "emperor"))[0] == 1
