"""A tombstone hides an event, and says itself which: only what its source states in its chain makes it a true one."""

from pathlib import Path

import pytest
from authmesh.audit.v1.audit_event_pb2 import AuditEvent

from services.audit.proof.findings import Kind, Report
from tests.kit.trail import Trail, chain_hash, chained, statement_of, tombstone_of


@pytest.fixture
def trail(tmp_path: Path) -> Trail:
    return Trail(tmp_path)


EVENTS = chained(1, 10)


def hidden(trail: Trail, stone: AuditEvent, *behind: AuditEvent) -> None:
    """Ten events, the fifth of which never came; a tombstone stands there instead."""
    trail.write([*EVENTS[:4], stone, *EVENTS[5:], *behind])


def found(report: Report) -> list[tuple[Kind, str, int]]:
    return [(finding.kind, finding.source, finding.sequence) for finding in report.findings]


async def test_a_tombstone_that_its_source_vouches_for_stands_for_the_event(trail: Trail) -> None:
    stone = tombstone_of(EVENTS[4])
    hidden(trail, stone, statement_of(stone, 11, chain_hash(EVENTS[9])))
    trail.wait()
    report = await trail.verify()
    assert report.intact, report.findings
    assert (report.parked, report.events) == (["event 5 of auth"], {"auth": 11})


@pytest.mark.parametrize("late", [True, False])
async def test_the_event_itself_goes_before_its_tombstone_in_whatever_order_they_come(trail: Trail, late: bool) -> None:
    stone = tombstone_of(EVENTS[4])
    stated = statement_of(stone, 11, chain_hash(EVENTS[9]))
    for event in [stone, EVENTS[4]] if late else [EVENTS[4], stone]:
        trail.write([event])
    trail.write([*EVENTS[:4], *EVENTS[5:], stated])
    trail.wait()
    report = await trail.verify()
    assert report.intact, report.findings
    assert report.parked == []


async def test_a_forged_tombstone_hides_nothing(trail: Trail) -> None:
    # Its forger reads the hash in the event behind.
    hidden(trail, tombstone_of(EVENTS[4]))
    trail.wait()
    report = await trail.verify()
    assert found(report) == [(Kind.FORGED, "auth", 5)]
    assert "nothing in its chain states" in report.findings[0].text


async def test_a_tombstone_may_wait_for_its_statement_for_two_intervals(trail: Trail) -> None:
    hidden(trail, tombstone_of(EVENTS[4]))
    trail.wait(3)
    report = await trail.verify()
    assert report.intact
    assert report.pending == ["what auth states of the tombstone at event 5 of auth"]


async def test_a_forged_tombstone_beside_the_event_is_told_too(trail: Trail) -> None:
    trail.write(EVENTS)
    trail.write([tombstone_of(EVENTS[4])], seen=False)
    trail.vouch_for_all()
    trail.wait()
    assert found(await trail.verify()) == [(Kind.FORGED, "auth", 5)]


@pytest.mark.parametrize(
    "changes",
    [
        {"number": "4"},
        {"hash": "00" * 32},
        {"tombstone": "00" * 32},
        {"number": ""},
        {"number": "x"},
        {"hash": "zz"},
        {"tombstone": ""},
    ],
)
async def test_a_statement_vouches_for_exactly_one_tombstone(trail: Trail, changes: dict[str, str]) -> None:
    stone = tombstone_of(EVENTS[4])
    hidden(trail, stone, statement_of(stone, 11, chain_hash(EVENTS[9]), **changes))
    trail.wait()
    assert found(await trail.verify()) == [(Kind.FORGED, "auth", 5)]


async def test_a_tombstone_that_was_changed_after_its_statement_is_told(trail: Trail) -> None:
    stone = tombstone_of(EVENTS[4])
    stated = statement_of(stone, 11, chain_hash(EVENTS[9]))
    stone.detail["type"] = "auth.nothing_of_interest"
    hidden(trail, stone, stated)
    trail.wait()
    assert found(await trail.verify()) == [(Kind.FORGED, "auth", 5)]


async def test_a_statement_that_is_off_the_chain_vouches_for_nothing(trail: Trail) -> None:
    stone = tombstone_of(EVENTS[4])
    events = chained(1, 12)
    trail.write([*events[:4], stone, *events[5:]])
    trail.write([statement_of(stone, 11, chain_hash(events[9]))], seen=False)
    trail.vouch_for_all()
    trail.wait()
    assert found(await trail.verify()) == [(Kind.FORGED, "auth", 11), (Kind.FORGED, "auth", 5)]


async def test_the_statement_of_another_source_vouches_for_nothing(trail: Trail) -> None:
    stone = tombstone_of(EVENTS[4])
    stated = statement_of(stone, 1, b"")
    stated.source = "token"
    hidden(trail, stone)
    trail.write([stated])
    trail.wait()
    assert found(await trail.verify()) == [(Kind.FORGED, "auth", 5)]
