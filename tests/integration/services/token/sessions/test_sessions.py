"""Starting, listing and ending sessions, and following what User decides."""

import asyncio
import uuid
from datetime import timedelta

import pytest

from mesh.errors import InvalidArgument, MeshError, NotFound, Reason, Unauthenticated
from mesh.ids import uuid7
from services.token.retention import Retention
from services.token.revocation.revoker import TOKENS_APART
from tests.integration.services.token.conftest import Token
from tests.kit.role_scopes import ROLES

ALICE, BOB = uuid.uuid4(), uuid.uuid4()


async def live(token: Token, subject: uuid.UUID) -> list[uuid.UUID]:
    return [session.id for session in await token.sign_outs.live_sessions(subject, None, 100)]


async def test_a_sign_in_gives_all_that_the_user_may_have_and_is_written_down(token: Token) -> None:
    issued = await token.sign_in(ALICE)
    assert issued.grant.scopes == ROLES.allowed([])
    (event,) = await token.events()
    assert (event.type, event.subject, event.actor) == ("token.issued", f"users/{ALICE}", f"users/{ALICE}")
    assert (event.address, event.user_agent, event.client) == ("192.0.2.7", "test/1", "clients/demo")


@pytest.mark.parametrize(("changes", "field"), [
    ({"client": "nobody"}, "client_id"), ({"client": "backend"}, "client_id"),
    ({"scopes": frozenset({"nonsense"})}, "scopes"),
    ({"scopes": frozenset({"admin:users"})}, "scopes"), ({"client": "strict"}, "device.instance_id"),
    ({"amr": ("p w d",)}, "amr"),
])  # fmt: skip
async def test_an_impossible_sign_in_names_the_field_and_writes_nothing(
    token: Token, changes: dict[str, object], field: str
) -> None:
    token.clients["backend"] = token.clients["demo"].model_copy(update={"confidential": True})
    token.clients["strict"] = token.clients["demo"].model_copy(update={"instance_required": True})
    with pytest.raises(InvalidArgument) as caught:
        await token.sign_in(ALICE, **changes)  # type: ignore[arg-type]
    assert caught.value.violations[0].field == field
    assert await token.events() == []
    assert await token.database.fetchval("SELECT count(*) FROM sessions") == 0


@pytest.mark.parametrize(
    ("client", "scopes", "field"),
    [
        ("nobody", set(), "client_id"),
        ("backend", set(), "client_id"),
        ("strict", set(), "device.instance_id"),
        ("demo", {"nonsense", "user:read"}, "scopes"),
        ("narrow", {"user:write"}, "scopes"),
    ],
)
async def test_what_nobody_can_have_is_refused_before_anybody_is_known(
    token: Token, client: str, scopes: set[str], field: str
) -> None:
    token.clients["backend"] = token.clients["demo"].model_copy(update={"confidential": True})
    token.clients["strict"] = token.clients["demo"].model_copy(update={"instance_required": True})
    token.clients["narrow"] = token.clients["demo"].model_copy(update={"scopes": frozenset({"user:read"})})
    with pytest.raises(InvalidArgument) as caught:
        await token.sign_ins.check(client, None, frozenset(scopes))
    assert caught.value.violations[0].field == field


async def test_what_somebody_can_have_passes_the_check(token: Token) -> None:
    token.clients["strict"] = token.clients["demo"].model_copy(update={"instance_required": True})
    await token.sign_ins.check("strict", uuid.uuid4(), frozenset())
    # Some people may have it with this client. Who this is, is not asked.
    await token.sign_ins.check("demo", None, frozenset({"admin:users"}))


async def test_the_session_used_longest_ago_ends_when_there_is_one_too_many(token: Token) -> None:
    token.clients["demo"] = token.clients["demo"].model_copy(update={"session_limit": 2})
    first = await token.sign_in(ALICE)
    token.clock.pass_by(seconds=5)
    second = await token.sign_in(ALICE)
    token.clock.pass_by(seconds=5)
    first = await token.refresh(first.refresh_token)
    token.clock.pass_by(seconds=5)
    third = await token.sign_in(ALICE)
    assert set(await live(token, ALICE)) == {first.grant.session_id, third.grant.session_id}
    assert await token.refuses(second)
    (event,) = await token.events("token.revoked")
    assert event.detail["cause"] == "session_limit"


