"""Administering clients on a real PostgreSQL: what a change writes, ends and refuses, and how soon others know of
it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from mesh.errors import (
    Aborted,
    AlreadyExists,
    InvalidArgument,
    MeshError,
    NotFound,
    PermissionDenied,
    Reason,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from mesh.ids import uuid7
from mesh.tokens.denials import EACH
from services.token.clients.admin import ClientAdmin
from services.token.clients.bootstrap import ClientBootstrap
from services.token.clients.cache import ClientDirectory
from services.token.clients.client import Client, ClientRecord, load_clients
from services.token.clients.credentials_grant import ClientCredentialsGrant
from services.token.clients.store import find_client
from services.token.keys.access_token import AccessTokenWriter, ClientGrant
from services.token.keys.signer import public_jwk, thumbprint
from services.token.retention import Retention
from services.token.revocation.revoker import TOKENS_APART, Revoker
from services.token.sessions.refresh import TokenRefresher
from services.token.sessions.sign_in import Issued, SessionIssuer
from tests.conftest import OpenDatabase
from tests.integration.services.token.conftest import AUDIENCE, ISSUER, Clock, Token, assemble
from tests.kit.clients import assertion, jwks
from tests.kit.role_scopes import HERE, ROLES
from tests.kit.signing import OneKey
from tests.kit.tokens import Mint

ADMIN = ROLES.known
APP: dict[str, Any] = {"display_name": "App", "confidential": False, "scopes": ["user:read", "resource:read"]}
MINT, OTHER = Mint("k1"), Mint("k2")
BACKEND: dict[str, Any] = {
    "display_name": "Backend",
    "confidential": True,
    "scopes": ["token:introspect"],
    "jwks": jwks(MINT),
}


@dataclass
class Clients:
    """Token with its clients in the database."""

    token: Token
    desk: ClientAdmin
    directory: ClientDirectory
    own_tokens: ClientCredentialsGrant
    seconds: Clock
    """What the directory goes by."""

    async def own_token(self, text: str, *scopes: str) -> str:
        access_token, _ = await self.own_tokens.issue(text, frozenset(scopes))
        return access_token

    async def is_revoked(self, access_token: str) -> bool:
        await self.token.learn_revocations()
        return self.token.revocations.refuses(self.token.verifier.verify(access_token))

    async def forget(self) -> None:
        """The second goes by after which nothing is remembered."""
        self.seconds.pass_by(seconds=2)


@pytest.fixture
async def clients(open_database: OpenDatabase) -> Clients:
    key = ec.generate_private_key(ec.SECP256R1())
    token = await assemble(await open_database("services.token"), key)
    seconds = Clock()
    directory = ClientDirectory(token.database, clock=lambda: seconds().timestamp())
    revoker, writer = Revoker(token.store, token.log), AccessTokenWriter(OneKey(key), ISSUER, AUDIENCE)
    token.sign_ins = SessionIssuer(token.work, token.store, revoker, writer, directory, ROLES, new_id=uuid7)
    token.refreshes = TokenRefresher(
        token.work, token.store, revoker, token.denials, token.refusals, writer, directory, new_id=uuid7
    )
    return Clients(
        token=token,
        desk=ClientAdmin(token.work, revoker, token.denials, ROLES),
        directory=directory,
        own_tokens=ClientCredentialsGrant(
            token.work,
            token.denials,
            token.refusals,
            writer,
            directory,
            ISSUER,
            new_id=uuid7,
        ),
        seconds=seconds,
    )


async def refusal(call: Any) -> MeshError:
    with pytest.raises(MeshError) as caught:
        await call
    return caught.value


# The file


async def test_the_file_is_sown_once_and_the_database_has_the_say_afterwards(clients: Clients) -> None:
    first = load_clients(HERE / "clients.yaml")
    for _ in range(2):
        await ClientBootstrap(clients.token.work, first).apply()
    assert {event.client for event in await clients.token.events("token.client_created")} == {
        f"clients/{name}" for name in first
    }
    assert {event.actor for event in await clients.token.events()} == {"operator"}
    known = await clients.desk.get("demo")
    assert known.client == first["demo"]
    await clients.desk.update("demo", {"session_limit": 7}, "", ADMIN)
    await clients.desk.delete("backend", "")
    await ClientBootstrap(clients.token.work, first).apply()
    assert (await clients.desk.get("demo")).client.session_limit == 7
    assert isinstance(await refusal(clients.desk.get("backend")), NotFound)


async def test_several_processes_sow_at_once(clients: Clients) -> None:
    first = load_clients(HERE / "clients.yaml")
    await asyncio.gather(*(ClientBootstrap(clients.token.work, first).apply() for _ in range(5)))
    assert len(await clients.token.events("token.client_created")) == len(first)


# Changes


async def test_a_client_is_added_read_changed_and_removed(clients: Clients) -> None:
    created = await clients.desk.create("app", APP, ADMIN)
    assert (created.version, created.client.access_token_seconds, created.client.session_limit) == (1, 600, 0)
    assert await clients.desk.get("app") == created
    changed = await clients.desk.update(
        "app", {"access_token_seconds": 300, "instance_required": True}, created.etag, ADMIN
    )
    assert (changed.client.access_token_seconds, changed.client.instance_required, changed.client.scopes) == (
        300,
        True,
        created.client.scopes,
    )
    assert changed.etag != created.etag
    assert await clients.desk.get("app") == changed
    stale = await refusal(clients.desk.update("app", {"session_limit": 1}, created.etag, ADMIN))
    assert (type(stale), stale.reason) == (Aborted, Reason.ETAG_MISMATCH)
    assert (await refusal(clients.desk.delete("app", created.etag))).reason == Reason.ETAG_MISMATCH
    await clients.desk.delete("app", changed.etag)
    for call in (clients.desk.get("app"), clients.desk.update("app", {}, "", ADMIN), clients.desk.delete("app", "")):
        gone = await refusal(call)
        assert (type(gone), gone.reason) == (NotFound, Reason.CLIENT_NOT_FOUND)
    events = [event for event in await clients.token.events() if event.type.startswith("token.client")]
    assert [(event.type, event.target) for event in events] == [
        ("token.client_created", "clients/app"), ("token.client_updated", "clients/app"),
        ("token.client_deleted", "clients/app"),
    ]  # fmt: skip
    assert dict(events[1].detail) == {
        "fields": "access_token_lifetime instance_required",
        "access_token_lifetime": "300s", "access_token_lifetime_before": "600s", "instance_required": "true",
        "instance_required_before": "false",
    }  # fmt: skip
    assert events[0].detail["scopes"] == "resource:read user:read"
    assert events[0].detail["session_lifetime"] == "7776000s"


async def test_the_trail_tells_which_keys_and_scopes_a_client_had_and_has(clients: Clients) -> None:
    await clients.desk.create("backend", BACKEND, ADMIN)
    await clients.desk.update(
        "backend", {"jwks": jwks(OTHER), "scopes": ["user:read", "token:introspect"], "disabled": True}, "", ADMIN
    )
    (event,) = await clients.token.events("token.client_updated")
    first, second = (f"{mint.key_id}={thumbprint(public_jwk(mint.key.public_key()))}" for mint in (MINT, OTHER))
    assert dict(event.detail) == {
        "fields": "scopes jwks disabled", "sessions": "0", "tokens": "revoked",
        "scopes": "token:introspect user:read", "scopes_before": "token:introspect",
        "jwks": second, "jwks_before": first, "disabled": "true", "disabled_before": "false",
    }  # fmt: skip


async def test_a_change_that_changes_nothing_writes_nothing(clients: Clients) -> None:
    created = await clients.desk.create("app", APP, ADMIN)
    assert await clients.desk.update("app", {"display_name": "App"}, "", ADMIN) == created
    assert not await clients.token.events("token.client_updated")


async def test_an_id_that_is_in_use_is_not_given_again_and_one_of_a_deleted_client_is(clients: Clients) -> None:
    first = await clients.desk.create("app", APP, ADMIN)
    taken = await refusal(clients.desk.create("app", APP, ADMIN))
    assert (type(taken), taken.reason) == (AlreadyExists, Reason.CLIENT_ALREADY_EXISTS)
    await clients.desk.delete("app", "")
    again = await clients.desk.create("app", APP, ADMIN)
    assert again.version > first.version
    assert again.not_before > first.not_before


@pytest.mark.parametrize(("changes", "field"), [
    ({"access_token_seconds": 0}, "client.access_token_lifetime"),
    ({"access_token_seconds": 3601}, "client.access_token_lifetime"),
    ({"refresh_idle_seconds": 59}, "client.refresh_idle_lifetime"),
    ({"session_seconds": 366 * 86400}, "client.session_lifetime"),
    ({"refresh_grace_seconds": 1}, "client.refresh_grace"), ({"refresh_grace_seconds": 301}, "client.refresh_grace"),
    ({"session_limit": 1001}, "client.session_limit"), ({"session_limit": -1}, "client.session_limit"),
    ({"scopes": ["a b"]}, "client.scopes"), ({"scopes": ['"']}, "client.scopes"),
    ({"display_name": "a\x00b"}, "client.display_name"),
    ({"access_token_seconds": 600, "session_seconds": 60}, "client"), ({"jwks": jwks(MINT)}, "client"),
    ({"confidential": True}, "client.confidential"),
])  # fmt: skip
async def test_a_value_out_of_range_is_the_field_s_fault(
    clients: Clients, changes: Mapping[str, Any], field: str
) -> None:
    created = await clients.desk.create("app", APP, ADMIN)
    error = await refusal(clients.desk.update("app", changes, "", ADMIN))
    assert isinstance(error, InvalidArgument)
    assert [violation.field for violation in error.violations] == [field]
    assert await clients.desk.get("app") == created


@pytest.mark.parametrize(
    "client_id",
    ["", "App", "1app", "a" * 64, "a/b", "abcdef0123456789abcdef0123456789", "a190a1b2-c3d4-7000-8000-000000000001"],
)
async def test_an_id_that_is_none_or_could_be_a_person_s_is_refused(clients: Clients, client_id: str) -> None:
    error = await refusal(clients.desk.create(client_id, APP, ADMIN))
    assert [violation.field for violation in error.violations] == ["client.name"]


async def test_a_bad_key_is_the_field_s_fault_and_is_not_repeated(clients: Clients) -> None:
    error = await refusal(
        clients.desk.create("backend", BACKEND | {"jwks": '{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}'}, ADMIN)
    )
    assert [violation.field for violation in error.violations] == ["client.jwks"]
    assert "c2VjcmV0" not in error.message


async def test_lists_go_by_id_from_behind_the_last_one(clients: Clients) -> None:
    for name in ("b", "a-c", "a", "c"):
        await clients.desk.create(name, APP, ADMIN)
    await clients.desk.delete("c", "")
    first = await clients.desk.page("", 2)
    assert [found.id for found in (*first, *await clients.desk.page(first[-1].id, 5))] == ["a", "a-c", "b"]


# Nobody gives more than they have


async def test_nobody_gives_a_confidential_client_more_than_they_have(clients: Clients) -> None:
    narrow = {"admin:clients", "user:read"}
    powerful = BACKEND | {"scopes": ["admin:users", "user:read"]}
    error = await refusal(clients.desk.create("backend", powerful, narrow))
    assert (type(error), error.reason) == (PermissionDenied, Reason.SCOPE_MISSING)
    (denied,) = await clients.token.events("access.denied")
    assert (denied.target, denied.reason) == ("clients/backend", "SCOPE_MISSING")
    await clients.desk.create("backend", powerful, ADMIN)
    # Nor by a key of one's own, nor by opening what was shut.
    for changes in ({"jwks": jwks(MINT, OTHER)}, {"jwks": jwks(OTHER)}, {"scopes": ["admin:users", "admin:keys"]}):
        assert (await refusal(clients.desk.update("backend", changes, "", narrow))).reason == Reason.SCOPE_MISSING
    await clients.desk.update("backend", {"disabled": True}, "", narrow)
    assert (
        await refusal(clients.desk.update("backend", {"disabled": False}, "", narrow))
    ).reason == Reason.SCOPE_MISSING
    await clients.desk.update("backend", {"disabled": False}, "", ADMIN)
    # Nor a scope that no role has: only the operator gives that, in the file.
    unknown = await refusal(clients.desk.create("billing", BACKEND | {"scopes": ["billing:write"]}, ADMIN))
    assert unknown.reason == Reason.SCOPE_MISSING
    assert "roles file" in unknown.message
    # What everybody may have is nobody's privilege; and a public client has only what its users have.
    await clients.desk.create("other", BACKEND | {"scopes": ["user:write"]}, narrow)
    await clients.desk.create("app", APP | {"scopes": ["admin:users"]}, narrow)


# The end of a client


async def sessions(clients: Clients, number: int = 2) -> list[Issued]:
    await clients.desk.create("app", APP, ADMIN)
    return [await clients.token.sign_in(client="app") for _ in range(number)]


@pytest.mark.parametrize("how", ["delete", "disable"])
async def test_a_client_that_goes_takes_its_sessions_and_tokens_along_at_once(clients: Clients, how: str) -> None:
    issued = await sessions(clients)
    await clients.desk.create("bystander", APP, ADMIN)
    other = await clients.token.sign_in(client="bystander")
    if how == "delete":
        await clients.desk.delete("app", "")
    else:
        await clients.desk.update("app", {"disabled": True}, "", ADMIN)
    for one in issued:
        assert await clients.token.refuses(one)
        # While this process still remembers the client, and when it has forgotten it.
        with pytest.raises(Unauthenticated, match="not valid"):
            await clients.token.refresh(one.refresh_token, client="app")
        assert (await clients.token.introspection.introspect(one.refresh_token)) == {"active": False}
    await clients.forget()
    for one in issued:
        with pytest.raises(Unauthenticated, match="not valid"):
            await clients.token.refresh(one.refresh_token, client="app")
    with pytest.raises(InvalidArgument):
        await clients.token.sign_in(client="app")
    assert not await clients.token.refuses(other)
    await clients.token.refresh(other.refresh_token, client="bystander")
    (event,) = await clients.token.events(f"token.client_{'deleted' if how == 'delete' else 'updated'}")
    assert event.detail["sessions"] == "2"


@pytest.mark.parametrize("how", ["delete", "disable"])
async def test_a_client_that_comes_back_gets_tokens_that_are_good_in_the_same_second(
    clients: Clients, how: str
) -> None:
    (before,) = await sessions(clients, 1)
    if how == "delete":
        await clients.desk.delete("app", "")
        await clients.desk.create("app", APP, ADMIN)
    else:
        await clients.desk.update("app", {"disabled": True}, "", ADMIN)
        await clients.desk.update("app", {"disabled": False}, "", ADMIN)
    after = await clients.token.sign_in(client="app")
    assert await clients.token.refuses(before)
    assert not await clients.token.refuses(after)
    refreshed = await clients.token.refresh(after.refresh_token, client="app")
    assert not await clients.token.refuses(refreshed)


@pytest.mark.parametrize("how", ["delete", "disable"])
async def test_a_token_of_a_replica_whose_clock_is_ahead_goes_with_its_client(clients: Clients, how: str) -> None:
    clients.token.clock.pass_by(seconds=20)
    (issued,) = await sessions(clients, 1)
    clients.token.clock.pass_by(seconds=-20)
    await (
        clients.desk.delete("app", "") if how == "delete" else clients.desk.update("app", {"disabled": True}, "", ADMIN)
    )
    assert await clients.token.refuses(issued)


async def test_no_sign_in_that_runs_beside_a_deletion_outlives_it(clients: Clients) -> None:
    for _ in range(5):
        await clients.desk.create("app", APP, ADMIN)
        barrier = asyncio.Barrier(9)

        async def sign_in(barrier: asyncio.Barrier = barrier) -> Issued | None:
            await barrier.wait()
            try:
                return await clients.token.sign_in(client="app")
            except InvalidArgument:
                return None

        async def delete(barrier: asyncio.Barrier = barrier) -> None:
            await barrier.wait()
            await clients.desk.delete("app", "")

        *issued, _ = await asyncio.gather(*(sign_in() for _ in range(8)), delete())
        for one in issued:
            if one is not None:
                assert await clients.token.refuses(one)
    assert await clients.token.database.fetchval("SELECT count(*) FROM sessions WHERE end_time IS NULL") == 0


async def test_many_sessions_end_in_one_go(clients: Clients) -> None:
    await sessions(clients, 1)
    await clients.token.database.execute(
        """
        INSERT INTO sessions (id, subject, client_id, display_name, platform, scopes, roles, not_before, auth_time,
            amr, address, user_agent,
            create_time, last_used_time, refresh_expire_time, expire_time)
        SELECT gen_random_uuid(), subject, client_id, '', '', scopes, roles, not_before, auth_time, amr, '', '',
            create_time, last_used_time,
            refresh_expire_time, expire_time
        FROM sessions, generate_series(1, 9999)
        """
    )
    await clients.desk.delete("app", "")
    (event,) = await clients.token.events("token.client_deleted")
    assert event.detail["sessions"] == "10000"


# Who knows of it when


async def test_a_change_is_known_within_a_second(clients: Clients) -> None:
    await clients.desk.create("app", APP, ADMIN)
    issued = await clients.token.sign_in(client="app")
    before = await clients.token.refresh(issued.refresh_token, client="app")
    await clients.desk.update("app", {"access_token_seconds": 60, "scopes": ["user:read"]}, "", ADMIN)
    await clients.forget()
    after = await clients.token.refresh(before.refresh_token, client="app")
    claims = clients.token.claims(after)
    assert (claims.expires_at - claims.issued_at, claims.scopes) == (60, frozenset({"user:read"}))


async def test_only_so_many_clients_are_remembered(clients: Clients) -> None:
    await clients.desk.create("app", APP, ADMIN)
    for number in range(1100):
        assert await clients.directory.find(f"unknown{number}") is None
    assert len(clients.directory._memories) <= 1000
    assert await clients.directory.find("app")


# Tokens of their own


async def test_a_client_gets_a_token_of_its_own_for_what_it_signed(clients: Clients) -> None:
    await clients.desk.create("backend", BACKEND | {"access_token_seconds": 120}, ADMIN)
    access_token = await clients.own_token(assertion(MINT, "backend", ISSUER, jti="first"))
    claims = clients.token.verifier.verify(access_token)
    assert (claims.subject, claims.client_id, claims.session, claims.scopes) == (
        "backend",
        "backend",
        "",
        frozenset({"token:introspect"}),
    )
    assert (claims.roles, claims.auth_time, claims.amr) == (frozenset(), 0, ())
    assert claims.expires_at - claims.issued_at == 120
    (event,) = await clients.token.events("token.issued")
    assert (event.actor, event.client, event.subject, event.session) == ("clients/backend", "clients/backend", "", "")
    assert dict(event.detail) == {"scopes": "token:introspect", "assertion": "first"}
    answer = await clients.token.introspection.introspect(access_token)
    assert (answer["active"], answer["sub"], answer["client_id"], answer["token_type"]) == (
        True,
        "backend",
        "backend",
        "Bearer",
    )
    assert not answer.keys() & {"sid", "auth_time", "amr"}


async def test_it_has_the_scopes_that_it_asks_for_and_none_that_it_lacks(clients: Clients) -> None:
    await clients.desk.create("backend", BACKEND | {"scopes": ["token:introspect", "user:read"]}, ADMIN)
    narrow = await clients.own_token(assertion(MINT, "backend", ISSUER), "user:read")
    assert clients.token.verifier.verify(narrow).scopes == {"user:read"}
    error = await refusal(clients.own_token(assertion(MINT, "backend", ISSUER), "user:read", "admin:users"))
    assert [violation.field for violation in error.violations] == ["scopes"]


async def test_an_assertion_is_good_once_however_many_send_it_at_once(clients: Clients) -> None:
    await clients.desk.create("backend", BACKEND, ADMIN)
    text = assertion(MINT, "backend", ISSUER, jti="once")
    answers = await asyncio.gather(*(clients.own_token(text) for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(answer, str) for answer in answers) == 1
    assert {answer.reason for answer in answers if isinstance(answer, MeshError)} == {Reason.CREDENTIALS_INVALID}
    refused = await clients.token.events("token.client_refused")
    assert {(event.client, event.reason, event.detail["cause"], event.detail["assertion"]) for event in refused} == {
        ("clients/backend", "CREDENTIALS_INVALID", "replayed", "once")
    }  # fmt: skip
    # Of another client the same jti is another one.
    await clients.desk.create("other", BACKEND, ADMIN)
    await clients.own_token(assertion(MINT, "other", ISSUER, jti="once"))


async def test_it_is_refused_until_it_could_no_longer_be_accepted_and_forgotten_then(clients: Clients) -> None:
    await clients.desk.create("backend", BACKEND, ADMIN)
    now = int(clients.token.clock().timestamp())
    text = assertion(MINT, "backend", ISSUER, exp=now + 60)
    await clients.own_token(text)
    clients.token.clock.pass_by(seconds=118)
    await refusal(clients.own_token(text))
    clients.token.clock.pass_by(seconds=3)
    await refusal(clients.own_token(text))
    assert [event.detail["cause"] for event in await clients.token.events("token.client_refused")] == ["replayed"]
    assert clients.token.refusals.take() == {"assertion of backend: expired": 1}
    kept = await clients.token.database.fetchval("SELECT expire_time FROM client_assertions")
    assert kept.timestamp() == now + 120


@pytest.mark.parametrize(
    "changes", [{"exp": 1}, {"exp": 2_000_000_000}, {"exp": 1, "aud": "https://elsewhere.example"}]
)
async def test_an_assertion_that_can_be_shown_for_years_is_counted_and_leaves_no_event(
    clients: Clients, changes: dict[str, Any]
) -> None:
    await clients.desk.create("backend", BACKEND, ADMIN)
    text = assertion(MINT, "backend", ISSUER, **changes)
    for _ in range(9):
        await refusal(clients.own_token(text))
    assert not await clients.token.events("token.client_refused")
    assert list(clients.token.refusals.take().values()) == [9]


async def test_one_that_was_used_is_written_down_and_not_for_each_of_a_hundred_times(clients: Clients) -> None:
    await clients.desk.create("backend", BACKEND, ADMIN)
    text = assertion(MINT, "backend", ISSUER)
    await clients.own_token(text)
    for _ in range(100):
        await refusal(clients.own_token(text))
    assert len(await clients.token.events("token.client_refused")) == EACH
    await clients.token.denials.flush()
    *_, last = await clients.token.events("token.client_refused")
    assert (last.detail["cause"], last.detail["left_out"]) == ("replayed", str(100 - EACH))


async def test_an_assertion_whose_token_cannot_be_signed_is_good_again(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def out_of_reach(_: object) -> bytes:
        raise Unavailable(Reason.KEYS_UNAVAILABLE, "test")

    await clients.desk.create("backend", BACKEND, ADMIN)
    text = assertion(MINT, "backend", ISSUER)
    with monkeypatch.context() as outage:
        outage.setattr(await clients.own_tokens._writer._keys.active(), "sign", out_of_reach)
        assert (await refusal(clients.own_token(text))).reason is Reason.KEYS_UNAVAILABLE
    assert not await clients.token.events("token.issued")
    assert await clients.own_token(text)


async def test_a_client_that_changes_while_its_token_is_signed_gets_one_of_its_new_state(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    await clients.desk.create("backend", BACKEND | {"scopes": ["token:introspect", "user:read"]}, ADMIN)
    write = clients.own_tokens._writer.write_client

    async def change_first(grant: ClientGrant) -> str:
        if "user:read" in grant.scopes:
            await clients.desk.update("backend", {"scopes": ["token:introspect"]}, "", ADMIN)
        return await write(grant)

    monkeypatch.setattr(clients.own_tokens._writer, "write_client", change_first)
    access_token = await clients.own_token(assertion(MINT, "backend", ISSUER))
    assert clients.token.verifier.verify(access_token).scopes == {"token:introspect"}
    assert not await clients.is_revoked(access_token)


async def test_twenty_of_a_client_s_tokens_are_revoked_one_by_one_within_the_hour(clients: Clients) -> None:
    await clients.desk.create("backend", BACKEND, ADMIN)
    for _ in range(TOKENS_APART):
        await clients.token.sign_outs.revoke_token(await clients.own_token(assertion(MINT, "backend", ISSUER)))
    one_more = await clients.own_token(assertion(MINT, "backend", ISSUER))
    error = await refusal(clients.token.sign_outs.revoke_token(one_more))
    assert (type(error), error.reason) == (ResourceExhausted, Reason.RATE_LIMITED)
    assert error.retry_after
    # What the message says.
    await clients.desk.update("backend", {"jwks": jwks(OTHER)}, "", ADMIN)
    assert await clients.is_revoked(one_more)


async def test_a_client_whose_tokens_are_revoked_again_and_again_gets_no_tokens_of_the_future(clients: Clients) -> None:
    await clients.desk.create("app", APP, ADMIN)
    with pytest.raises(ResourceExhausted) as caught:
        for number in range(200):
            await clients.desk.update("app", {"disabled": number % 2 == 0}, "", ADMIN)
    assert caught.value.reason is Reason.RATE_LIMITED
    assert caught.value.retry_after
    clients.token.clock.pass_by(seconds=caught.value.retry_after.total_seconds() + 1)
    await clients.desk.update("app", {"disabled": True}, "", ADMIN)
    await clients.desk.update("app", {"disabled": False}, "", ADMIN)
    issued = await clients.token.sign_in(client="app")
    # Verified, too: its `iat` is not too far ahead.
    assert not await clients.token.refuses(issued)


async def test_it_can_be_revoked_and_what_was_used_is_purged(clients: Clients) -> None:
    await clients.desk.create("backend", BACKEND, ADMIN)
    access_token = await clients.own_token(assertion(MINT, "backend", ISSUER))
    await clients.token.sign_outs.revoke_token(access_token)
    assert await clients.is_revoked(access_token)
    (event,) = await clients.token.events("token.revoked")
    assert (event.client, event.subject, event.session) == ("clients/backend", "", "")
    purge = Retention(clients.token.database, clock=clients.token.clock)
    await purge.step()
    assert await clients.token.database.fetchval("SELECT count(*) FROM client_assertions") == 1
    clients.token.clock.pass_by(days=2)
    await purge.step()
    assert await clients.token.database.fetchval("SELECT count(*) FROM client_assertions") == 0


async def test_an_id_that_no_client_can_have_is_an_unknown_one(clients: Clients) -> None:
    await clients.desk.create("app", APP, ADMIN)
    issued = await clients.token.sign_in(client="app")
    for odd in ("a\x00pp", "äpp", "a pp", "x" * 300):
        assert (await refusal(clients.token.refresh(issued.refresh_token, client=odd))).reason == Reason.REFRESH_INVALID
        assert isinstance(await refusal(clients.token.sign_in(client=odd)), InvalidArgument)
    assert (await clients.token.refresh(issued.refresh_token, client="app")).access_token


async def test_no_token_lives_longer_than_the_deployment_allows_by_now(clients: Clients) -> None:
    await clients.desk.create("app", APP | {"access_token_seconds": 3600}, ADMIN)
    await clients.desk.create("backend", BACKEND | {"access_token_seconds": 3600}, ADMIN)
    shorter = ClientDirectory(clients.token.database, longest_token=timedelta(seconds=300))
    async with clients.token.database.transaction() as tx:
        held = [await shorter.hold(tx, "app"), await shorter.hold(tx, "backend")]
    found = await shorter.find("app")
    assert found
    assert {found.access_token_seconds, *(one.client.access_token_seconds for one in held if one)} == {300}


async def test_every_refusal_reads_the_same(clients: Clients) -> None:
    await clients.desk.create("backend", BACKEND, ADMIN)
    await clients.desk.create("keyless", BACKEND | {"jwks": ""}, ADMIN)
    await clients.desk.create("shut", BACKEND | {"disabled": True}, ADMIN)
    await clients.desk.create("app", APP, ADMIN)
    used = assertion(MINT, "backend", ISSUER)
    await clients.own_token(used)
    bad = [
        "garbage", used, assertion(OTHER, "backend", ISSUER, header={"kid": "k1"}), assertion(MINT, "backend",
        "https://elsewhere.example"),
        assertion(MINT, "backend", ISSUER, exp=1), assertion(MINT, "nobody", ISSUER), assertion(MINT, "keyless",
        ISSUER),
        assertion(MINT, "shut", ISSUER), assertion(MINT, "app", ISSUER), assertion(MINT, "x" * 200, ISSUER),
        assertion(MINT, "a\u00df", ISSUER),
    ]  # fmt: skip
    answers = {
        (type(error), error.reason, error.message) for error in [await refusal(clients.own_token(text)) for text in bad]
    }
    assert answers == {(Unauthenticated, Reason.CREDENTIALS_INVALID, "the client assertion is not valid")}
    # Only what the client itself signed is written down: a stranger fills no table.
    causes = [event.detail["cause"] for event in await clients.token.events("token.client_refused")]
    assert sorted(causes) == ["audience", "replayed"]


async def test_a_key_or_scope_that_goes_takes_the_client_s_tokens_along(clients: Clients) -> None:
    await clients.desk.create("backend", BACKEND | {"scopes": ["token:introspect", "user:read"]}, ADMIN)
    first = await clients.own_token(assertion(MINT, "backend", ISSUER))
    await clients.desk.update("backend", {"jwks": jwks(MINT, OTHER)}, "", ADMIN)
    assert not await clients.is_revoked(first)
    await clients.desk.update("backend", {"jwks": jwks(OTHER)}, "", ADMIN)
    assert await clients.is_revoked(first)
    # The key is gone at once, though this process may remember it.
    assert (await refusal(clients.own_token(assertion(MINT, "backend", ISSUER)))).reason == Reason.CREDENTIALS_INVALID
    await clients.forget()
    second = await clients.own_token(assertion(OTHER, "backend", ISSUER))
    assert not await clients.is_revoked(second)
    await clients.desk.update("backend", {"scopes": ["token:introspect"]}, "", ADMIN)
    assert await clients.is_revoked(second)
    third = await clients.own_token(assertion(OTHER, "backend", ISSUER))
    assert not await clients.is_revoked(third)
    await clients.desk.delete("backend", "")
    assert await clients.is_revoked(third)


async def test_what_the_database_has_is_what_was_written(clients: Clients) -> None:
    values = BACKEND | {
        "refresh_grace_seconds": 5,
        "session_limit": 3,
        "instance_required": True,
        "disabled": True,
        "session_seconds": 3600,
    }
    created = await clients.desk.create("backend", values, ADMIN)
    assert created.client == Client.model_validate(values)
    found = await find_client(clients.token.database, "backend")
    assert isinstance(found, ClientRecord)
    assert found == created


async def test_a_deployment_whose_keys_are_kept_for_less_takes_no_client_with_longer_tokens(clients: Clients) -> None:
    token, longest = clients.token, timedelta(seconds=300)
    short = ClientAdmin(token.work, Revoker(token.store, token.log), token.denials, ROLES, longest_token=longest)
    created = await short.create("app", APP | {"access_token_seconds": 300}, ADMIN)
    for change in (
        short.create("other", APP, ADMIN),
        short.update("app", {"access_token_seconds": 301}, created.etag, ADMIN),
    ):
        error = await refusal(change)
        assert isinstance(error, InvalidArgument)
        assert [item.field for item in error.violations] == ["client.access_token_lifetime"]
