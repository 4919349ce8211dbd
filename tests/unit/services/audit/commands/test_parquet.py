"""`authmesh audit export`: the trail as Parquet, read back by pyarrow, and the table that Athena reads it by."""

import re
import sys
from datetime import UTC, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset
import pytest
from authmesh.audit.v1.audit_event_pb2 import OUTCOME_FAILURE
from typer.testing import CliRunner

from mesh.audit.personal import seal
from services.audit.commands.audit import commands
from services.audit.commands.parquet import SCHEMA
from tests.kit.envelopes import NOON, event
from tests.kit.trail import Trail, chained

TEMPLATE = Path(__file__).parents[5] / "deploy/aws/events.yaml"


def export(trail: Trail, output: Path, *options: str) -> tuple[int, str]:
    result = CliRunner().invoke(
        commands, ["export", "--format", "parquet", "--directory", str(trail.path), "--output", str(output), *options]
    )
    return result.exit_code, result.output


def read(output: Path) -> list[dict[str, object]]:
    partitioning = pyarrow.dataset.partitioning(
        pa.schema([("source", pa.string()), ("dt", pa.string())]), flavor="hive"
    )
    dataset = pyarrow.dataset.dataset(output, format="parquet", partitioning=partitioning)
    rows: list[dict[str, object]] = (
        dataset.to_table().sort_by([("source", "ascending"), ("sequence", "ascending")]).to_pylist()
    )
    return rows


def test_every_event_comes_back_once_and_whole(tmp_path: Path) -> None:
    trail = Trail(tmp_path / "copy")
    refused = event(
        3, at=NOON + timedelta(days=1, microseconds=7), actor="users/ada", reason="CREDENTIALS_INVALID",
        email="ada@example.org",
        detail={"b": "2", "a": "1"}, previous_hash=b"\x00\xff" * 16,
    )  # fmt: skip
    refused.outcome = OUTCOME_FAILURE
    seal(refused, [b"k" * 32])
    first, second = chained(1, 2)
    trail.write([first, second])
    trail.write([second, refused])  # the second one was delivered twice
    trail.write(chained(1, 1, source="token"))

    status, output = export(trail, tmp_path / "out")
    assert (status, output) == (0, f"4 events in 3 files in {tmp_path / 'out'}\n")
    rows = read(tmp_path / "out")
    assert [(row["source"], row["dt"], row["sequence"]) for row in rows] == [
        ("auth", "2026-11-24", 1), ("auth", "2026-11-24", 2), ("auth", "2026-11-25", 3), ("token", "2026-11-24", 1),
    ]  # fmt: skip
    assert rows[2] == dict.fromkeys(SCHEMA.names) | {
        "source": "auth", "dt": "2026-11-25", "sequence": 3, "eventid": "id-3", "type": "auth.signed_in",
        "outcome": "OUTCOME_FAILURE",
        "eventtime": (NOON + timedelta(days=1, microseconds=7)).astimezone(UTC), "actor": "users/ada",
        "reason": "CREDENTIALS_INVALID",
        "detail": [("a", "1"), ("b", "2")], "previoushash": b"\x00\xff" * 16, "sealed": refused.sealed,
    }  # fmt: skip
    # Some days, once more: what was there is replaced, and nothing else is left behind.
    assert export(trail, tmp_path / "out", "--since", "2026-11-25")[1].startswith("1 events in 1 files")
    assert export(trail, tmp_path / "out", "--until", "2026-11-24", "--source", "auth")[1].startswith(
        "2 events in 1 files"
    )
    assert read(tmp_path / "out") == rows
    assert {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()} == {"events.parquet"}


def test_what_cannot_be_exported_is_said(tmp_path: Path) -> None:
    trail = Trail(tmp_path / "copy")
    [key] = trail.write(chained(1, 3))
    trail.edit(key, lambda lines: [line | ({"newMember": 1} if line["sequence"] == "2" else {}) for line in lines])
    trail.put("audit/source=auth/dt=../../../evil/x.jsonl.gz", trail.get(key))
    trail.put(key.replace("source=auth", "source=token"), trail.get(key))
    status, output = export(trail, tmp_path / "out")
    assert status == 1
    assert f"left out: line 2 of {key}: it has a member" in output
    assert "is of the source auth" in output
    assert [row["sequence"] for row in read(tmp_path / "out")] == [1, 3]
    assert not list(tmp_path.rglob("evil/*.parquet"))


def test_without_pyarrow_it_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "services.audit.commands.parquet")
    monkeypatch.delattr("services.audit.commands.parquet")
    status, output = export(Trail(tmp_path), tmp_path / "out")
    assert status == 2
    assert output.endswith(f"needs pyarrow: {sys.executable} -m pip install pyarrow\n")


def test_the_table_has_the_columns_of_the_files() -> None:
    types = {pa.string(): "string", pa.int64(): "bigint", pa.binary(): "binary",
    SCHEMA.field("eventtime").type: "timestamp",
             pa.map_(pa.string(), pa.string()): "map<string,string>"}  # fmt: skip
    table = TEMPLATE.read_text().partition("  ParquetTable:")[2].partition("\n  # Alarms.")[0]
    columns = re.findall(r'\{Name: (\w+), Type: "?([^"}]+)"?\}', table)
    assert columns == [(column.name, types[column.type]) for column in SCHEMA]