@pytest.mark.parametrize("limit", [1, 2])
async def test_the_newest_session_never_ends_itself(token: Token, limit: int) -> None:
    token.clients["demo"] = token.clients["demo"].model_copy(update={"session_limit": limit})
    # In one second: cut to it, the new session would be the one used longest ago.
    token.clock.now = token.clock.now.replace(microsecond=100_000)
    held = [await token.sign_in(ALICE) for _ in range(limit)]
    token.clock.pass_by(seconds=0.4)
    held = [await token.refresh(one.refresh_token) for one in held]
    token.clock.pass_by(seconds=0.1)
    newest = await token.sign_in(ALICE)
    assert newest.grant.session_id in await live(token, ALICE)
    assert not await token.refuses(newest)
    assert await token.refuses(held[0])
    assert len(await live(token, ALICE)) == limit


async def test_of_two_sessions_used_in_one_second_the_one_used_earlier_ends(token: Token) -> None:
    token.clients["demo"] = token.clients["demo"].model_copy(update={"session_limit": 2})
    token.clock.now = token.clock.now.replace(microsecond=100_000)
    refreshed = await token.sign_in(ALICE)
    refreshed = await token.refresh(refreshed.refresh_token)
    token.clock.pass_by(seconds=0.5)
    later = await token.sign_in(ALICE)
    newest = await token.sign_in(ALICE)
    assert set(await live(token, ALICE)) == {later.grant.session_id, newest.grant.session_id}


async def test_sessions_are_listed_newest_first_page_by_page_and_only_one_s_own(token: Token) -> None:
    await token.sign_in(BOB)
    sessions = []
    for _ in range(5):
        sessions.append((await token.sign_in(ALICE)).grant.session_id)
        token.clock.pass_by(seconds=1)
    page = await token.sign_outs.live_sessions(ALICE, None, 3)
    rest = await token.sign_outs.live_sessions(ALICE, page[-1].id, 3)
    assert [session.id for session in (*page, *rest)] == sessions[::-1]
    assert page[0].display_name == "Ada's phone"


async def test_ended_and_expired_sessions_are_not_listed(token: Token) -> None:
    ended, expired = await token.sign_in(ALICE), await token.sign_in(ALICE)
    await token.sign_outs.end_session(ALICE, ended.grant.session_id)
    assert await live(token, ALICE) == [expired.grant.session_id]
    token.clock.pass_by(days=15)
    assert await live(token, ALICE) == []


async def test_nobody_ends_somebody_else_s_session(token: Token) -> None:
    issued = await token.sign_in(ALICE)
    await token.sign_outs.end_session(BOB, issued.grant.session_id)
    await token.sign_outs.end_session(ALICE, uuid.uuid4())
    assert await live(token, ALICE) == [issued.grant.session_id]
    assert not await token.refuses(issued)


async def test_all_sessions_end_but_the_current_one(token: Token) -> None:
    current, other = await token.sign_in(ALICE), await token.sign_in(ALICE)
    bob = await token.sign_in(BOB)
    assert await token.sign_outs.end_all_sessions(ALICE, current.grant.session_id) == 1
    assert await token.refuses(other)
    assert not await token.refuses(current)
    assert await token.sign_outs.end_all_sessions(ALICE, None) == 1
    assert await token.sign_outs.end_all_sessions(ALICE, None) == 0
    assert await token.refuses(current)
    assert not await token.refuses(bob)
    assert len(await token.events("token.revoked")) == 2


async def test_an_access_token_is_revoked_alone_and_once(token: Token) -> None:
    first = await token.sign_in(ALICE)
    second = await token.refresh(first.refresh_token)
    await token.sign_outs.revoke_token(first.access_token)
    assert await token.refuses(first)
    assert not await token.refuses(second)
    await token.refresh(second.refresh_token)


@pytest.mark.parametrize("garbage", ["x", "a.b.c", "amrt_" + "A" * 43, "", "\x00", "é"])
async def test_revoking_what_nobody_knows_is_no_error_and_leaves_no_trace(token: Token, garbage: str) -> None:
    await token.sign_outs.revoke_token(garbage)
    assert await token.events() == []


async def test_more_than_twenty_tokens_of_a_session_cost_the_session_and_no_more_memory(token: Token) -> None:
    current = await token.sign_in(ALICE)
    other = await token.sign_in(ALICE)
    for _ in range(TOKENS_APART):
        await token.sign_outs.revoke_token(current.access_token)
        assert await token.refuses(current)
        current = await token.refresh(current.refresh_token)
    assert not await token.refuses(current)
    await token.sign_outs.revoke_token(current.access_token)
    assert await token.refuses(current)
    assert await live(token, ALICE) == [other.grant.session_id]
    assert token.revocations.sizes == {"token": TOKENS_APART, "session": 1, "subject": 0, "client": 0, "key": 0}
    events = await token.events("token.revoked")
    assert [event.detail["cause"] for event in events] == ["token_revoked"] * TOKENS_APART + ["tokens_revoked"]


