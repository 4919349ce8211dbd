"""The published vectors of the trail's format, the trail of release 0.1.0, and a verifier that knows nothing of
ours."""

import ast
import base64
import gzip
import json
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from services.audit.proof.findings import Verdict
from services.audit.proof.statement import PinnedKey, digest, signed_part
from services.audit.proof.verification import verify
from services.audit.trail import merkle
from services.audit.trail.archive import LocalArchive
from services.audit.trail.event_codec import read_line, unpack
from tests.kit import independent_verifier as independent
from tests.kit.make_audit_vectors import FILE, make

VECTORS: dict[str, Any] = json.loads(FILE.read_text())
EXPECTED = VECTORS["expected"]
RELEASED: dict[str, Any] = json.loads(Path(__file__).with_name("trail-0.1.0.json").read_text())
OBJECTS = {key: base64.b64decode(body) for key, body in VECTORS["objects"].items()}
OLD_OBJECTS = {key: base64.b64decode(body) for key, body in RELEASED["objects"].items()}


def test_lines_have_the_bytes_and_hashes_that_are_published() -> None:
    lines = {line.decode(): read_line(line) for key in EXPECTED["objects"] for line in unpack(OBJECTS[key])}
    assert [
        {"line": line, "bytes": link.payload.hex(), "sha256": link.digest.hex()} for line, link in lines.items()
    ] == EXPECTED["events"]  # fmt: skip


def test_objects_have_the_roots_that_are_published() -> None:
    for key, expected in EXPECTED["objects"].items():
        leaves = [merkle.leaf(line) for line in unpack(OBJECTS[key])]
        assert ([leaf.hex() for leaf in leaves], merkle.root(leaves).hex()) == (expected["leaves"], expected["root"])


def test_statements_have_the_hashes_that_are_published() -> None:
    assert {
        key: digest(signed_part(body)).hex() for key, body in OBJECTS.items() if not key.startswith("audit/")
    } == EXPECTED["statements"]


async def test_the_vectors_verify_as_is_published(tmp_path: Path) -> None:
    for key, body in OBJECTS.items():
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(body)
    keys = {name: PinnedKey(pem.encode()) for name, pem in VECTORS["keys"].items()}
    report = await verify(
        LocalArchive(tmp_path),
        keys["checkpoints"],
        acknowledgement_key=keys["acknowledgements"],
        now=datetime.fromisoformat(VECTORS["time"]),
    )
    assert report.verdict is Verdict.ACKNOWLEDGED, report.findings
    found = [
        {"id": item.finding.id, "kind": item.finding.kind, "about": item.finding.about} for item in report.acknowledged
    ]
    assert found == EXPECTED["findings"]
    assert report.parked == ["event 5 of auth"]


async def test_this_release_still_writes_what_the_vectors_show(tmp_path: Path) -> None:
    made = await make(tmp_path)
    lines = [json.loads(event["line"]) for event in made["expected"]["events"]]  # type: ignore[index]
    published = [json.loads(event["line"]) for event in EXPECTED["events"]]
    assert [sorted(line) for line in lines] == [sorted(line) for line in published]
    assert [line for line in lines if "audit." not in line["type"]][:4] == [
        line for line in published if "audit." not in line["type"]
    ][:4]


def test_the_independent_verifier_imports_nothing_of_ours() -> None:
    allowed = {*sys.stdlib_module_names, "cryptography"}
    for node in ast.walk(ast.parse(Path(independent.__file__).read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or "."] if isinstance(node, ast.ImportFrom) else []
        assert {name.partition(".")[0] for name in names} <= allowed


def test_the_independent_verifier_makes_the_published_bytes() -> None:
    for event in EXPECTED["events"]:
        encoded = independent.protobuf(json.loads(event["line"]))
        assert (encoded.hex(), independent.sha256(encoded).hex()) == (event["bytes"], event["sha256"])
    for key, expected in EXPECTED["objects"].items():
        leaves = [independent.leaf(line) for line in independent.lines_of(OBJECTS[key])]
        assert independent.merkle_root(leaves).hex() == expected["root"]


def test_the_independent_verifier_finds_what_is_published_and_nothing_else() -> None:
    found = [f"{finding['kind']} {finding['about']}" for finding in EXPECTED["findings"]]
    assert independent.verify(OBJECTS, {"checkpoints": VECTORS["keys"]["checkpoints"]}) == found
    assert independent.verify(OBJECTS, VECTORS["keys"]) == []


def test_the_independent_verifier_believes_the_trail_of_0_1_0() -> None:
    assert independent.verify(OLD_OBJECTS, {"checkpoints": RELEASED["key"]}) == []


def _edited(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[bytes], bytes]:
    return lambda body: gzip.compress(b"".join(line + b"\n" for line in change(independent.lines_of(body))), mtime=0)


@pytest.mark.parametrize(
    "tamper",
    [
        lambda body: None,
        _edited(lambda lines: lines[1:]),
        _edited(lambda lines: lines[:-1]),
        _edited(lambda lines: [line.replace(b"OUTCOME_SUCCESS", b"OUTCOME_FAILURE") for line in lines]),
        lambda body: body.replace(b'"seen":', b'"sEen":') if b'"seen":' in body else body[:-4],
    ],
)
@pytest.mark.parametrize(
    ("objects", "keys"),
    [(OBJECTS, VECTORS["keys"]), (OLD_OBJECTS, {"checkpoints": RELEASED["key"]})],
    ids=["vectors", "0.1.0"],
)
def test_the_independent_verifier_finds_what_was_tampered_with(
    objects: dict[str, bytes], keys: dict[str, str], tamper: Callable[[bytes], bytes | None]
) -> None:
    for key in objects:
        if key == max(objects):
            # Nothing vouches for the newest checkpoint but the clock.
            continue
        try:
            changed = tamper(objects[key])
        except gzip.BadGzipFile:
            continue
        if changed is not None and same(changed, objects[key]):
            continue
        others = {name: body for name, body in objects.items() if name != key}
        with pytest.raises((AssertionError, ValueError, EOFError, KeyError)):
            assert independent.verify(others if changed is None else others | {key: changed}, keys) == []


def same(first: bytes, second: bytes) -> bool:
    """Whether they hold the same lines, however they are packed."""
    try:
        return first == second or gzip.decompress(first) == gzip.decompress(second)
    except (OSError, EOFError):
        return False
