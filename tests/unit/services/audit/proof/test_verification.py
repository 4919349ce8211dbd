"""The proof against everybody who would cheat it: each has write access to every object, and not the key."""

import gzip
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.audit.proof import checkpoints
from services.audit.proof.checkpoints import ObjectCommitment
from services.audit.proof.findings import Kind, Report
from services.audit.proof.statement import seal
from services.audit.trail import event_codec as lines
from services.audit.trail import merkle
from tests.kit.envelopes import event
from tests.kit.trail import INTERVAL, Trail, chain_hash, chained, utc


@pytest.fixture
def trail(tmp_path: Path) -> Trail:
    """Thirty events of auth in three objects and five of token in one, three checkpoints, and four events that no
    checkpoint covers yet."""
    made = Trail(tmp_path)
    events = chained(1, 34)
    made.write(events[:10])
    made.write(chained(1, 5, source="token"))
    made.checkpoint()
    made.write(events[10:20])
    made.checkpoint()
    made.write(events[20:30])
    made.checkpoint()
    made.write(events[30:], seen=False)
    return made


def key(trail: Trail, first: int, source: str = "auth") -> str:
    [found] = [str(file.relative_to(trail.path)) for file in trail.path.rglob(f"source={source}/*/{first:016d}-*")]
    return found


def found(report: Report) -> list[tuple[Kind, str, int]]:
    return [(finding.kind, finding.source, finding.sequence or finding.checkpoint) for finding in report.findings]


async def test_an_untouched_trail_is_intact(trail: Trail) -> None:
    report = await trail.verify()
    assert report.intact, report.findings
    assert report.events == {"auth": 34, "token": 5}
    assert report.unsigned == {"auth": 4, "token": 0}
    assert (report.checkpoints, report.objects, report.repetitions, report.pending) == (3, 5, 0, [])


async def test_what_was_delivered_twice_and_in_any_order_is_intact(tmp_path: Path) -> None:
    trail, events, generator = Trail(tmp_path), chained(1, 300), random.Random(5)
    # As retries do: near its place, not in it.
    shuffled = sorted(events + generator.sample(events, 100), key=lambda sent: sent.sequence + generator.random() * 20)
    for start in range(0, len(shuffled), 17):
        trail.write(shuffled[start : start + 17])
    trail.write(events[-1:])  # the highest head
    trail.checkpoint()
    report = await trail.verify()
    assert report.intact, report.findings
    assert report.events == {"auth": 300}
    assert report.repetitions >= 20


async def test_a_changed_event_is_named(trail: Trail) -> None:
    trail.edit(
        key(trail, 11),
        lambda lines: [line | ({"actor": "users/eve"} if line["sequence"] == "14" else {}) for line in lines],
    )
    assert found(await trail.verify())[:1] == [(Kind.CHANGED, "auth", 14)]


async def test_a_changed_hash_of_the_event_before_is_that_events_change(trail: Trail) -> None:
    trail.edit(
        key(trail, 11),
        lambda lines: [line | ({"previousHash": "AAAA"} if line["sequence"] == "14" else {}) for line in lines],
    )
    assert found(await trail.verify())[:1] == [(Kind.CHANGED, "auth", 14)]


async def test_a_changed_last_event_is_named_by_the_checkpoint(trail: Trail) -> None:
    trail.delete(key(trail, 31))
    trail.edit(
        key(trail, 21),
        lambda lines: [line | ({"reason": "none"} if line["sequence"] == "30" else {}) for line in lines],
    )
    assert found(await trail.verify())[:1] == [(Kind.CHANGED, "auth", 30)]


async def test_a_chain_that_was_made_anew_behind_a_change_does_not_reach_the_checkpoints_hash(trail: Trail) -> None:
    for first in (1, 11, 21, 31):
        trail.delete(key(trail, first))
    trail.write(chained(1, 34, actor="users/eve"), seen=False)
    report = await trail.verify()
    assert (Kind.CHANGED, "auth", 10) in found(report)
    assert {finding.object for finding in report.findings if finding.kind is Kind.DELETED} != {""}


async def test_a_deleted_event_is_named(trail: Trail) -> None:
    trail.edit(key(trail, 11), lambda lines: [line for line in lines if line["sequence"] != "14"])
    assert found(await trail.verify())[:1] == [(Kind.DELETED, "auth", 14)]


