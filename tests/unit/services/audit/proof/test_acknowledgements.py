"""What an operator acknowledges is told apart from what nobody knows about, and covers nothing else."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from services.audit.proof import acknowledgements
from services.audit.proof.findings import Finding, Kind, Report, Verdict
from services.audit.proof.statement import PinnedKey
from tests.kit.envelopes import event
from tests.kit.trail import Trail, chain_hash, chained, pem_of_key

EVENTS = chained(1, 34)
SERIES = acknowledgements.SERIES


@pytest.fixture
def trail(tmp_path: Path) -> Trail:
    """Ten events, and one of a far number that nothing leads to."""
    made = Trail(tmp_path)
    made.write(EVENTS[:10])
    made.write([event(2_000_000)], seen=False)
    made.vouch_for_all()
    made.wait()
    return made


async def findings(trail: Trail) -> list[Finding]:
    return (await trail.verify()).findings


def kinds(report: Report) -> list[Kind]:
    return [finding.kind for finding in report.findings]


async def test_an_acknowledged_finding_is_shown_with_who_and_when_and_why(trail: Trail) -> None:
    trail.acknowledge(await findings(trail))
    report = await trail.verify()
    assert report.verdict is Verdict.ACKNOWLEDGED
    assert not report.intact
    [item] = report.acknowledged
    assert item.finding.kind is Kind.MISSING
    said = item.acknowledgement
    assert (said.number, said.by, said.reason, said.time) == (1, "ada", "a drill of the 24th", trail.now)


async def test_it_stays_acknowledged_while_the_chain_grows(trail: Trail) -> None:
    trail.acknowledge(await findings(trail))
    trail.write(EVENTS[10:])
    trail.wait()
    report = await trail.verify()
    assert report.verdict is Verdict.ACKNOWLEDGED, report.findings
    assert report.events["auth"] == 35


async def test_what_comes_to_pass_later_is_a_finding(trail: Trail) -> None:
    trail.acknowledge(await findings(trail))
    trail.write([*EVENTS[10:20], *EVENTS[21:]])
    trail.wait()
    report = await trail.verify()
    assert kinds(report) == [Kind.DELETED]
    assert len(report.acknowledged) == 1


async def test_another_form_of_what_was_acknowledged_is_a_finding(trail: Trail) -> None:
    trail.write(EVENTS[10:])
    for actor in ("users/eve", "users/mallory"):
        trail.write(chained(14, 14, previous=chain_hash(EVENTS[12]), actor=actor), seen=False)
        trail.vouch_for_all()
        trail.wait()
        report = await trail.verify()
        assert Kind.FORGED in kinds(report)
        trail.acknowledge(report.findings)
        assert (await trail.verify()).verdict is Verdict.ACKNOWLEDGED


async def test_that_a_checkpoint_is_overdue_cannot_be_acknowledged(trail: Trail) -> None:
    # It would excuse the deletion of all that comes after that checkpoint.
    later = trail.now + timedelta(hours=1)
    report = await trail.verify(now=later)
    assert kinds(report) == [Kind.OVERDUE, Kind.MISSING]
    trail.acknowledge(report.findings)
    assert kinds(await trail.verify(now=later)) == [Kind.OVERDUE]


async def test_without_its_key_an_acknowledgement_acknowledges_nothing(trail: Trail) -> None:
    trail.acknowledge(await findings(trail))
    report = await trail.verify(acknowledgement_key=None)
    assert (kinds(report), report.unjudged, report.acknowledgements) == ([Kind.MISSING], 1, 0)


async def test_one_that_another_key_signed_is_a_forgery(trail: Trail) -> None:
    trail.acknowledge(await findings(trail), signer=ec.generate_private_key(ec.SECP256R1()))
    assert kinds(await trail.verify()) == [Kind.FORGED, Kind.MISSING]


async def test_the_key_of_checkpoints_acknowledges_nothing(trail: Trail) -> None:
    # Who runs Audit can't explain away what is wrong with the trail.
    trail.acknowledge(await findings(trail), signer=trail.checkpoint_key)
    assert kinds(await trail.verify()) == [Kind.FORGED, Kind.MISSING]


async def test_a_checkpoint_is_no_acknowledgement_even_of_the_same_key(trail: Trail) -> None:
    trail.put(SERIES.key_of(1), trail.get("checkpoints/0000000000000001.jsonl"))
    report = await trail.verify(acknowledgement_key=PinnedKey(trail.pem))
    assert kinds(report) == [Kind.FORGED, Kind.MISSING]
    assert "not an acknowledgement" in report.findings[0].text or "cannot be read" in report.findings[0].text


async def test_one_of_another_trail_is_not_believed(trail: Trail) -> None:
    other = PinnedKey(pem_of_key(ec.generate_private_key(ec.SECP256R1()))).fingerprint
    trail.acknowledge(await findings(trail), trail=other)
    assert kinds(await trail.verify()) == [Kind.REPLAYED, Kind.MISSING]


async def test_one_in_the_place_of_another_is_not_believed(trail: Trail) -> None:
    key = trail.acknowledge(await findings(trail))
    trail.put(SERIES.key_of(2), trail.get(key))
    report = await trail.verify()
    assert kinds(report) == [Kind.REPLAYED]
    assert len(report.acknowledged) == 1


async def test_one_that_does_not_follow_the_one_before_it_is_not_believed(trail: Trail) -> None:
    found = await findings(trail)
    trail.acknowledge([], anchored=False)
    first = trail.get(SERIES.key_of(1))
    trail.acknowledge(found)
    trail.acknowledge(found)
    assert (await trail.verify()).verdict is Verdict.ACKNOWLEDGED
    trail.put(SERIES.key_of(1), first)
    assert kinds(await trail.verify()) == [Kind.REPLAYED, Kind.MISSING]


async def test_what_a_checkpoint_named_can_be_neither_deleted_nor_replaced(trail: Trail) -> None:
    found = await findings(trail)
    key = trail.acknowledge(found)
    trail.checkpoint()
    body = trail.get(key)
    trail.delete(key)
    assert kinds(await trail.verify()) == [Kind.DELETED, Kind.MISSING]
    # By one whom the operator's key obeys, too.
    trail.put(key, body)
    assert (await trail.verify()).verdict is Verdict.ACKNOWLEDGED
    trail.replace_acknowledgement(found, by="mallory")
    assert kinds(await trail.verify()) == [Kind.CHANGED]
    assert kinds(await trail.verify(acknowledgement_key=None)) == [Kind.CHANGED, Kind.MISSING]


async def test_a_deleted_one_is_seen_from_the_one_behind_it(trail: Trail) -> None:
    found = await findings(trail)
    first = trail.acknowledge(found)
    trail.acknowledge(found)
    trail.delete(first)
    assert kinds(await trail.verify()) == [Kind.DELETED]


@pytest.mark.parametrize("body", [b"", b"\n\n", b"{}\n{}\n", b"[]\n" * 2, b"\xff\n\xff\n"])
async def test_garbage_acknowledges_nothing(trail: Trail, body: bytes) -> None:
    trail.put(SERIES.key_of(1), body)
    assert kinds(await trail.verify()) == [Kind.FORGED, Kind.MISSING]


async def test_what_is_wrong_with_acknowledgements_can_be_acknowledged(trail: Trail) -> None:
    trail.put(SERIES.key_of(1), b"garbage\n")
    trail.follow_what_is_there()
    trail.acknowledge(await findings(trail))
    assert (await trail.verify()).verdict is Verdict.ACKNOWLEDGED
