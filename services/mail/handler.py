"""The Lambda function behind the mail queue: each message becomes a letter and goes to SES.

What SES does not take now comes again after a pause, until the queue gives it up: the dead letters raise an alarm. A
message without a letter goes there at once. Neither codes nor addresses are ever logged.
"""

import os
from typing import Any

from botocore.exceptions import ReadTimeoutError

from mesh.lambda_batch import AWS_ERRORS, CONNECT_SECONDS, Batch, Message, client, error_code, log
from services.mail.letter import Letter, LetterError, compose

NOT_SENT = "LettersNotSent"
"""The metric of the alarm."""
READ_SECONDS = 20
"""SES may be slow. An attempt that was given up may have sent the letter all the same, so this is long, and there is
one attempt an invocation."""
SEND_SECONDS = CONNECT_SECONDS + READ_SECONDS + 1.0
UNANSWERED_ATTEMPTS = 2
"""After so many attempts without an answer a letter counts as sent: two copies of it are better than none, and five are
not."""


def handler(event: dict[str, Any], context: object) -> dict[str, list[dict[str, str]]]:
    """Sends a batch. Returns Lambda's partial failures: the ids of the messages that were not sent.

    Raises:
        KeyError: MAIL_FROM is not set; the whole batch comes again.
    """
    sender = os.environ["MAIL_FROM"]
    batch = Batch(event, context, metric=NOT_SENT, first_pause_seconds=15, longest_pause_seconds=300)
    for message in batch.messages(each_seconds=SEND_SECONDS):
        try:
            letter = compose(message.body)
        except LetterError as error:
            batch.give_up(message, str(error))
            continue
        _deliver(batch, message, sender, letter)
    return batch.end()


def _deliver(batch: Batch, message: Message, sender: str, letter: Letter) -> None:
    try:
        _send(sender, letter, message.id)
    except ReadTimeoutError:
        log("no answer from SES", message=message.id, received=message.receive_count)
        if message.receive_count < UNANSWERED_ATTEMPTS:
            batch.retry(message, "no answer")
    except AWS_ERRORS as error:
        log("not sent", message=message.id, error=error_code(error))
        batch.retry(message, error_code(error))


def _send(sender: str, letter: Letter, number: str) -> None:
    client("sesv2", read_seconds=READ_SECONDS, attempts=1).send_email(
        FromEmailAddress=sender,
        Destination={"ToAddresses": [letter.to]},
        Content={
            "Simple": {
                "Subject": {"Data": letter.subject, "Charset": "UTF-8"},
                "Body": {
                    "Text": {"Data": letter.text, "Charset": "UTF-8"},
                    "Html": {"Data": letter.html, "Charset": "UTF-8"},
                },
            }
        },
        # SES shows it in its events: which message a bounce is about.
        EmailTags=[{"Name": "message", "Value": number}],
    )