async def test_of_any_number_of_repeats_at_once_one_is_written(token: Token) -> None:
    issued = await token.sign_in(ALICE)
    await asyncio.gather(*(token.sign_outs.revoke_token(issued.access_token) for _ in range(30)))
    assert len(await token.events("token.revoked")) == 1
    assert await token.refuses(issued)
    # Nor of one of a session that has ended.
    await token.sign_outs.end_session(ALICE, issued.grant.session_id)
    await token.sign_outs.revoke_token(issued.access_token)
    assert len(await token.events("token.revoked")) == 2


async def test_twenty_tokens_within_the_hour_are_counted_and_no_older_ones(token: Token) -> None:
    current = await token.sign_in(ALICE)
    for _ in range(2 * TOKENS_APART):
        await token.sign_outs.revoke_token(current.access_token)
        token.clock.pass_by(minutes=5)
        current = await token.refresh(current.refresh_token)
    assert await live(token, ALICE) == [current.grant.session_id]


async def test_an_expired_access_token_is_not_revoked_again(token: Token) -> None:
    issued = await token.sign_in(ALICE)
    token.clock.pass_by(hours=1)
    await token.sign_outs.revoke_token(issued.access_token)
    assert await token.events("token.revoked") == []


async def test_an_old_refresh_token_still_signs_out(token: Token) -> None:
    first = await token.sign_in(ALICE)
    second = await token.refresh(first.refresh_token)
    await token.sign_outs.revoke_token(first.refresh_token)
    await token.sign_outs.revoke_token(first.refresh_token)
    assert await token.refuses(second)
    assert len(await token.events("token.revoked")) == 1


async def test_new_roles_come_with_the_next_refresh_and_old_tokens_are_refused(token: Token) -> None:
    first = await token.sign_in(ALICE)
    await token.subjects.set_grants(ALICE, ["admin"], disabled=False, version=1)
    assert await token.refuses(first)
    second = await token.refresh(first.refresh_token)
    assert second.grant.roles == {"admin"}
    assert not await token.refuses(second)
    # Scopes are those of the sign-in: an administrator's come with a new one.
    assert "admin:users" not in second.grant.scopes
    assert "admin:users" in (await token.sign_in(ALICE)).grant.scopes


async def test_scopes_of_a_lost_role_are_gone_with_the_next_refresh(token: Token) -> None:
    await token.subjects.set_grants(ALICE, ["admin"], disabled=False, version=1)
    first = await token.sign_in(ALICE)
    assert "admin:users" in first.grant.scopes
    await token.subjects.set_grants(ALICE, [], disabled=False, version=2)
    assert await token.refuses(first)
    second = await token.refresh(first.refresh_token)
    assert "admin:users" not in second.grant.scopes
    assert "user:read" in second.grant.scopes
    with pytest.raises(MeshError) as caught:
        await token.refresh(second.refresh_token, scopes=frozenset({"admin:users"}))
    assert caught.value.reason is Reason.SCOPE_MISSING


async def test_every_token_after_a_change_is_good_however_fast_the_changes_follow(token: Token) -> None:
    current = await token.sign_in(ALICE)
    for version in range(1, 6):
        await token.subjects.set_grants(ALICE, ["admin"] * (version % 2), disabled=False, version=version)
        assert await token.refuses(current)
        current = await token.refresh(current.refresh_token)
        assert not await token.refuses(current)
        assert not await token.refuses(await token.sign_in(ALICE))


@pytest.mark.parametrize(("change", "issued_by"), [
    ("roles", "sign_in"), ("roles", "refresh"), ("roles", "nobody"), ("disabled", "sign_in"), ("revoked", "sign_in"),
    ("revoked", "nobody"),
])  # fmt: skip
async def test_a_fresh_token_is_good_however_many_changes_a_second_has(
    token: Token, change: str, issued_by: str
) -> None:
    current = await token.sign_in(ALICE)
    for number in range(65):
        if change == "revoked":
            await token.subjects.revoke(ALICE, uuid.uuid4())
        elif change == "disabled":
            await token.subjects.set_grants(ALICE, [], disabled=True, version=2 * number + 1)
            await token.subjects.set_grants(ALICE, [], disabled=False, version=2 * number + 2)
        else:
            await token.subjects.set_grants(ALICE, [] if number % 2 else ["admin"], disabled=False, version=number + 1)
        assert await token.refuses(current)
        if issued_by == "nobody":
            continue
        try:
            current = await (token.refresh(current.refresh_token) if issued_by == "refresh" else token.sign_in(ALICE))
        except Unauthenticated:
            current = await token.sign_in(ALICE)
        # That it is verified says that its `iat` is not too far ahead.
        assert not await token.refuses(current)
    fresh = await token.sign_in(ALICE)
    assert not await token.refuses(fresh)
    assert token.claims(fresh).issued_at - token.clock().timestamp() <= (31 if issued_by != "nobody" else 1)


