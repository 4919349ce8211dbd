"""The consumer as a Lambda function: one batch of the queue into S3. The same reading and laying out as `consumer`, without its loop.

What could not be stored is named in the answer and comes again alone (`ReportBatchItemFailures`); what is not taken ends in the dead letters that
way, and holds up nothing. Standard library, botocore and protobuf only: it has to start fast, and Lambda brings botocore along.
"""

import json
import os
from collections import defaultdict
from functools import cache
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import get_session

from services.audit.envelope import EnvelopeError, Intake, Record, names
from services.audit.objects import PREFIX, lay_out


def handler(event: dict[str, Any], _context: object) -> dict[str, list[dict[str, str]]]:
    """Stores a batch. Returns Lambda's partial failures: the ids of the messages that are not in S3.

    Raises:
        KeyError: AUDIT_BUCKET or AUDIT_SOURCES is not set; the whole batch comes again.
    """
    bucket, intake = os.environ["AUDIT_BUCKET"], Intake(names(os.environ["AUDIT_SOURCES"]), names(os.environ.get("AUDIT_QUEUE_SENDERS", "")))
    failed: list[str] = []
    messages: defaultdict[str, list[str]] = defaultdict(list)
    records: list[Record] = []
    for message in event["Records"]:
        try:
            record = intake.read(message["body"], message.get("attributes", {}).get("SenderId", ""))
        except EnvelopeError as error:
            _log("left to the dead letters", message=message["messageId"], cause=str(error))
            failed.append(message["messageId"])
            continue
        records.append(record)
        messages[_folder(record)].append(message["messageId"])
    stored = 0
    for item in lay_out(records):
        try:
            _put(bucket, item.key, item.body)
            stored += item.events
        except (BotoCoreError, ClientError) as error:
            _log("AWS failed", error=_code(error))
            failed += messages[item.key.rpartition("/")[0]]
    _log("stored", events=stored, messages=len(event["Records"]), failed=len(failed))
    return {"batchItemFailures": [{"itemIdentifier": number} for number in failed]}


def _folder(record: Record) -> str:
    """Where the object of a record is: there is one in each, of one batch."""
    return f"{PREFIX}source={record.source}/dt={record.date.isoformat()}"


@cache
def _s3() -> Any:
    # The endpoint is the emulator's in a local account, and unset in AWS.
    config = Config(connect_timeout=2, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 2})
    return get_session().create_client("s3", endpoint_url=os.environ.get("AWS_ENDPOINT_URL"), config=config)


def _put(bucket: str, key: str, body: bytes) -> None:
    try:
        _s3().put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/gzip", IfNoneMatch="*")
    except ClientError as error:
        # The key is made of the content: what is there is what we would write.
        if _code(error) != "PreconditionFailed":
            raise


def _code(error: BotoCoreError | ClientError) -> str:
    """What an AWS error is called. Its text may hold data."""
    return str(error.response.get("Error", {}).get("Code", "ClientError")) if isinstance(error, ClientError) else type(error).__name__


def _log(event: str, **facts: object) -> None:
    """A line of JSON, as CloudWatch Logs searches it."""
    print(json.dumps({"event": event, **facts}))
