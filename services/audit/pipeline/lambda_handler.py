"""The consumer as a Lambda function: one batch of the queue into S3.

The same reading and laying out as `consumer`, without its loop.

What could not be stored is named in the answer and comes again alone, after a pause: an outage of S3 must not take good
messages to the dead letters. What is not taken goes there at once, and holds up nothing. Standard library, botocore and
protobuf only: it has to start fast.
"""

import os
from collections import defaultdict
from typing import Any

from botocore.exceptions import ClientError

from mesh.lambda_batch import AWS_ERRORS, CALL_SECONDS, Batch, Message, client, error_code, log
from services.audit.pipeline.envelope import EnvelopeError, Intake, Record, names
from services.audit.pipeline.metrics import NOT_STORED
from services.audit.trail.objects import PREFIX, lay_out


def handler(event: dict[str, Any], context: object) -> dict[str, list[dict[str, str]]]:
    """Stores a batch. Returns Lambda's partial failures: the ids of the messages that are not in S3.

    Raises:
        KeyError: AUDIT_BUCKET or AUDIT_SOURCES is not set; the whole batch comes again.
    """
    bucket, intake = (
        os.environ["AUDIT_BUCKET"],
        Intake(names(os.environ["AUDIT_SOURCES"]), names(os.environ.get("AUDIT_QUEUE_SENDERS", ""))),
    )
    batch = Batch(event, context, metric=NOT_STORED, first_pause_seconds=30, longest_pause_seconds=900)
    messages: defaultdict[str, list[Message]] = defaultdict(list)
    records: list[Record] = []
    for message in batch.messages(each_seconds=0):
        try:
            record = intake.read(message.body, message.sender)
        except EnvelopeError as error:
            batch.give_up(message, str(error))
            continue
        records.append(record)
        messages[_folder(record)].append(message)
    stored = 0
    for item in lay_out(records):
        waiting = messages[item.key.rpartition("/")[0]]
        if batch.seconds_left() < CALL_SECONDS:
            for message in waiting:
                batch.leave(message)
            continue
        try:
            _put(bucket, item.key, item.body)
            stored += item.events
        except AWS_ERRORS as error:
            for message in waiting:
                batch.retry(message, error_code(error))
    log("stored", events=stored)
    return batch.end()


def _folder(record: Record) -> str:
    """Where the object of a record is: there is one in each, of one batch."""
    return f"{PREFIX}source={record.source}/dt={record.date.isoformat()}"


def _put(bucket: str, key: str, body: bytes) -> None:
    try:
        client("s3").put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/gzip", IfNoneMatch="*")
    except ClientError as error:
        # The key is made of the content: what is there is what we would write.
        if error_code(error) != "PreconditionFailed":
            raise