async def test_a_deleted_object_is_named_with_all_its_events(trail: Trail) -> None:
    gone = key(trail, 11)
    trail.delete(gone)
    report = await trail.verify()
    assert found(report)[:1] == [(Kind.DELETED, "auth", 11)]
    assert "events 11 to 20 of auth were deleted: checkpoint 2" in report.findings[0].text
    assert report.findings[1].object == gone


async def test_the_deleted_first_events_are_named(trail: Trail) -> None:
    trail.delete(key(trail, 1))
    assert found(await trail.verify())[:1] == [(Kind.DELETED, "auth", 1)]


async def test_a_deleted_source_is_named(trail: Trail) -> None:
    trail.delete(key(trail, 1, "token"))
    assert found(await trail.verify())[:1] == [(Kind.DELETED, "token", 1)]


async def test_a_deleted_tail_is_named(trail: Trail) -> None:
    trail.delete(key(trail, 31))
    trail.delete(key(trail, 21))
    report = await trail.verify()
    assert found(report)[:1] == [(Kind.DELETED, "auth", 21)]
    assert "events 21 to 30" in report.findings[0].text


async def test_a_tail_that_was_deleted_with_its_checkpoints_is_an_overdue_checkpoint(trail: Trail) -> None:
    trail.delete(key(trail, 31))
    trail.delete(key(trail, 21))
    trail.delete(checkpoints.SERIES.key_of(3))
    assert (await trail.verify()).intact  # as it stood then, nothing is wrong: only the clock tells
    report = await trail.verify(now=trail.now + timedelta(minutes=10))
    assert found(report) == [(Kind.OVERDUE, "", 2)]


async def test_reordered_lines_are_named(trail: Trail) -> None:
    trail.edit(key(trail, 11), lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]])
    assert found(await trail.verify()) == [(Kind.REORDERED, "auth", 14)]


