"""Makes `docs/vectors/audit-trail.json`: `python -m tests.kit.make_audit_vectors`. The keys are thrown away."""

import asyncio
import base64
import json
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

from authmesh.audit.v1.audit_event_pb2 import OUTCOME_FAILURE, AuditEvent

from mesh.audit import tombstone
from services.audit.proof.statement import digest, signed_part
from services.audit.trail import merkle
from services.audit.trail.event_codec import read_line, unpack
from tests.kit.envelopes import NOON, event
from tests.kit.trail import Trail, chain_hash, pem_of_key, statement_of, tombstone_of

FILE = Path(__file__).parents[2] / "docs/vectors/audit-trail.json"
ABOUT = (
    "A trail, as it lies in the bucket (`objects`, base64 by key), with the public keys to believe it by. `expected` is"
    " what a verifier makes of it: each line's event in protobuf (hex) and its SHA-256, each object's leaves and root,"
    " each statement's hash, and what is found, which is acknowledged."
)


def events() -> list[AuditEvent]:
    """Every field, every form of a time, and a map whose order is not that of its making."""
    made: list[AuditEvent] = []

    def add(**fields: Any) -> AuditEvent:
        number = len(made) + 1
        previous = tombstone.link(made[-1]) if made else b""
        at = NOON + timedelta(seconds=number)
        sent = event(number, at=at, previous_hash=previous, **fields)
        made.append(sent)
        return sent

    add()
    add(
        detail={"b": "2", "a": "1", "ä": "", "Z": "電\u2028\x1b", "": "empty", "aa": "0"}
    ).event_time.nanos = 500_000_000
    whole = add(
        actor="users/ada", subject="users/bob", session="users/bob/sessions/1", client="clients/app",
        target="resources/7", reason="SCOPE_MISSING",
        request_id="r-3", trace_id="0" * 32, sealed=bytes(range(60)),
    )  # fmt: skip
    whole.outcome = OUTCOME_FAILURE
    whole.event_time.nanos = 123_456_000
    add(address="192.0.2.1", user_agent="curl/8", email="ada@example.org").event_time.nanos = 1
    parked = add(actor="users/eve")
    add(detail={"version": "2", "roles": "user", "roles_before": "admin user"})
    stone = tombstone_of(parked)
    made.append(statement_of(stone, 7, chain_hash(made[-1])))
    made[4] = stone
    return made


async def make(folder: Path) -> dict[str, object]:
    """The document."""
    trail, chain = Trail(folder), events()
    trail.write(chain[:3])
    trail.write([event(1, source="token")])
    trail.checkpoint()
    trail.write(chain[2:])  # the third one was delivered twice
    trail.checkpoint()
    [forged] = trail.write([event(2, previous_hash=chain[1].previous_hash, actor="users/mallory")], seen=False)
    trail.vouch_for(forged)
    trail.checkpoint()
    findings = (await trail.verify()).findings
    trail.acknowledge(findings)
    trail.checkpoint()
    objects = {
        file.relative_to(folder).as_posix(): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()
    }
    lines = {key: unpack(body) for key, body in objects.items() if key.startswith("audit/")}
    return {
        "about": ABOUT,
        "time": trail.now.isoformat(),
        "keys": {"checkpoints": trail.pem.decode(), "acknowledgements": pem_of_key(trail.operator).decode()},
        "objects": {key: base64.b64encode(body).decode() for key, body in objects.items()},
        "expected": {
            "events": [
                {"line": line.decode(), "bytes": read_line(line).payload.hex(), "sha256": read_line(line).digest.hex()}
                for line in dict.fromkeys(line for found in lines.values() for line in found)
            ],
            "objects": {
                key: {
                    "leaves": [merkle.leaf(line).hex() for line in found],
                    "root": merkle.root([merkle.leaf(line) for line in found]).hex(),
                }
                for key, found in lines.items()
            },
            "statements": {
                key: digest(signed_part(body)).hex() for key, body in objects.items() if not key.startswith("audit/")
            },
            "findings": [{"id": finding.id, "kind": finding.kind, "about": finding.about} for finding in findings],
        },
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        FILE.write_text(json.dumps(asyncio.run(make(Path(directory))), indent=1) + "\n")
