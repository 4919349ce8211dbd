"""`authmesh audit acknowledge` against the real APIs: KMS signs, S3 keeps it, `verify` and the checkpoints take it
up."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mesh.storage.database import Database
from services.audit.commands.audit import commands
from services.audit.proof import acknowledgements
from services.audit.proof.checkpointer import Checkpointer
from services.audit.proof.statement import pem_of
from services.audit.reading.projection import Projection
from services.audit.reading.projector import Projector
from tests.conftest import OpenDatabase
from tests.integration.services.audit.conftest import Aws
from tests.kit.envelopes import event
from tests.kit.trail import chained

INTERVAL = timedelta(seconds=60)


@dataclass
class Operator:
    """A person at a shell, with a trail whose checkpoints are signed."""

    aws: Aws
    kms: Any
    checkpointer: Checkpointer
    database: Database
    keys: dict[str, str]
    """Ids of the KMS keys, by what they sign."""
    files: dict[str, Path]
    """Their public halves."""

    async def authmesh(self, command: str, *arguments: str, believing: bool = True) -> Result:
        options = [
            "--bucket",
            self.aws.bucket,
            "--endpoint-url",
            self.aws.endpoint_url,
            "--key",
            str(self.files["checkpoints"]),
        ]
        options += ["--acknowledgement-key", str(self.files["acknowledgements"])] if believing else []
        return await asyncio.to_thread(CliRunner().invoke, commands, [command, *arguments, *options])

    async def acknowledge(self, *arguments: str, believing: bool = True, key: str = "acknowledgements") -> Result:
        return await self.authmesh(
            "acknowledge", "--by", "ada", *arguments, "--key-id", self.keys[key], believing=believing
        )

    async def report(self, *, believing: bool = True) -> tuple[int, Any]:
        result = await self.authmesh("verify", "--json", believing=believing)
        return result.exit_code, json.loads(result.output)

    async def checkpoint(self) -> None:
        await self.database.execute("UPDATE checkpoint_chain SET time = 'epoch'")
        await self.checkpointer.step(self.aws.s3, self.kms)


@pytest.fixture
async def operator(aws: Aws, open_database: OpenDatabase, tmp_path: Path) -> AsyncIterator[Operator]:
    async with AsyncExitStack() as stack:
        kms = await stack.enter_async_context(aws.client("kms")())
        keys, files = {}, {}
        for name in ("checkpoints", "acknowledgements"):
            keys[name] = (await kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY"))["KeyMetadata"]["KeyId"]
            files[name] = tmp_path / f"{name}.pem"
            files[name].write_bytes(pem_of((await kms.get_public_key(KeyId=keys[name]))["PublicKey"]))
        database = await open_database("services.audit")
        checkpointer = Checkpointer(
            database,
            Projector(Projection(database)),
            aws.client("s3"),
            aws.client("kms"),
            bucket=aws.bucket,
            key_id=keys["checkpoints"],
            interval=INTERVAL,
        )
        made = Operator(aws, kms, checkpointer, database, keys, files)
        events = chained(1, 12)
        [forged] = chained(5, 5, previous=events[4].previous_hash, actor="users/eve")
        await aws.put(*events[:5], forged, *events[5:])
        # The instance: one event with a number that the chain never reaches.
        await aws.put(event(2_000_000, source="user"), *chained(1, 3, source="user"))
        await made.checkpoint()
        yield made


async def test_a_finding_is_acknowledged_by_a_statement_that_later_verifications_show(operator: Operator) -> None:
    status, report = await operator.report()
    assert (status, [finding["kind"] for finding in report["findings"]]) == (1, ["forged", "missing"])
    ids = [finding["id"] for finding in report["findings"]]

    result = await operator.acknowledge(ids[0][:12], "--reason", "a drill")
    assert result.exit_code == 0, result.output
    assert "acknowledgement 1, by ada at" in result.output
    status, report = await operator.report()
    assert (status, report["verdict"], [finding["id"] for finding in report["findings"]]) == (1, "not intact", ids[1:])

    result = await operator.acknowledge(ids[1], "--reason", "junk of a test")
    assert result.exit_code == 0, result.output
    status, report = await operator.report()
    assert (status, report["verdict"], report["acknowledgements"]) == (3, "acknowledged", 2)
    said = [item["acknowledgement"] for item in report["acknowledged"]]
    assert [(item["number"], item["reason"]) for item in said] == [(1, "a drill"), (2, "junk of a test")]
    assert said[0]["by"] == "ada"
    assert {item["by"] for item in said} == {"ada"}
    assert (await operator.report(believing=False))[0] == 1


async def test_checkpoints_hold_operators_to_what_they_acknowledged(operator: Operator) -> None:
    _, report = await operator.report()
    for finding in report["findings"]:
        assert (await operator.acknowledge(finding["id"], "--reason", "a drill")).exit_code == 0
    await operator.checkpoint()
    assert (await operator.report())[0] == 3
    for number in (2, 1):
        await operator.aws.s3.delete_object(Bucket=operator.aws.bucket, Key=acknowledgements.SERIES.key_of(number))
        status, report = await operator.report()
        assert status == 1
        assert "acknowledgement 2 was deleted: checkpoint 2 names it" in [
            finding["text"] for finding in report["findings"]
        ]


async def test_what_comes_after_an_acknowledgement_is_a_finding(operator: Operator) -> None:
    _, report = await operator.report()
    for finding in report["findings"]:
        assert (await operator.acknowledge(finding["id"], "--reason", "a drill")).exit_code == 0
    await operator.aws.put(event(3_000_000, source="user"))
    await operator.checkpoint()
    status, report = await operator.report()
    assert (status, len(report["acknowledged"]), [finding["kind"] for finding in report["findings"]]) == (
        1,
        2,
        ["missing"],
    )


async def test_what_was_not_found_cannot_be_acknowledged(operator: Operator) -> None:
    for arguments, says in (
        (["0123456789ab", "--reason", "none"], "names nothing that was found just now"),
        (["0123", "--reason", "none"], "is too short"),
        (["0123456789ab", "--reason", " "], "--reason takes 1 to 1000 characters"),
        (["0123456789ab", "--reason", "x" * 1001], "--reason takes 1 to 1000 characters"),
    ):
        result = await operator.acknowledge(*arguments)
        assert result.exit_code == 2
        assert says in result.output
    assert (await operator.report())[1]["acknowledgements"] == 0


async def test_what_is_acknowledged_is_not_acknowledged_twice(operator: Operator) -> None:
    _, report = await operator.report()
    first = report["findings"][0]["id"]
    assert (await operator.acknowledge(first, "--reason", "a drill")).exit_code == 0
    result = await operator.acknowledge(first, "--reason", "a drill")
    assert result.exit_code == 2
    assert "is acknowledged already, by acknowledgement 1" in result.output


async def test_an_operator_whom_aws_does_not_know_must_say_who_they_are(operator: Operator) -> None:
    # The emulator's front serves no STS.
    _, report = await operator.report()
    result = await operator.acknowledge(report["findings"][0]["id"], "--reason", "a drill", "--by", "")
    assert result.exit_code == 2
    assert "name yourself with --by" in result.output


async def test_a_key_that_verifiers_do_not_believe_signs_nothing(operator: Operator) -> None:
    _, report = await operator.report()
    result = await operator.acknowledge(report["findings"][0]["id"], "--reason", "a drill", key="checkpoints")
    assert result.exit_code == 2
    assert "verifiers would not believe" in result.output
    assert (await operator.report())[1]["acknowledgements"] == 0
