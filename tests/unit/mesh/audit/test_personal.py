"""Personal data leaves sealed, opens with its keys and nothing else, and is gone with them."""

import os
from typing import Any

import pytest
from authmesh.audit.v1.audit_event_pb2 import AuditEvent

from mesh.audit import tombstone
from mesh.audit.personal import ERASED, PERSONAL, SealError, key_names, reveal, seal

ADA, BOB = "users/ada", "users/bob"


def event(**fields: Any) -> AuditEvent:
    made = AuditEvent(event_id="e", source="auth", sequence=7, type="auth.signed_in", **fields)
    made.event_time.FromJsonString("2026-03-04T23:59:59Z")
    return made


def sealed(**fields: str) -> tuple[AuditEvent, dict[str, bytes | None]]:
    made = event(address="192.0.2.1", user_agent="curl", email="ada@example.org", **fields)
    keys = {name: os.urandom(32) for name in key_names(made)}
    seal(made, [keys[name] for name in key_names(made)])
    return made, dict(keys)


def test_what_is_personal_is_what_the_contract_marks() -> None:
    assert set(PERSONAL) == {"address", "user_agent", "email"}


def test_nothing_personal_is_left_in_the_clear() -> None:
    made, _ = sealed(subject=ADA)
    assert made.sealed
    assert not any(getattr(made, name) for name in PERSONAL)
    assert b"192.0.2.1" not in made.SerializeToString()


def test_its_keys_open_it() -> None:
    made, keys = sealed(subject=ADA, actor=BOB)
    shown = reveal(made, keys)
    assert (shown.address, shown.user_agent, shown.email, shown.sealed) == ("192.0.2.1", "curl", "ada@example.org", b"")
    assert made.sealed


def test_an_event_without_personal_data_stays_as_it_is() -> None:
    made = event(subject=ADA)
    seal(made, [os.urandom(32)])
    assert made == event(subject=ADA)
    assert reveal(made, {}) == made


@pytest.mark.parametrize("erased", [ADA, BOB])
def test_whoever_of_the_two_is_erased_takes_the_data_along(erased: str) -> None:
    made, keys = sealed(subject=ADA, actor=BOB)
    shown = reveal(made, keys | {erased: None})
    assert {getattr(shown, name) for name in PERSONAL} == {ERASED}
    assert (shown.subject, shown.actor, shown.type) == (ADA, BOB, "auth.signed_in")


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"subject": ADA}, (ADA,)),
        ({"actor": ADA}, (ADA,)),
        ({"subject": ADA, "actor": ADA}, (ADA,)),
        ({"subject": ADA, "actor": BOB}, (ADA, BOB)),
        ({"subject": ADA, "actor": "clients/app"}, (ADA,)),
        ({"actor": "nodes/user"}, ("days/2026-03-04",)),
        ({}, ("days/2026-03-04",)),
    ],
)
def test_an_event_is_sealed_for_the_persons_it_names(fields: dict[str, str], names: tuple[str, ...]) -> None:
    assert key_names(event(**fields)) == names


@pytest.mark.parametrize(
    "changes", [{"sequence": 8}, {"event_id": "f"}, {"source": "user"}, {"sealed": b"short"}, {"sealed": bytes(60)}]
)
def test_sealed_data_is_no_other_events(changes: dict[str, object]) -> None:
    made, keys = sealed(subject=ADA)
    for name, value in changes.items():
        setattr(made, name, value)
    with pytest.raises(SealError):
        reveal(made, keys)


def test_the_wrong_key_opens_nothing() -> None:
    made, _ = sealed(subject=ADA)
    with pytest.raises(SealError):
        reveal(made, {ADA: os.urandom(32)})


def test_a_tombstone_in_the_chain_carries_the_hash_of_what_it_replaces() -> None:
    made, _ = sealed(subject=ADA)
    stone = tombstone.numbered(made, "MalformedDetail")
    assert tombstone.link(stone) == tombstone.link(made)
    assert (stone.sequence, stone.previous_hash, stone.detail["type"]) == (7, made.previous_hash, "auth.signed_in")
    assert not stone.sealed


def test_a_tombstone_that_names_no_hash_breaks_the_chain() -> None:
    assert tombstone.link(AuditEvent(type=tombstone.PARKED, detail={tombstone.REPLACES: "no hash"})) == b""
