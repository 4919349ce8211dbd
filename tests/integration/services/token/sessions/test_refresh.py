"""What a refresh token is worth, on a real PostgreSQL: each row of the lineage's rules with its reason and its audit
event."""

import uuid

import pytest

from mesh.errors import MeshError, PermissionDenied, Reason, Unauthenticated, Unavailable
from mesh.tokens.denials import EACH
from services.token.sessions.sign_in import Issued
from tests.integration.services.token.conftest import Token

PHONE = uuid.uuid4()
LAPTOP = uuid.uuid4()


async def refusal(token: Token, refresh_token: str, **request: object) -> Reason:
    with pytest.raises(MeshError) as caught:
        await token.refresh(refresh_token, **request)  # type: ignore[arg-type]
    return caught.value.reason


async def event_types(token: Token) -> list[str]:
    return [event.type for event in await token.events()]


def same_answer(token: Token, one: Issued, other: Issued) -> bool:
    """The same tokens to the eye of everybody but the signature's."""
    return (
        one.refresh_token == other.refresh_token
        and one.grant == other.grant
        and token.claims(one) == token.claims(other)
    )


async def test_a_refresh_rotates_and_keeps_the_session(token: Token) -> None:
    first = await token.sign_in(instance=PHONE)
    token.clock.pass_by(minutes=9)
    second = await token.refresh(first.refresh_token, instance=PHONE)
    assert second.refresh_token != first.refresh_token
    old, new = token.claims(first), token.claims(second)
    assert (new.subject, new.session, new.client_id, new.scopes, new.auth_time, new.amr) == (
        old.subject, old.session, old.client_id, old.scopes, old.auth_time, old.amr,
    )  # fmt: skip
    assert new.token_id != old.token_id
    assert new.issued_at > old.issued_at
    assert not await token.refuses(first)


async def test_the_refresh_writes_a_complete_event_in_the_same_statement(token: Token) -> None:
    first = await token.sign_in(instance=PHONE)
    await token.refresh(first.refresh_token, instance=PHONE)
    (event,) = await token.events("token.refreshed")
    subject, session = first.grant.subject, first.grant.session_id
    assert (event.subject, event.actor) == (f"users/{subject}", f"users/{subject}")
    assert event.session == f"users/{subject}/sessions/{session}"
    assert event.client == "clients/demo"
    assert event.source == "token"
    assert event.event_id


async def test_a_lost_answer_is_given_again_signed_anew(token: Token) -> None:
    first = await token.sign_in(instance=PHONE)
    answer = await token.refresh(first.refresh_token, instance=PHONE)
    token.clock.pass_by(seconds=29)
    again = await token.refresh(first.refresh_token, instance=PHONE)
    assert same_answer(token, answer, again)
    assert again.access_token != answer.access_token
    assert await event_types(token) == ["token.issued", "token.refreshed", "token.grace_replay"]


async def test_a_race_within_two_seconds_leaves_no_event(token: Token) -> None:
    first = await token.sign_in()
    answer = await token.refresh(first.refresh_token)
    token.clock.pass_by(seconds=1.9)
    for _ in range(5):
        assert same_answer(token, answer, await token.refresh(first.refresh_token))
    assert await event_types(token) == ["token.issued", "token.refreshed"]


async def test_after_the_grace_a_spent_token_ends_the_family(token: Token) -> None:
    first = await token.sign_in(instance=PHONE)
    second = await token.refresh(first.refresh_token, instance=PHONE)
    token.clock.pass_by(seconds=31)
    assert await refusal(token, first.refresh_token, instance=PHONE) is Reason.REFRESH_REUSED
    assert await refusal(token, second.refresh_token, instance=PHONE) is Reason.REFRESH_INVALID
    assert await token.refuses(second)
    (event,) = await token.events("token.reuse_detected")
    assert event.reason == Reason.REFRESH_REUSED
    assert event.session.endswith(str(first.grant.session_id))


async def test_without_an_instance_the_grace_is_ten_seconds(token: Token) -> None:
    first = await token.sign_in()
    answer = await token.refresh(first.refresh_token)
    token.clock.pass_by(seconds=9)
    assert same_answer(token, answer, await token.refresh(first.refresh_token))
    token.clock.pass_by(seconds=2)
    assert await refusal(token, first.refresh_token) is Reason.REFRESH_REUSED


async def test_reuse_of_a_grandparent_revokes_the_family(token: Token) -> None:
    first = await token.sign_in(instance=PHONE)
    second = await token.refresh(first.refresh_token, instance=PHONE)
    third = await token.refresh(second.refresh_token, instance=PHONE)
    assert await refusal(token, first.refresh_token, instance=PHONE) is Reason.REFRESH_REUSED
    assert await refusal(token, third.refresh_token, instance=PHONE) is Reason.REFRESH_INVALID
    assert await token.refuses(first)
    assert await token.refuses(third)