async def test_late_and_repeated_grants_change_nothing(token: Token) -> None:
    await token.subjects.set_grants(ALICE, ["admin"], disabled=False, version=5)
    issued = await token.sign_in(ALICE)
    await token.subjects.set_grants(ALICE, [], disabled=True, version=4)
    await token.subjects.set_grants(ALICE, [], disabled=True, version=5)
    assert not await token.refuses(issued)
    assert len(await token.events("token.grants_changed")) == 1


@pytest.mark.parametrize("role", ["a b", "", "a\x00", "é"])
async def test_a_role_that_no_token_can_carry_is_refused(token: Token, role: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await token.subjects.set_grants(ALICE, [role], disabled=False, version=1)
    assert caught.value.violations[0].field == "roles"


async def test_the_first_grants_of_a_new_user_refuse_nothing(token: Token) -> None:
    issued = await token.sign_in(ALICE)
    await token.subjects.set_grants(ALICE, [], disabled=False, version=1)
    assert not await token.refuses(issued)
    assert await token.events("token.grants_changed") == []


async def test_a_disabled_user_loses_everything_at_once_and_cannot_come_back(token: Token) -> None:
    issued = await token.sign_in(ALICE)
    await token.subjects.set_grants(ALICE, [], disabled=True, version=1)
    assert await token.refuses(issued)
    assert await live(token, ALICE) == []
    with pytest.raises(Unauthenticated) as caught:
        await token.refresh(issued.refresh_token)
    assert caught.value.reason is Reason.REFRESH_INVALID
    with pytest.raises(Unauthenticated) as caught:
        await token.sign_in(ALICE)
    assert caught.value.reason is Reason.CREDENTIALS_INVALID
    await token.subjects.set_grants(ALICE, [], disabled=False, version=2)
    assert not await token.refuses(await token.sign_in(ALICE))
    assert [event.type for event in await token.events()] == [
        "token.issued", "token.grants_changed", "token.subject_revoked", "token.grants_changed", "token.issued",
    ]  # fmt: skip


@pytest.mark.parametrize("change", ["revoked", "disabled", "roles"])
async def test_a_token_of_a_replica_whose_clock_is_ahead_is_refused_too(token: Token, change: str) -> None:
    token.clock.pass_by(seconds=20)
    issued = await token.sign_in(ALICE)
    refreshed = await token.refresh(issued.refresh_token)
    token.clock.pass_by(seconds=-20)
    if change == "revoked":
        await token.subjects.revoke(ALICE, uuid.uuid4())
    else:
        await token.subjects.set_grants(ALICE, ["admin"], disabled=change == "disabled", version=1)
    assert await token.refuses(issued)
    assert await token.refuses(refreshed)


async def test_a_revoked_subject_may_sign_in_again_and_a_repeat_of_the_command_does_no_harm(token: Token) -> None:
    issued = await token.sign_in(ALICE)
    command = uuid.uuid4()
    await token.subjects.revoke(ALICE, command)
    assert await token.refuses(issued)
    again = await token.sign_in(ALICE)
    await token.subjects.revoke(ALICE, command)
    assert not await token.refuses(again)
    assert len(await token.events("token.subject_revoked")) == 1


async def test_a_session_that_is_kept_goes_on_when_the_others_of_its_subject_end(token: Token) -> None:
    kept, other, command = await token.sign_in(ALICE), await token.sign_in(ALICE), uuid.uuid4()
    for _ in range(2):
        await token.subjects.revoke(ALICE, command, keep=kept.grant.session_id)
    assert await token.refuses(other)
    assert not await token.refuses(kept)
    assert await live(token, ALICE) == [kept.grant.session_id]
    assert not await token.refuses(await token.refresh(kept.refresh_token))
    (revoked,) = await token.events("token.subject_revoked")
    assert revoked.detail["sessions"] == "1"


async def test_introspection_follows_rfc_7662(token: Token) -> None:
    issued = await token.sign_in(ALICE, scopes=frozenset({"user:read", "resource:read"}))
    access = await token.introspection.introspect(issued.access_token)
    assert access["active"] is True
    assert (access["sub"], access["client_id"], access["scope"]) == (str(ALICE), "demo", "resource:read user:read")
    assert (access["token_type"], access["exp"] - access["iat"]) == ("Bearer", 600)
    # As in the token itself: no roles, no member.
    assert "roles" not in access
    refresh = await token.introspection.introspect(issued.refresh_token)
    assert (refresh["active"], refresh["sub"], refresh["client_id"]) == (True, str(ALICE), "demo")
    assert "token_type" not in refresh


async def test_whatever_is_not_good_is_merely_inactive(token: Token) -> None:
    first = await token.sign_in(ALICE)
    second = await token.refresh(first.refresh_token)
    for dead in (first.refresh_token, "x", "a.b.c", "", "amrt_" + "A" * 43):
        assert await token.introspection.introspect(dead) == {"active": False}
    await token.sign_outs.end_session(ALICE, second.grant.session_id)
    assert await token.introspection.introspect(second.refresh_token) == {"active": False}
    token.clock.pass_by(hours=1)
    assert await token.introspection.introspect(second.access_token) == {"active": False}


async def test_rows_that_can_never_be_used_again_are_purged_and_no_others(token: Token) -> None:
    old = await token.sign_in(ALICE)
    await token.sign_outs.revoke_token(old.access_token)
    await token.subjects.revoke(BOB, uuid.uuid4())
    token.clock.pass_by(days=10)
    young = await token.refresh(old.refresh_token)
    token.clock.pass_by(days=7)
    purge = Retention(token.database, clock=token.clock)
    assert not await purge.step()
    count = (
        "SELECT (SELECT count(*) FROM refresh_tokens), (SELECT count(*) FROM sessions), (SELECT "
        "count(*) FROM revocations)"
    )
    # The newest revocation is what a publisher recognises its log by.
    assert tuple(await token.database.fetchrow(count) or ()) == (1, 1, 1)
    await token.refresh(young.refresh_token)
    token.clock.pass_by(days=120)
    await purge.step()
    assert tuple(await token.database.fetchrow(count) or ()) == (0, 0, 1)


async def test_the_next_tokens_say_that_the_person_signed_in_anew(token: Token) -> None:
    issued = await token.sign_in()
    subject, session = issued.grant.subject, issued.grant.session_id
    token.clock.pass_by(minutes=9)
    later = token.clock().replace(microsecond=0)
    await token.sign_ins.reauthenticate(subject, session, later, ["otp"])
    # A repeat that comes late takes nothing back.
    await token.sign_ins.reauthenticate(subject, session, later - timedelta(minutes=5), ["otp"])
    refreshed = await token.refresh(issued.refresh_token)
    assert (refreshed.grant.auth_time, refreshed.grant.amr) == (later, ("pwd", "otp"))
    events = await token.database.fetch("SELECT payload FROM outbox WHERE destination = 'token.reauthenticated'")
    assert len(events) == 2


async def test_only_a_live_session_of_the_person_is_authenticated_anew(token: Token) -> None:
    issued, other = await token.sign_in(), await token.sign_in()
    subject, session = issued.grant.subject, issued.grant.session_id
    for whose, which in ((other.grant.subject, session), (subject, uuid7())):
        with pytest.raises(NotFound):
            await token.sign_ins.reauthenticate(whose, which, token.clock(), ["pwd"])
    with pytest.raises(InvalidArgument):
        await token.sign_ins.reauthenticate(subject, session, token.clock(), ["two words"])
    await token.sign_outs.end_session(subject, session)
    with pytest.raises(NotFound):
        await token.sign_ins.reauthenticate(subject, session, token.clock(), ["pwd"])


async def test_a_role_that_needs_a_second_factor_gives_no_scope_without_one(token: Token) -> None:
    token.sign_ins._mfa_roles = frozenset({"admin"})
    subject = uuid7()
    await token.subjects.set_grants(subject, ["admin"], False, 1)
    alone, both = await token.sign_in(subject), await token.sign_in(subject, amr=("pwd", "otp"))
    assert "admin:users" in both.grant.scopes
    assert "admin:users" not in alone.grant.scopes
    assert alone.grant.roles == both.grant.roles == {"admin"}
    assert "admin:users" not in (await token.refresh(alone.refresh_token)).grant.scopes
    with pytest.raises(InvalidArgument):
        await token.sign_in(subject, scopes=frozenset({"admin:users"}))
