"""Two histories beside each other, gaps, and what lies among the objects without being one: all of it is named, number
by number."""

import gzip
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from authmesh.audit.v1.audit_event_pb2 import AuditEvent

from services.audit.proof.findings import Kind, Report
from tests.kit.envelopes import NOON, event
from tests.kit.trail import Trail, chain_hash, chained, woven


@pytest.fixture
def trail(tmp_path: Path) -> Trail:
    return Trail(tmp_path)


EVENTS = chained(1, 34)


def branch(first: int, last: int, actor: str = "users/eve", **fields: Any) -> list[AuditEvent]:
    """A forged history that leaves the true one behind event `first - 1`."""
    return chained(first, last, previous=chain_hash(EVENTS[first - 2]), actor=actor, **fields)


def found(report: Report) -> list[tuple[Kind, int, int]]:
    return [(finding.kind, finding.sequence, finding.last) for finding in report.findings]


@pytest.mark.parametrize("together", [True, False])
async def test_every_event_of_a_forged_branch_is_named(trail: Trail, together: bool) -> None:
    if together:
        trail.write(sorted([*EVENTS, *branch(14, 16)], key=lambda sent: sent.sequence))
    else:
        trail.write(EVENTS[:20])
        trail.write(branch(14, 16), seen=False)
        trail.write(EVENTS[20:])
    trail.checkpoint()
    report = await trail.verify()
    assert found(report) == [(Kind.FORGED, 14, 16)]
    assert report.findings[0].text.startswith(
        "events 14 to 16 of auth exist in a second form that the chain does not know: id-14, id-15, id-16"
    )
    assert report.events == {"auth": 34}


async def test_a_branch_of_a_branch_is_named_apart(trail: Trail) -> None:
    first = branch(14, 20)
    second = chained(17, 18, previous=chain_hash(first[2]), actor="users/mallory")
    trail.write(sorted([*EVENTS, *first, *second], key=lambda sent: sent.sequence))
    trail.checkpoint()
    assert sorted(found(await trail.verify())) == [(Kind.FORGED, 14, 20), (Kind.FORGED, 17, 18)]


async def test_a_checkpoint_decides_and_all_of_the_other_branch_is_forged(trail: Trail) -> None:
    trail.write(EVENTS[:20])
    trail.checkpoint()
    trail.write(branch(18, 20), seen=False)
    trail.write(EVENTS[20:])
    trail.checkpoint()
    assert found(await trail.verify()) == [(Kind.FORGED, 18, 20)]


async def test_a_branch_that_outlives_what_a_checkpoint_knows_is_forged_to_its_end(trail: Trail) -> None:
    trail.write(EVENTS[:20])
    trail.checkpoint()
    trail.write(branch(18, 25), seen=False)
    report = await trail.verify()
    assert (Kind.FORGED, 18, 20) in found(report)
    named = {number for kind, first, last in found(report) for number in range(first, last + 1)}
    # Number 21 names a hash that no checkpoint knows, and those behind it follow from it.
    assert {18, 19, 20, 21} <= named


async def test_where_nothing_decides_every_number_of_the_fork_is_named(trail: Trail) -> None:
    trail.write(EVENTS[:30])
    trail.checkpoint()
    trail.write(sorted([*EVENTS[30:], *branch(32, 34)], key=lambda sent: sent.sequence), seen=False)
    report = await trail.verify()
    assert found(report) == [(Kind.FORGED, 32, 34)]
    assert (
        "events 32 to 34 of auth exist in 2 forms, and nothing says yet which of them is true"
        in report.findings[0].text
    )


async def test_a_chain_that_goes_on_beside_what_was_put_over_its_beginning_is_the_true_one(trail: Trail) -> None:
    # Thirteen was replaced, and what it would have led to forged for two events: the true ones hold the hash of the
    # true thirteen.
    forged = chained(13, 15, previous=chain_hash(EVENTS[11]), actor="users/eve")
    trail.write([*EVENTS[:12], *forged, *EVENTS[13:]])
    trail.checkpoint()
    assert sorted(found(await trail.verify())) == [(Kind.CHANGED, 13, 13), (Kind.FORGED, 14, 15)]


async def test_what_follows_nothing_is_forged_event_by_event_and_as_a_chain(trail: Trail) -> None:
    trail.write(sorted([*EVENTS, *chained(14, 17, previous=b"\x01" * 32)], key=lambda sent: sent.sequence))
    trail.checkpoint()
    assert found(await trail.verify()) == [(Kind.FORGED, 14, 17)]


async def test_late_repetitions_of_either_branch_are_no_further_findings(trail: Trail) -> None:
    trail.write(EVENTS[:13] + EVENTS[13:20])
    trail.write(branch(14, 16), seen=False)
    trail.write([EVENTS[14], *branch(15, 15)], seen=False)
    trail.write(EVENTS[20:])
    trail.checkpoint()
    report = await trail.verify()
    assert {(first, last) for _, first, last in found(report)} <= {(14, 16), (15, 15)}
    assert all(kind is Kind.FORGED for kind, _, _ in found(report))


