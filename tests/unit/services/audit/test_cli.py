"""`authmesh audit verify` on a copy of the bucket: what it prints, and its exit status."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.audit.cli import commands, one_line
from tests.unit.services.audit.trail import Trail, chained


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
    result = CliRunner().invoke(commands, ["verify", "--directory", str(trail.path), "--key", str(key), "--at", at, *options])
    return result.exit_code, result.output


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


def test_scripts_get_json(trail: Trail) -> None:
    status, output = verify(trail, "--json")
    report = json.loads(output)
    assert (status, report["intact"], report["events"], report["findings"]) == (0, True, {"auth": 10}, [])


@pytest.mark.parametrize("pem", [None, b"nothing"])
def test_without_a_key_is_status_2(trail: Trail, pem: bytes | None) -> None:
    key = trail.path.parent / "key.pem"
    key.unlink() if pem is None else key.write_bytes(pem)
    status, output = verify(trail)
    assert status == 2
    assert "key" in output


def test_without_a_mesh_or_a_bucket_is_status_2(trail: Trail) -> None:
    result = CliRunner().invoke(commands, ["verify", "--key", str(trail.path.parent / "key.pem")], env={"AUDIT_BUCKET": ""})
    assert result.exit_code == 2
    assert "--bucket" in result.output


def test_an_event_is_one_line() -> None:
    event = {
        "eventTime": "2026-11-24T12:00:00Z", "source": "auth", "sequence": "7", "type": "auth.sign_in_failed", "outcome": "OUTCOME_FAILURE",
        "reason": "CREDENTIALS_INVALID", "subject": "users/ada", "detail": {"b": "2", "a": "1"}, "sealed": "AAAA",
    }  # fmt: skip
    assert one_line(event) == (
        "2026-11-24T12:00:00Z  auth#7  auth.sign_in_failed  FAILED CREDENTIALS_INVALID  subject=users/ada  a=1  b=2  (personal data sealed)"
    )
