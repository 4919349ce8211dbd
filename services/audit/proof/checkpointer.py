"""The checkpointer: on a clock, also when nothing happened, it signs what the trail holds.

Any number of replicas run it: the lock of one row in Audit's database makes one of them the checkpointer of a pass, and
the conditional put makes sure of it in S3. Whatever breaks in between is made good from S3, which is ahead of the
database or level with it, never behind.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from mesh.errors import Unavailable
from mesh.runtime.interruption import Interruption
from mesh.runtime.part import Part
from mesh.storage.database import Database, Transaction
from mesh.telemetry.embedded_metric import embedded
from mesh.telemetry.metrics import CHECKPOINT_SIGNED_TIMESTAMP
from services.audit.pipeline.metrics import CHECKPOINTS
from services.audit.proof import acknowledgements, checkpoints
from services.audit.proof.checkpoints import CheckpointError, ObjectCommitment, Statement
from services.audit.proof.statement import PinnedKey, StatementError, digest, pem_of, seal
from services.audit.reading.projection import Projection
from services.audit.reading.projector import Projector
from services.audit.trail.archive import Bucket, read_all

LIST_SECONDS = 15.0
"""How soon objects are found that no process of ours told of."""
OBJECTS_AT_ONCE = 5_000
"""Of one checkpoint. When there are more, the next one follows at once."""

_LOCK = "SELECT number, hash, time FROM checkpoint_chain FOR UPDATE SKIP LOCKED"

_log = structlog.get_logger("authmesh.audit")


class Checkpointer(Part):
    """Signs checkpoints until it is cancelled."""

    name = "checkpointer"

    def __init__(
        self,
        database: Database,
        follower: Projector,
        open_s3: Callable[[], AbstractAsyncContextManager[Any]],
        open_kms: Callable[[], AbstractAsyncContextManager[Any]],
        *,
        bucket: str,
        key_id: str,
        interval: timedelta,
    ) -> None:
        """Initializes the instance.

        Args:
            database: Audit's own.
            follower: Fills the projection, which says what is vouched for.
            open_s3: Opens a client of the `s3` API.
            open_kms: Opens a client of the `kms` API.
            bucket: The bucket of the trail.
            key_id: The KMS key that signs: ECC_NIST_P256, SIGN_VERIFY.
            interval: Between checkpoints. Verifiers hold us to it.
        """
        self._database = database
        self._projection = Projection(database)
        self._follower = follower
        self._open_s3 = open_s3
        self._open_kms = open_kms
        self._bucket = bucket
        self._key_id = key_id
        self._interval = interval
        self._pinned: PinnedKey | None = None
        self._behind: dict[str, int] = {}

    async def run(self) -> None:
        """Signs until it is cancelled."""
        interruption = Interruption(_log, "no checkpoint")
        async with self._open_s3() as s3, self._open_kms() as kms:
            while True:
                more = False
                try:
                    more = await self.step(s3, kms)
                    interruption.ended()
                except StatementError as error:
                    _log.error("no checkpoint", cause=str(error))
                except (BotoCoreError, ClientError, OSError, TimeoutError, Unavailable) as error:
                    interruption.failed(error=type(error).__name__)
                if not more:
                    await asyncio.sleep(min(LIST_SECONDS, self._interval.total_seconds() / 4))

    async def step(self, s3: Any, kms: Any) -> bool:
        """One pass: catches up with the bucket and signs if a checkpoint is due.

        Does nothing while another replica is at it. Returns whether the next pass should follow at once.

        Raises:
            CheckpointError: what is in the bucket under the next number is not ours.
            ClientError, BotoCoreError, OSError: S3 or KMS is unavailable.
            Unavailable: the database is.
        """
        if self._pinned is None:
            self._pinned = PinnedKey(pem_of((await kms.get_public_key(KeyId=self._key_id))["PublicKey"]))
        bucket = Bucket(s3, self._bucket)
        await self._adopt(bucket, self._pinned)
        async with self._database.transaction() as tx:
            row = await tx.fetchrow(_LOCK)
            if row is None:
                return False
            await self._follower.catch_up(bucket)
            objects = await _open_objects(tx)
            if datetime.now(UTC) < row["time"] + self._interval and len(objects) <= OBJECTS_AT_ONCE:
                return False
            statement = Statement(
                row["number"] + 1,
                datetime.now(UTC),
                self._interval,
                row["hash"],
                await self._projection.heads(),
                tuple(objects[:OBJECTS_AT_ONCE]),
                await acknowledgements.newest(bucket),
            )
            signed = await self._sign(s3, kms, statement)
            await _settle(tx, statement, signed)
        return len(objects) > OBJECTS_AT_ONCE

    async def _sign(self, s3: Any, kms: Any, statement: Statement) -> bytes:
        """Signs and stores a statement. Returns what was signed."""
        signed = statement.encode()
        answer = await kms.sign(
            KeyId=self._key_id, Message=digest(signed), MessageType="DIGEST", SigningAlgorithm="ECDSA_SHA_256"
        )
        body = seal(signed, answer["Signature"])
        # Where the bucket has Object Lock, its default retention covers checkpoints too.
        await s3.put_object(
            Bucket=self._bucket,
            Key=checkpoints.SERIES.key_of(statement.number),
            Body=body,
            ContentType="application/jsonl",
            IfNoneMatch="*",
        )
        behind = {
            source: head.seen - head.sequence for source, head in statement.heads.items() if head.seen > head.sequence
        }
        CHECKPOINT_SIGNED_TIMESTAMP.set_to_current_time()
        _log.info(
            "checkpoint",
            number=statement.number,
            objects=len(statement.objects),
            **embedded({CHECKPOINTS: (1, "Count")}),
        )
        if behind != self._behind:
            # Once: a forged event with a far number leaves a gap for good.
            self._behind = behind
            if behind:
                _log.warning("a chain has a gap", missing=behind)
        return signed

    async def _adopt(self, bucket: Bucket, pinned: PinnedKey) -> None:
        """Takes over the checkpoints that are in S3 and not in the database: it was restored, or lost the last commit.

        In a transaction of its own: what is read from the bucket afterwards goes by other connections.
        """
        async with self._database.transaction() as tx:
            row = await tx.fetchrow(_LOCK)
            if row is None:
                return
            number, previous = row["number"], row["hash"]
            newer = [
                key
                async for key in bucket.keys(checkpoints.SERIES.prefix, after=checkpoints.SERIES.key_of(number))
                if checkpoints.SERIES.number_of(key)
            ]
            async for key, body in read_all(bucket, newer):
                try:
                    statement, signed = checkpoints.read(pinned, body or b"")
                except StatementError as error:
                    raise CheckpointError(f"{key}: {error}") from None
                if (
                    statement.number != number + 1
                    or checkpoints.SERIES.number_of(key) != number + 1
                    or statement.previous != previous
                ):
                    raise CheckpointError(f"{key}: it does not follow checkpoint {number}")
                number, previous = statement.number, digest(signed)
                await _settle(tx, statement, signed)


async def _open_objects(tx: Transaction) -> Sequence[ObjectCommitment]:
    rows = await tx.fetch(
        "SELECT key, events, root FROM trail_object WHERE checkpoint IS NULL ORDER BY key LIMIT $1", OBJECTS_AT_ONCE + 1
    )
    return [ObjectCommitment(row["key"], row["events"], row["root"]) for row in rows]


async def _settle(tx: Transaction, statement: Statement, signed: bytes) -> None:
    """Writes down that a checkpoint was made. Objects that this database never saw are still to be read."""
    await tx.execute(
        """
        INSERT INTO trail_object (key, source, day, events, root, is_read, checkpoint)
        SELECT key, substring(key FROM 'source=([^/]*)/'), substring(key
            FROM 'dt=([0-9-]*)/')::date, events, root, false, $4
        FROM unnest($1::text[], $2::integer[], $3::bytea[]) AS vouched (key, events, root)
        ON CONFLICT (key) DO UPDATE SET checkpoint = $4 WHERE trail_object.root = excluded.root
        """,
        [item.key for item in statement.objects],
        [item.events for item in statement.objects],
        [item.root for item in statement.objects],
        statement.number,
    )
    await tx.execute(
        "UPDATE checkpoint_chain SET number = $1, hash = $2, time = $3",
        statement.number,
        digest(signed),
        statement.time,
    )
    # What lies further back is not listed any more.
    await tx.execute(
        """
        DELETE FROM trail_object USING trail_source
        WHERE trail_object.source = trail_source.source AND trail_object.day < trail_source.day - 7
            AND checkpoint IS NOT NULL
        """
    )