async def test_more_than_three_late_repetitions_of_one_parent_are_reuse(token: Token) -> None:
    first = await token.sign_in(instance=PHONE)
    answer = await token.refresh(first.refresh_token, instance=PHONE)
    token.clock.pass_by(seconds=3)
    for _ in range(3):
        assert same_answer(token, answer, await token.refresh(first.refresh_token, instance=PHONE))
    assert await refusal(token, first.refresh_token, instance=PHONE) is Reason.REFRESH_REUSED


async def test_three_generations_with_late_repetitions_in_a_row_are_reuse(token: Token) -> None:
    current = await token.sign_in(instance=PHONE)
    for _ in range(2):
        following = await token.refresh(current.refresh_token, instance=PHONE)
        token.clock.pass_by(seconds=3)
        await token.refresh(current.refresh_token, instance=PHONE)
        current = following
    await token.refresh(current.refresh_token, instance=PHONE)
    token.clock.pass_by(seconds=3)
    assert await refusal(token, current.refresh_token, instance=PHONE) is Reason.REFRESH_REUSED


async def test_a_generation_without_repetition_starts_the_count_anew(token: Token) -> None:
    current = await token.sign_in(instance=PHONE)
    for repeated in (True, True, False, True, True):
        following = await token.refresh(current.refresh_token, instance=PHONE)
        token.clock.pass_by(seconds=3)
        if repeated:
            await token.refresh(current.refresh_token, instance=PHONE)
        current = following


@pytest.mark.parametrize("instance", [LAPTOP, None])
async def test_another_instance_is_refused_and_the_family_lives(token: Token, instance: uuid.UUID | None) -> None:
    first = await token.sign_in(instance=PHONE)
    assert await refusal(token, first.refresh_token, instance=instance) is Reason.REFRESH_INVALID
    second = await token.refresh(first.refresh_token, instance=PHONE)
    assert await refusal(token, first.refresh_token, instance=instance) is Reason.REFRESH_INVALID
    await token.refresh(second.refresh_token, instance=PHONE)
    # The one that was good is an event; the one that was spent is counted.
    (refused,) = await token.events("token.refresh_refused")
    assert (refused.detail["verdict"], refused.reason) == ("other_instance", Reason.REFRESH_INVALID)
    assert token.refusals.take() == {"refresh token: other_instance": 1}


async def test_another_client_is_refused_and_the_family_lives(token: Token) -> None:
    token.clients["other"] = token.clients["demo"]
    first = await token.sign_in()
    assert await refusal(token, first.refresh_token, client="other") is Reason.REFRESH_INVALID
    assert await refusal(token, first.refresh_token, client="nobody") is Reason.REFRESH_INVALID
    await token.refresh(first.refresh_token)


@pytest.mark.parametrize(
    "garbage",
    ["", "x", "amrt_", "amrt_" + "A" * 43, "a.b.c", "amrt_" + "A" * 43 + "\n", "'; DROP TABLE sessions; --", "\x00"],
)
async def test_what_nobody_knows_is_refused_without_a_trace(token: Token, garbage: str) -> None:
    assert await refusal(token, garbage) is Reason.REFRESH_INVALID
    assert await event_types(token) == []


@pytest.mark.parametrize("death", ["ended", "expired", "spent", "reused"])
async def test_a_dead_token_leaves_no_event_however_often_it_is_sent(token: Token, death: str) -> None:
    first = await token.sign_in(instance=PHONE)
    if death == "ended":
        await token.sign_outs.end_session(first.grant.subject, first.grant.session_id)
    elif death == "expired":
        token.clock.pass_by(days=15)
    else:
        await token.refresh(first.refresh_token, instance=PHONE)
    if death == "reused":
        token.clock.pass_by(minutes=1)
        assert await refusal(token, first.refresh_token, instance=PHONE) is Reason.REFRESH_REUSED
    before = await event_types(token)
    for _ in range(20):
        instance = LAPTOP if death == "spent" else PHONE
        assert await refusal(token, first.refresh_token, instance=instance) is Reason.REFRESH_INVALID
    await token.denials.flush()
    assert await event_types(token) == before
    assert list(token.refusals.take().values()) == [20]


async def test_refusals_of_a_good_token_are_events_up_to_a_bound_and_a_number_behind_it(token: Token) -> None:
    first = await token.sign_in(instance=PHONE)
    for _ in range(100):
        await refusal(token, first.refresh_token, instance=LAPTOP)
    await refusal(token, first.refresh_token, instance=PHONE, scopes=frozenset({"nonsense"}))
    assert len(await token.events("token.refresh_refused")) == EACH
    await token.denials.flush()
    *_, one, other = await token.events("token.refresh_refused")
    assert {(event.reason, event.detail["verdict"], event.detail["left_out"]) for event in (one, other)} == {
        ("REFRESH_INVALID", "other_instance", str(100 - EACH)),
        ("SCOPE_MISSING", "scope_missing", "1"),
    }
    assert one.subject == f"users/{first.grant.subject}"
    await token.refresh(first.refresh_token, instance=PHONE)


