"""Checkpoints by KMS over what is in the bucket, and the verification of what they say."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mesh.storage.database import Database
from services.audit.proof import checkpoints
from services.audit.proof.checkpointer import Checkpointer
from services.audit.proof.checkpoints import CheckpointError
from services.audit.proof.findings import Kind, Report
from services.audit.proof.statement import PinnedKey, pem_of
from services.audit.proof.verification import verify
from services.audit.reading.projection import Filters, Projection
from services.audit.reading.projector import Projector
from services.audit.trail.archive import Bucket
from tests.conftest import OpenDatabase
from tests.integration.services.audit.conftest import Aws
from tests.kit.trail import chained

NOW = timedelta(seconds=0)


@dataclass
class Signing:
    """A checkpointer and what it works on."""

    aws: Aws
    kms: Any
    key_id: str
    database: Database

    def checkpointer(self, interval: timedelta = NOW) -> Checkpointer:
        return Checkpointer(
            self.database,
            Projector(Projection(self.database)),
            self.aws.client("s3"),
            self.aws.client("kms"),
            bucket=self.aws.bucket,
            key_id=self.key_id,
            interval=interval,
        )

    async def step(self, interval: timedelta = NOW) -> bool:
        return await self.checkpointer(interval).step(self.aws.s3, self.kms)

    async def pem(self) -> bytes:
        return pem_of((await self.kms.get_public_key(KeyId=self.key_id))["PublicKey"])

    async def verify(self, **options: Any) -> Report:
        # Made with an interval of nothing, every checkpoint is overdue at once.
        report = await verify(Bucket(self.aws.s3, self.aws.bucket), PinnedKey(await self.pem()), **options)
        report.findings = [finding for finding in report.findings if finding.kind is not Kind.OVERDUE]
        return report

    async def numbers(self) -> list[int | None]:
        return [
            checkpoints.SERIES.number_of(key)
            async for key in Bucket(self.aws.s3, self.aws.bucket).keys(checkpoints.SERIES.prefix)
        ]


@pytest.fixture
async def signing(aws: Aws, open_database: OpenDatabase) -> AsyncIterator[Signing]:
    async with AsyncExitStack() as stack:
        kms = await stack.enter_async_context(aws.client("kms")())
        key = await kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")
        yield Signing(aws, kms, key["KeyMetadata"]["KeyId"], await open_database("services.audit"))


async def test_checkpoints_follow_each_other_and_vouch_for_what_is_there(signing: Signing) -> None:
    events = chained(1, 30)
    await signing.aws.put(*events[:10])
    await signing.aws.put(*chained(1, 3, source="token"))
    await signing.step()
    await signing.aws.put(*events[10:])
    await signing.step()
    await signing.step()
    report = await signing.verify()
    assert report.intact, report.findings
    assert (report.checkpoints, report.events, report.unsigned) == (
        3,
        {"auth": 30, "token": 3},
        {"auth": 0, "token": 0},
    )


async def test_a_checkpoint_is_made_on_the_clock_and_not_before(signing: Signing) -> None:
    hour = timedelta(hours=1)
    await signing.step(hour)
    await signing.aws.put(*chained(1, 3))
    await signing.step(hour)
    assert await signing.numbers() == [1]
    # Caught up all the same: the projection does not wait for the clock.
    assert len((await Projection(signing.database).page(Filters(), None, 10))[0]) == 3


async def test_a_gap_holds_the_head_until_it_is_filled(signing: Signing) -> None:
    events = chained(1, 10)
    await signing.aws.put(*events[:3], *events[5:])
    await signing.step()
    heads = await Projection(signing.database).heads()
    assert (heads["auth"].sequence, heads["auth"].seen) == (3, 10)
    await signing.aws.put(*events[3:5])
    await signing.step()
    heads = await Projection(signing.database).heads()
    assert (heads["auth"].sequence, heads["auth"].seen) == (10, 10)
    assert (await signing.verify()).intact


async def test_a_forged_event_does_not_lead_the_head_astray(signing: Signing) -> None:
    events = chained(1, 10)
    [forged] = chained(5, 5, previous=events[4].previous_hash, actor="users/eve")
    await signing.aws.put(*events[:5], forged)
    await signing.step()
    assert (await Projection(signing.database).heads())["auth"].sequence == 4
    await signing.aws.put(*events[5:])
    await signing.step()
    assert (await Projection(signing.database).heads())["auth"].sequence == 10
    assert [finding.kind for finding in (await signing.verify()).findings] == [Kind.FORGED]


async def test_a_head_that_a_forged_event_led_astray_comes_back(signing: Signing) -> None:
    events = chained(1, 40)
    [forged] = chained(35, 35, previous=events[34].previous_hash, actor="users/eve")
    await signing.aws.put(*events[:34], forged)
    await signing.step()
    assert (await Projection(signing.database).heads())["auth"].sequence == 35
    await signing.aws.put(*events[34:])
    await signing.step()
    assert (await Projection(signing.database).heads())["auth"].sequence == 40
    assert not (await signing.verify()).intact


async def test_several_replicas_make_one_chain(signing: Signing) -> None:
    await signing.aws.put(*chained(1, 20))
    for _ in range(3):
        await asyncio.gather(*(signing.step() for _ in range(4)))
    numbers = await signing.numbers()
    assert numbers == list(range(1, len(numbers) + 1))
    assert (await signing.verify()).intact


async def test_a_checkpoint_whose_commit_was_lost_is_taken_over(signing: Signing) -> None:
    await signing.aws.put(*chained(1, 10))
    await signing.step()
    await signing.database.execute("UPDATE checkpoint_chain SET number = 0, hash = '', time = 'epoch'")
    await signing.database.execute("UPDATE trail_object SET checkpoint = NULL")
    await signing.step()
    assert await signing.numbers() == [1, 2]
    assert (await signing.verify()).intact
    assert await signing.database.fetchval("SELECT checkpoint FROM trail_object") == 1


async def test_a_lost_database_is_made_again_from_the_bucket(signing: Signing) -> None:
    await signing.aws.put(*chained(1, 10))
    await signing.step()
    await Projection(signing.database).forget()
    await signing.aws.put(*chained(1, 10)[9:])
    await signing.step()
    assert len((await Projection(signing.database).page(Filters(), None, 50))[0]) == 10
    assert (await Projection(signing.database).heads())["auth"].sequence == 10
    assert await signing.numbers() == [1, 2]
    assert (await signing.verify()).intact


async def test_a_checkpoint_of_somebody_else_stops_the_checkpointer(signing: Signing) -> None:
    await signing.step()
    body = (
        await (await signing.aws.s3.get_object(Bucket=signing.aws.bucket, Key=checkpoints.SERIES.key_of(1)))[
            "Body"
        ].read()
    ).replace(b"1", b"2")
    await signing.aws.s3.put_object(Bucket=signing.aws.bucket, Key=checkpoints.SERIES.key_of(2), Body=body)
    with pytest.raises(CheckpointError):
        await signing.step()
    assert [finding.kind for finding in (await signing.verify()).findings] == [Kind.FORGED]


async def test_openssl_can_check_a_checkpoint(signing: Signing, tmp_path: Any) -> None:
    import base64
    import json

    await signing.step()
    answer = await signing.aws.s3.get_object(Bucket=signing.aws.bucket, Key=checkpoints.SERIES.key_of(1))
    statement, signature, _ = (await answer["Body"].read()).split(b"\n")
    (tmp_path / "statement").write_bytes(statement)
    (tmp_path / "signature").write_bytes(base64.b64decode(json.loads(signature)["signature"]))
    (tmp_path / "key.pem").write_bytes(await signing.pem())
    process = await asyncio.create_subprocess_exec(
        "openssl",
        "dgst",
        "-sha256",
        "-verify",
        "key.pem",
        "-signature",
        "signature",
        "statement",
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
    )
    assert b"Verified OK" in (await process.communicate())[0]


async def test_the_task_signs_by_itself_and_outlives_an_outage(signing: Signing) -> None:
    task = asyncio.create_task(signing.checkpointer(timedelta(seconds=1)).run())
    try:
        async with asyncio.timeout(20):
            while len(await signing.numbers()) < 2:
                await asyncio.sleep(0.1)
    finally:
        task.cancel()
    now = datetime.now(UTC)
    report = await verify(Bucket(signing.aws.s3, signing.aws.bucket), PinnedKey(await signing.pem()), now=now)
    assert report.intact, report.findings
