"""`authmesh audit verify` on a copy of the bucket: what it prints, and its exit status."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from services.audit.commands.audit import commands, one_line
from tests.kit.envelopes import event
from tests.kit.trail import Trail, chained, pem_of_key


@pytest.fixture
def trail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trail:
    monkeypatch.setenv("AUTHMESH_HOME", str(tmp_path / "home"))
    made = Trail(tmp_path / "copy")
    made.write(chained(1, 10))
    made.checkpoint()
    (tmp_path / "key.pem").write_bytes(made.pem)
    return made


def verify(trail: Trail, *options: str) -> tuple[int, str]:
    key = trail.path.parent / "key.pem"
    at = f"{trail.now:%Y-%m-%dT%H:%M:%SZ}"
    result = CliRunner().invoke(
        commands, ["verify", "--directory", str(trail.path), "--key", str(key), "--at", at, *options]
    )
    return result.exit_code, result.output


def verify_json(trail: Trail, *options: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(verify(trail, "--json", *options)[1])
    return report


def test_an_intact_trail_is_status_0(trail: Trail) -> None:
    status, output = verify(trail)
    assert status == 0, output
    assert "intact: 10 events (auth 10) in 1 objects" in output


def test_a_tampered_trail_is_status_1_and_the_first_finding_comes_first(trail: Trail) -> None:
    [file] = trail.path.glob("audit/*/*/*")
    trail.edit(str(file.relative_to(trail.path)), lambda lines: [line for line in lines if line["sequence"] != "4"])
    status, output = verify(trail)
    assert status == 1
    assert output.startswith("FIRST: deleted: event 4 of auth was deleted: checkpoint 1 vouches")
    [first, *_] = verify_json(trail)["findings"]
    assert output.splitlines()[0].endswith(f"[{first['id'][:12]}]")


def acknowledged(trail: Trail) -> Path:
    """All that is found of the trail is acknowledged. Returns the operators' public key."""
    trail.acknowledge(asyncio.run(trail.verify()).findings)
    operators = trail.path.parent / "operators.pem"
    operators.write_bytes(pem_of_key(trail.operator))
    return operators


def test_what_is_acknowledged_is_shown_as_such_and_is_status_3(trail: Trail) -> None:
    trail.write(chained(2, 2, previous=bytes(32)), seen=False)
    assert verify(trail)[0] == 1
    operators = acknowledged(trail)
    status, output = verify(trail, "--acknowledgement-key", str(operators))
    assert status == 3, output
    assert "known: forged: event 2 of auth exists in a second form" in output
    assert f"acknowledged by ada at {trail.now:%Y-%m-%dT%H:%M:%SZ} (acknowledgement 1): a drill of the 24th" in output
    assert "ACKNOWLEDGED: 10 events" in output
    [item] = verify_json(trail, "--acknowledgement-key", str(operators))["acknowledged"]
    assert item["acknowledgement"] == {
        "number": 1,
        "by": "ada",
        "reason": "a drill of the 24th",
        "time": trail.now.isoformat(),
    }


def test_an_acknowledgement_without_a_key_to_believe_it_by_is_status_1_and_told(trail: Trail) -> None:
    trail.write(chained(2, 2, previous=bytes(32)), seen=False)
    acknowledged(trail)
    status, output = verify(trail)
    assert status == 1
    assert (
        "1 acknowledgements count for nothing: name the public key to believe them by with --acknowledgement-key"
        in output
    )


def test_text_of_callers_does_nothing_to_the_terminal(trail: Trail) -> None:
    evil = event(3, previous_hash=bytes(32))
    evil.event_id = "\x1b]0;pwned\x07\nFIRST: intact"
    trail.write([evil], seen=False)
    trail.put("audit/\x1b[2J.jsonl.gz", b"")
    status, output = verify(trail)
    assert status == 1
    assert "\x1b" not in output
    assert "\\u001b]0;pwned\\u0007\\nFIRST: intact" in output
    assert len([line for line in output.splitlines() if line.startswith("FIRST")]) == 1


def test_scripts_get_json(trail: Trail) -> None:
    status, output = verify(trail, "--json")
    report = json.loads(output)
    assert (status, report["verdict"], report["intact"], report["events"], report["findings"]) == (
        0,
        "intact",
        True,
        {"auth": 10},
        [],
    )


@pytest.mark.parametrize("pem", [None, b"nothing"])
def test_without_a_key_is_status_2(trail: Trail, pem: bytes | None) -> None:
    key = trail.path.parent / "key.pem"
    key.unlink() if pem is None else key.write_bytes(pem)
    status, output = verify(trail)
    assert status == 2
    assert "key" in output


def test_without_a_mesh_or_a_bucket_is_status_2(trail: Trail) -> None:
    result = CliRunner().invoke(
        commands, ["verify", "--key", str(trail.path.parent / "key.pem")], env={"AUDIT_BUCKET": ""}
    )
    assert result.exit_code == 2
    assert "--bucket" in result.output


def test_an_event_is_one_line() -> None:
    event = {
        "eventTime": "2026-11-24T12:00:00Z", "source": "auth", "sequence": "7", "type": "auth.sign_in_failed",
        "outcome": "OUTCOME_FAILURE",
        "reason": "CREDENTIALS_INVALID", "subject": "users/ada", "detail": {"b": "2", "a": "1"}, "sealed": "AAAA",
    }  # fmt: skip
    assert one_line(event, "STANDING_CHAINED") == one_line(event)
    assert one_line(event, "STANDING_OFF_CHAIN") == f"FORGED  {one_line(event)}"
    assert one_line(event, "STANDING_PENDING") == f"NOT CHAINED YET  {one_line(event)}"
    assert one_line(event | {"detail": {"a": "b  actor=users/eve"}}).endswith(
        '  a="b  actor=users/eve"  (personal data sealed)'
    )
    assert one_line(event) == (
        "2026-11-24T12:00:00Z  auth#7  auth.sign_in_failed  FAILED CREDENTIALS_INVALID  "
        "subject=users/ada  a=1  b=2  (personal data sealed)"
    )