async def test_an_invented_token_learns_neither_clients_nor_scopes(token: Token) -> None:
    token.clients["narrow"] = token.clients["demo"].model_copy(update={"scopes": frozenset({"user:read"})})
    invented = "amrt_" + "A" * 43
    for client in ("demo", "narrow", "nobody"):
        for scopes in (frozenset[str](), frozenset({"user:read"}), frozenset({"admin:users"}), frozenset({"nonsense"})):
            assert await refusal(token, invented, client=client, scopes=scopes) is Reason.REFRESH_INVALID


async def test_a_scope_that_the_client_has_lost_is_missing_and_spends_nothing(token: Token) -> None:
    first = await token.sign_in()
    token.clients["demo"] = token.clients["demo"].model_copy(update={"scopes": frozenset({"user:read"})})
    assert await refusal(token, first.refresh_token, scopes=frozenset({"user:write"})) is Reason.SCOPE_MISSING
    assert token.claims(await token.refresh(first.refresh_token)).scopes == {"user:read"}


async def test_scopes_may_be_narrowed_for_one_token_and_never_widened(token: Token) -> None:
    first = await token.sign_in(scopes=frozenset({"user:read", "resource:read"}))
    with pytest.raises(PermissionDenied) as caught:
        await token.refresh(first.refresh_token, scopes=frozenset({"user:read", "user:write"}))
    assert caught.value.reason is Reason.SCOPE_MISSING
    narrow = await token.refresh(first.refresh_token, scopes=frozenset({"user:read"}))
    assert token.claims(narrow).scopes == {"user:read"}
    wide = await token.refresh(narrow.refresh_token)
    assert token.claims(wide).scopes == {"user:read", "resource:read"}


@pytest.mark.parametrize("scope", ["\x00", "a b", "é", "nonsense"])
async def test_a_scope_that_is_none_is_missing_and_spends_nothing(token: Token, scope: str) -> None:
    first = await token.sign_in()
    assert await refusal(token, first.refresh_token, scopes=frozenset({scope})) is Reason.SCOPE_MISSING
    await token.refresh(first.refresh_token)


async def test_an_unused_refresh_token_dies_after_the_idle_lifetime(token: Token) -> None:
    first = await token.sign_in()
    token.clock.pass_by(days=13)
    second = await token.refresh(first.refresh_token)
    token.clock.pass_by(days=14, seconds=1)
    assert await refusal(token, second.refresh_token) is Reason.REFRESH_INVALID


async def test_a_session_ends_after_its_absolute_lifetime_however_busy(token: Token) -> None:
    current = await token.sign_in()
    for _ in range(8):
        token.clock.pass_by(days=10)
        current = await token.refresh(current.refresh_token)
    token.clock.pass_by(days=10, seconds=-5)
    current = await token.refresh(current.refresh_token)
    # Neither of the two outlives the session.
    end = current.grant.refresh_expire_time
    assert current.grant.expire_time == end
    token.clock.pass_by(seconds=6)
    assert await refusal(token, current.refresh_token) is Reason.REFRESH_INVALID


async def test_after_sign_out_nothing_of_the_session_works(token: Token) -> None:
    first = await token.sign_in()
    second = await token.refresh(first.refresh_token)
    await token.sign_outs.revoke_token(second.refresh_token)
    assert await refusal(token, second.refresh_token) is Reason.REFRESH_INVALID
    assert await refusal(token, first.refresh_token) is Reason.REFRESH_INVALID
    assert await token.refuses(second)
    assert await token.refuses(first)


async def test_a_stolen_database_holds_no_token_in_clear(token: Token) -> None:
    first = await token.sign_in()
    second = await token.refresh(first.refresh_token)
    rows = await token.database.fetch("SELECT t::text AS row FROM refresh_tokens t")
    dump = "".join(row["row"] for row in rows)
    for secret in (first.refresh_token, second.refresh_token):
        assert secret not in dump
        assert secret.encode().hex() not in dump


async def test_a_dead_database_is_unavailable_and_no_verdict(token: Token) -> None:
    first = await token.sign_in()
    await token.database._pool.close()
    with pytest.raises(MeshError) as caught:
        await token.refresh(first.refresh_token)
    assert not isinstance(caught.value, Unauthenticated)


async def test_a_retry_after_the_key_was_out_of_reach_is_no_theft_however_late(
    token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def out_of_reach(_: object) -> bytes:
        raise Unavailable(Reason.KEYS_UNAVAILABLE, "test")

    first = await token.sign_in()
    with monkeypatch.context() as outage:
        outage.setattr(await token.refreshes._writer._keys.active(), "sign", out_of_reach)
        assert await refusal(token, first.refresh_token) is Reason.KEYS_UNAVAILABLE
        token.clock.pass_by(minutes=5)
        assert await refusal(token, first.refresh_token) is Reason.KEYS_UNAVAILABLE
    answer = await token.refresh(first.refresh_token)
    # The grace begins with the answer.
    token.clock.pass_by(seconds=9)
    assert same_answer(token, answer, await token.refresh(first.refresh_token))
    token.clock.pass_by(seconds=2)
    assert await refusal(token, first.refresh_token) is Reason.REFRESH_REUSED