async def test_every_gap_is_named(trail: Trail) -> None:
    trail.write([*EVENTS[:4], *EVENTS[6:10], *EVENTS[11:]], seen=False)
    trail.vouch_for_all()
    trail.wait()
    assert found(await trail.verify()) == [(Kind.MISSING, 5, 6), (Kind.MISSING, 11, 11)]


async def test_a_time_in_the_future_excuses_no_gap(trail: Trail) -> None:
    late = chained(8, 9, previous=chain_hash(EVENTS[6]))
    for sent in late:
        sent.event_time.FromDatetime(NOON + timedelta(days=3650))
    trail.write([*EVENTS[:5], *late], seen=False)
    trail.vouch_for_all()
    trail.checkpoint()
    assert (await trail.verify()).pending == ["events 6 to 7 of auth"]
    trail.wait()
    assert (Kind.MISSING, 6, 7) in found(await trail.verify())


async def test_an_event_with_a_far_number_is_one_finding_that_stays_the_same_while_the_chain_grows(
    trail: Trail,
) -> None:
    junk = event(2_000_000)
    trail.write(EVENTS[:10])
    trail.write([junk], seen=False)
    trail.vouch_for_all()
    trail.wait()
    [before] = (await trail.verify()).findings
    trail.write(EVENTS[10:])
    trail.wait()
    [after] = (await trail.verify()).findings
    assert (before.kind, before.sequence, after.sequence) == (Kind.MISSING, 11, 35)
    assert before.id == after.id


async def test_a_million_events_that_follow_nothing_cost_what_their_number_costs(trail: Trail) -> None:
    trail.write(EVENTS)
    trail.write([event(number) for number in range(10**6, 10**6 + 6_000, 2)], seen=False)
    trail.vouch_for_all()
    trail.wait()
    report = await trail.verify()
    assert (len(report.findings), report.unlisted) == (1_000, 2_000)


@pytest.mark.parametrize(
    "key",
    [
        "audit/evil.jsonl.gz",
        "audit/auth/dt=2026-11-24/0000000000000001-0000000000000001-00000000000000000000000000000000.jsonl.gz",
        "audit/source=auth/dt=2026-11-24/evil.json",
        "audit/source=auth/dt=2026-11-24/.hidden",
        "audit/source=auth/dt=tomorrow/0000000000000001-0000000000000001-00000000000000000000000000000000.jsonl.gz",
        "checkpoints/0000000000000002.jsonl.bak",
        "checkpoints/extra/0000000000000002.jsonl",
        "checkpoints/0000000000000000.jsonl",
        "acknowledgements/notes.txt",
    ],
)
async def test_what_has_no_name_of_ours_is_named_by_its_content(trail: Trail, key: str) -> None:
    # Athena reads everything that lies in the folder of a day.
    trail.write(EVENTS)
    trail.checkpoint()
    trail.put(key, gzip.compress(b"{}\n"))
    [first] = (await trail.verify()).findings
    assert (first.kind, first.object) == (Kind.FORGED, key)
    trail.put(key, gzip.compress(b"{ }\n"))
    [second] = (await trail.verify()).findings
    assert first.id != second.id


async def test_an_object_with_the_numbers_of_another_one_is_told(trail: Trail) -> None:
    [key] = trail.write(EVENTS)
    folder, _, name = key.rpartition("/")
    trail.put(f"{folder}/0000000000000030-0000000000000034-{name.rpartition('-')[2]}", trail.get(key))
    trail.checkpoint()
    report = await trail.verify()
    assert [finding.kind for finding in report.findings] == [Kind.CHANGED]
    assert "its name is made of other content" in report.findings[0].text


@pytest.mark.parametrize("seed", range(30))
async def test_of_any_forks_every_forged_event_is_named_and_no_true_one(trail: Trail, seed: int) -> None:
    generator = random.Random(seed)
    true, forged = woven(generator, generator.randint(5, 40))
    # About in order, in objects of any size.
    delivered = sorted(
        true + forged, key=lambda sent: sent.sequence + generator.random() * generator.choice([0, 3, 15])
    )
    while delivered:
        size = generator.randint(1, 9)
        trail.write(delivered[:size])
        del delivered[:size]
    for head in sorted({generator.choice(true).sequence, len(true)}):
        trail.know(true[head - 1])
        trail.checkpoint()
    report = await trail.verify()
    named = sorted(number for finding in report.findings for number in range(finding.sequence, finding.last + 1))
    assert {finding.kind for finding in report.findings} == {Kind.FORGED}
    assert named == sorted(sent.sequence for sent in forged)
