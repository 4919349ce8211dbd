"""The Lambda function behind the mail queue: each message becomes a letter and goes to SES.

What SES does not take now comes again (`ReportBatchItemFailures`), until the queue gives it up: the dead letters raise an alarm. A message without a
letter goes the same way. Neither codes nor addresses are ever logged.
"""

import json
import os
from functools import cache
from typing import Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import get_session

from services.mail.letter import Letter, LetterError, compose


def handler(event: dict[str, Any], _context: object) -> dict[str, list[dict[str, str]]]:
    """Sends a batch. Returns Lambda's partial failures: the ids of the messages that were not sent.

    Raises:
        KeyError: MAIL_FROM is not set; the whole batch comes again.
    """
    sender = os.environ["MAIL_FROM"]
    failed = []
    for message in event["Records"]:
        try:
            _send(sender, compose(message["body"]), message["messageId"])
        except (LetterError, BotoCoreError, ClientError) as error:
            _log("not sent", message=message["messageId"], cause=_cause(error))
            failed.append({"itemIdentifier": message["messageId"]})
    return {"batchItemFailures": failed}


@cache
def _ses() -> Any:
    config = Config(connect_timeout=2, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 2})
    return get_session().create_client("sesv2", endpoint_url=os.environ.get("AWS_ENDPOINT_URL"), config=config)


def _send(sender: str, letter: Letter, number: str) -> None:
    _ses().send_email(
        FromEmailAddress=sender,
        Destination={"ToAddresses": [letter.to]},
        Content={
            "Simple": {
                "Subject": {"Data": letter.subject, "Charset": "UTF-8"},
                "Body": {"Text": {"Data": letter.text, "Charset": "UTF-8"}, "Html": {"Data": letter.html, "Charset": "UTF-8"}},
            }
        },
        # SES shows it in its events: which message a bounce is about.
        EmailTags=[{"Name": "message", "Value": number}],
    )


def _cause(error: Exception) -> str:
    """What an error is called. AWS's text may hold the address; a LetterError's holds nothing."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "ClientError"))
    return str(error) if isinstance(error, LetterError) else type(error).__name__


def _log(event: str, **facts: object) -> None:
    """A line of JSON, as CloudWatch Logs searches it."""
    print(json.dumps({"event": event, **facts}))
