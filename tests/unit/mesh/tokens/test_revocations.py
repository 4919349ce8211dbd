"""What a set of revocations refuses, and for how long it remembers."""

from dataclasses import replace

import pytest

from mesh.tokens.claims import Claims
from mesh.tokens.revocations import FORGOTTEN_AT_ONCE, Revocation, RevocationKind, RevocationSet

CLAIMS = Claims("u1", "s1", "c1", frozenset(), frozenset(), "t1", 1000, 1600, 900, ("pwd",), "k1")


def revocation(kind: RevocationKind, value: str, not_before: int = 0, expires_at: int = 5000) -> Revocation:
    return Revocation(1, kind, value, not_before, expires_at)


def known(*revocations: Revocation, now: float = 1000) -> RevocationSet:
    revoked = RevocationSet(clock=lambda: now)
    revoked.add(revocations)
    return revoked


@pytest.mark.parametrize(("kind", "value"), [
    (RevocationKind.TOKEN, "t1"), (RevocationKind.SESSION, "s1"), (RevocationKind.KEY, "k1"),
])  # fmt: skip
def test_a_token_session_or_key_is_refused_whenever_it_was_issued(kind: RevocationKind, value: str) -> None:
    revoked = known(revocation(kind, value))
    assert revoked.refuses(CLAIMS)
    assert revoked.refuses(replace(CLAIMS, issued_at=4000))
    other = replace(CLAIMS, token_id="t2", session="s2", key_id="k2")
    assert not revoked.refuses(other)


@pytest.mark.parametrize(("kind", "value"), [(RevocationKind.SUBJECT, "u1"), (RevocationKind.CLIENT, "c1")])
def test_a_subject_or_client_is_refused_up_to_and_in_the_second_of_its_revocation(
    kind: RevocationKind, value: str
) -> None:
    revoked = known(revocation(kind, value, not_before=1000))
    assert revoked.refuses(CLAIMS)
    assert not revoked.refuses(replace(CLAIMS, issued_at=1001))


def test_a_value_of_one_kind_refuses_nothing_of_another() -> None:
    assert not known(*(revocation(kind, "x", 2000) for kind in RevocationKind)).refuses(CLAIMS)
    assert not known(revocation(RevocationKind.TOKEN, "s1"), revocation(RevocationKind.SESSION, "t1")).refuses(CLAIMS)


def test_late_and_repeated_entries_never_weaken_what_is_known() -> None:
    revoked = known(revocation(RevocationKind.SUBJECT, "u1", 1500))
    revoked.add([revocation(RevocationKind.SUBJECT, "u1", 1200, 4000), revocation(RevocationKind.SUBJECT, "u1", 1500)])
    assert revoked.refuses(replace(CLAIMS, issued_at=1500))
    assert len(revoked) == 1


def test_entries_are_forgotten_when_every_token_they_refuse_has_expired() -> None:
    now = 1000.0
    revoked = RevocationSet(clock=lambda: now)
    revoked.add(revocation(RevocationKind.TOKEN, f"t{number}", expires_at=2000 + number) for number in range(100))
    now = 2000 + 60 + 50
    revoked.add([])
    assert len(revoked) == 50
    now = 9000
    revoked.add([])
    assert len(revoked) == 0


def test_many_that_expire_in_one_second_are_forgotten_in_slices() -> None:
    now = [1000.0]
    revocations = RevocationSet(lambda: now[0])
    many = 3 * FORGOTTEN_AT_ONCE
    revocations.add(revocation(RevocationKind.SESSION, str(number), expires_at=2000) for number in range(many))
    now[0] = 3000.0
    sizes = [len(revocations)]
    while sizes[-1]:
        revocations.forget()
        sizes.append(len(revocations))
    assert sizes == [many, 2 * FORGOTTEN_AT_ONCE, FORGOTTEN_AT_ONCE, 0]


def test_an_entry_that_was_prolonged_is_kept_for_its_longer_time() -> None:
    now = 1000.0
    revoked = RevocationSet(clock=lambda: now)
    revoked.add(
        [revocation(RevocationKind.SUBJECT, "u1", 1000, 2000), revocation(RevocationKind.SUBJECT, "u1", 1500, 6000)]
    )
    now = 3000
    revoked.add([])
    assert revoked.refuses(replace(CLAIMS, issued_at=1500))


def test_a_token_without_session_is_not_touched_by_session_entries() -> None:
    assert not known(revocation(RevocationKind.SESSION, "s1")).refuses(replace(CLAIMS, session=""))
