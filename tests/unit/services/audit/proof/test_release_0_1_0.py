"""A trail that release 0.1.0 wrote still verifies.

`trail-0.1.0.json` is the bucket of a mesh of that release, after sign-ups, sign-ins and resources.
"""

import base64
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.audit.pipeline.envelope import read
from services.audit.proof.findings import Kind, Report, Verdict
from services.audit.proof.statement import PinnedKey
from services.audit.proof.verification import verify
from services.audit.trail.archive import LocalArchive
from services.audit.trail.event_codec import unpack
from tests.kit.trail import Trail, chain_hash, chained, tombstone_of

RELEASED: dict[str, Any] = json.loads(Path(__file__).with_name("trail-0.1.0.json").read_text())
TIME = datetime.fromisoformat(RELEASED["time"])


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    for key, body in RELEASED["objects"].items():
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(base64.b64decode(body))
    return tmp_path


async def verified(bucket: Path, **options: Any) -> Report:
    return await verify(
        LocalArchive(bucket), PinnedKey(RELEASED["key"].encode()), now=TIME + timedelta(seconds=30), **options
    )


async def test_it_is_intact(bucket: Path) -> None:
    report = await verified(bucket)
    assert report.intact, report.findings
    assert (report.checkpoints, report.objects) == (3, 16)
    assert report.events == {"audit": 1, "auth": 8, "resource": 6, "token": 6, "user": 1}
    assert set(report.unsigned.values()) == {0}


async def test_a_change_of_any_byte_of_it_is_found(bucket: Path) -> None:
    for key in RELEASED["objects"]:
        body = (bucket / key).read_bytes()
        (bucket / key).write_bytes(body[:-9] + bytes([body[-9] ^ 1]) + body[-8:])
        assert not (await verified(bucket)).intact, key
        (bucket / key).write_bytes(body)
    assert (await verified(bucket)).intact


def test_this_release_would_write_the_same_lines(bucket: Path) -> None:
    for file in bucket.rglob("*.jsonl.gz"):
        for line in unpack(file.read_bytes()):
            detail = json.loads(line)
            envelope = {"source": f"authmesh.{detail['source']}", "detail-type": detail["type"], "detail": detail}
            assert read(json.dumps(envelope)).line == line


async def test_a_tombstone_of_it_is_named_and_can_be_acknowledged(tmp_path: Path) -> None:
    # 0.1.0 parked without a statement: nothing tells such a tombstone from a forged one, but an operator who looks into
    # `outbox_parked`.
    trail, events = Trail(tmp_path), chained(1, 10)
    trail.write([*events[:4], tombstone_of(events[4]), *events[5:]])
    trail.wait()
    report = await trail.verify()
    assert [(finding.kind, finding.sequence) for finding in report.findings] == [(Kind.FORGED, 5)]
    assert chain_hash(events[4]) == events[5].previous_hash
    trail.acknowledge(report.findings)
    assert (await trail.verify()).verdict is Verdict.ACKNOWLEDGED