async def test_two_events_that_changed_places_are_named(trail: Trail) -> None:
    def swap(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        lines[3]["sequence"], lines[4]["sequence"] = lines[4]["sequence"], lines[3]["sequence"]
        lines[3], lines[4] = lines[4], lines[3]
        return lines

    trail.edit(key(trail, 11), swap)
    report = await trail.verify()
    assert found(report)[:1] == [(Kind.REORDERED, "auth", 14)]
    assert not [finding for finding in report.findings if finding.kind is Kind.FORGED]


async def test_a_missing_event_is_named_when_it_cannot_be_on_its_way_any_more(trail: Trail) -> None:
    trail.edit(key(trail, 31), lambda lines: [line for line in lines if line["sequence"] != "32"])
    report = await trail.verify(now=trail.now)
    assert (Kind.MISSING, "auth", 32) in found(report)


async def test_a_missing_event_may_be_on_its_way_for_a_while(trail: Trail) -> None:
    trail.write([], seen=False)
    trail.edit(key(trail, 31), lambda lines: [line for line in lines if line["sequence"] != "32"])
    report = await trail.verify(now=utc(12, 1))
    assert report.pending == ["event 32 of auth"]
    assert not [finding for finding in report.findings if finding.kind is Kind.MISSING]


async def test_a_forged_event_beside_the_true_one_is_told_from_it(trail: Trail) -> None:
    true = chained(1, 34)
    [forged] = chained(14, 14, previous=chain_hash(true[12]), actor="users/eve")
    trail.write([forged], seen=False)
    report = await trail.verify()
    assert found(report) == [(Kind.FORGED, "auth", 14)]
    assert report.events["auth"] == 34


@pytest.mark.parametrize("name", ["0000000000000033-0000000000000034", "0000000000000001-0000000000000001"])
async def test_a_forged_event_is_told_whatever_its_object_is_called(trail: Trail, name: str) -> None:
    [forged_key] = trail.write(chained(14, 14, previous=chain_hash(chained(1, 13)[-1]), actor="users/eve"), seen=False)
    folder, _, own = forged_key.rpartition("/")
    trail.put(f"{folder}/{name}-{own.rpartition('-')[2]}", trail.get(forged_key))
    trail.delete(forged_key)
    assert (Kind.FORGED, "auth", 14) in found(await trail.verify())


async def test_a_forged_event_that_the_consumer_stored_and_a_checkpoint_witnessed_is_told_too(tmp_path: Path) -> None:
    trail, events = Trail(tmp_path), chained(1, 10)
    [forged] = chained(5, 5, previous=chain_hash(events[3]), actor="users/eve")
    trail.write([*events[:5], forged, *events[5:]])
    trail.checkpoint()
    assert found(await trail.verify()) == [(Kind.FORGED, "auth", 5)]


async def test_a_forged_event_with_a_huge_number_costs_nothing(trail: Trail) -> None:
    trail.write([event(10**15)], seen=False)
    assert (Kind.MISSING, "auth", 35) in found(await trail.verify())


async def test_a_forged_checkpoint_is_not_believed(trail: Trail) -> None:
    statement = trail.statements[2].replace(b'"number":3', b'"number":4')
    other = ec.generate_private_key(ec.SECP256R1())
    from cryptography.hazmat.primitives import hashes

    trail.put(checkpoints.SERIES.key_of(4), seal(statement, other.sign(statement, ec.ECDSA(hashes.SHA256()))))
    assert found(await trail.verify()) == [(Kind.FORGED, "", 4)]


async def test_a_changed_checkpoint_is_not_believed(trail: Trail) -> None:
    body = trail.get(checkpoints.SERIES.key_of(2))
    trail.put(checkpoints.SERIES.key_of(2), body.replace(b'"sequence":20', b'"sequence":19'))
    assert found(await trail.verify())[:1] == [(Kind.FORGED, "", 2)]


@pytest.mark.parametrize(
    "body", [b"", b"\n\n", b"{}\n{}\n", b'{}\n{"signature": "AAAA"}\n', b"\xff\n\xff\n", b"[]\n[]\n"]
)
async def test_garbage_is_no_checkpoint(trail: Trail, body: bytes) -> None:
    trail.put(checkpoints.SERIES.key_of(2), body)
    assert found(await trail.verify())[:1] == [(Kind.FORGED, "", 2)]


async def test_a_replayed_old_checkpoint_does_not_pass_for_a_new_one(trail: Trail) -> None:
    trail.delete(key(trail, 31))
    trail.delete(key(trail, 21))
    trail.put(checkpoints.SERIES.key_of(3), trail.get(checkpoints.SERIES.key_of(2)))
    trail.put(checkpoints.SERIES.key_of(4), trail.get(checkpoints.SERIES.key_of(2)))
    report = await trail.verify(now=trail.now + 3 * INTERVAL)
    assert found(report) == [(Kind.REPLAYED, "", 3), (Kind.REPLAYED, "", 4), (Kind.OVERDUE, "", 2)]


async def test_a_deleted_checkpoint_is_named(trail: Trail) -> None:
    trail.delete(checkpoints.SERIES.key_of(2))
    assert found(await trail.verify()) == [(Kind.DELETED, "", 2)]


async def test_a_checkpoint_of_another_history_does_not_follow(trail: Trail, tmp_path: Path) -> None:
    other = Trail(tmp_path / "other")
    other._key = trail._key
    other.write(chained(1, 2))
    other.checkpoint()
    other.checkpoint()
    trail.put(checkpoints.SERIES.key_of(2), other.get(checkpoints.SERIES.key_of(2)))
    assert (Kind.REPLAYED, "", 2) in found(await trail.verify())


async def test_another_key_believes_nothing(trail: Trail) -> None:
    pem = (
        ec.generate_private_key(ec.SECP256R1())
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    report = await trail.verify(pem=pem)
    assert [finding.kind for finding in report.findings] == [Kind.FORGED] * 3 + [Kind.OVERDUE]


async def test_a_trail_without_checkpoints_is_not_proven(trail: Trail) -> None:
    for number in (1, 2, 3):
        trail.delete(checkpoints.SERIES.key_of(number))
    assert found(await trail.verify(now=utc(12, 1)))[0][0] is Kind.OVERDUE


async def test_an_overdue_checkpoint_is_told(trail: Trail) -> None:
    assert (await trail.verify(now=trail.now + 2 * INTERVAL)).intact
    assert found(await trail.verify(now=trail.now + 3 * INTERVAL)) == [(Kind.OVERDUE, "", 3)]


async def test_a_verification_since_a_time_reads_what_came_after_and_trusts_the_checkpoint_before(trail: Trail) -> None:
    trail.edit(key(trail, 1), lambda lines: lines[:5])
    assert not (await trail.verify()).intact
    report = await trail.verify(since=trail.now - INTERVAL)
    assert report.intact, report.findings
    assert report.events == {"auth": 14, "token": 0}
    trail.edit(
        key(trail, 21),
        lambda lines: [line | ({"actor": "users/eve"} if line["sequence"] == "21" else {}) for line in lines],
    )
    assert found(await trail.verify(since=trail.now - INTERVAL))[:1] == [(Kind.CHANGED, "auth", 21)]


async def test_one_source_is_verified_alone(trail: Trail) -> None:
    trail.delete(key(trail, 11))
    assert (await trail.verify(source="token")).intact
    assert not (await trail.verify(source="auth")).intact


async def test_an_object_that_cannot_be_read_is_named(trail: Trail) -> None:
    trail.put(key(trail, 11), b"nothing")
    report = await trail.verify()
    assert (Kind.UNREADABLE, key(trail, 11)) in [(finding.kind, finding.object) for finding in report.findings]


async def test_a_member_of_a_newer_release_is_no_false_alarm(trail: Trail) -> None:
    trail.edit(key(trail, 31), lambda lines: [line | {"newMember": "x"} for line in lines])
    report = await trail.verify()
    assert "a member that this release does not know" in report.findings[0].text


async def test_a_tombstone_put_in_the_place_of_an_event_is_a_change(trail: Trail) -> None:
    true = chained(1, 34)[13]
    tombstone = {"type": "audit.parked", "detail": {"replaces": chain_hash(true).hex()}}
    trail.edit(key(trail, 11), lambda lines: [line | (tombstone if line["sequence"] == "14" else {}) for line in lines])
    assert [finding.kind for finding in (await trail.verify()).findings] == [Kind.CHANGED]


async def test_every_single_change_is_found(tmp_path: Path) -> None:
    generator = random.Random(7)
    for attempt in range(60):
        trail = Trail(tmp_path / str(attempt))
        events = chained(1, 12)
        keys = trail.write(events[:4]) + trail.write(events[4:8]) + trail.write(events[8:])
        trail.checkpoint()
        victim = generator.choice(keys)
        body = bytearray(trail.get(victim))
        match attempt % 3:
            case 0:
                gone = generator.randrange(4)
                trail.edit(victim, lambda lines, gone=gone: lines[:gone] + lines[gone + 1 :])  # type: ignore[misc]
            case 1:
                name = generator.choice(["actor", "eventTime", "type", "outcome", "previousHash"])
                change = {name: {"eventTime": "2026-11-24T12:00:59Z", "outcome": "OUTCOME_FAILURE"}.get(name, "AAAA")}
                trail.edit(victim, lambda lines, change=change: [lines[0] | change, *lines[1:]])  # type: ignore[misc]
            case _:
                body[generator.randrange(10, len(body))] ^= 1 << generator.randrange(8)
                trail.put(victim, bytes(body))
        assert not (await trail.verify()).intact, attempt


async def test_an_object_that_a_later_checkpoint_lists_anew_is_held_against_the_first(trail: Trail) -> None:
    # A checkpointer with a new database lists what it finds: also what was changed since it was vouched for.
    first = key(trail, 1)
    trail.edit(first, lambda lines: lines[::-1])
    leaves = [merkle.leaf(line) for line in gzip.decompress(trail.get(first)).splitlines()]
    trail.vouch(ObjectCommitment(first, len(leaves), merkle.root(leaves)))
    trail.checkpoint()
    assert [finding.kind for finding in (await trail.verify()).findings] == [Kind.REORDERED]


async def test_a_small_object_that_unpacks_to_gigabytes_is_no_object(
    trail: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MAX_CONTENT", 200_000)
    trail.put(key(trail, 1), gzip.compress(b"\n" * 300_000))
    report = await trail.verify()
    assert (Kind.UNREADABLE, "auth", 0) in found(report)
    assert any("far larger" in finding.text for finding in report.findings)
