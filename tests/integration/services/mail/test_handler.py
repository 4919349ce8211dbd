"""Letters when SES is slow, silent or away: nobody gets five copies, and nobody gets none."""

import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mesh import lambda_batch
from mesh.lambda_batch import RESERVE_SECONDS
from services.mail import handler as mail
from tests.kit.lambda_events import Context, failures, record

MESSAGE = json.dumps(
    {"email": "ada@example.org", "kind": "verify_email", "code": "123456", "sent_time": "2026-03-04T05:06:07+00:00"}
)


class Ses:
    """SES as far as a handler can tell: it takes letters, and answers when a test wants it to. The real one can't be
    made slow."""

    def __init__(self) -> None:
        self.taken: Counter[str] = Counter()
        self.answers_after = 0.0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0] or 0)
        request = json.loads(await reader.readexactly(length) or b"{}")
        if "EmailTags" in request:
            self.taken[request["EmailTags"][0]["Value"]] += 1
        await asyncio.sleep(self.answers_after)
        body = b'{"MessageId": "1"}'
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
            % len(body)
            + body
        )
        writer.close()


@pytest.fixture
async def ses(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ses]:
    taker = Ses()
    server = await asyncio.start_server(taker.serve, "127.0.0.1", 0)
    taker.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for name, value in {
        "AWS_ENDPOINT_URL": taker.url, "AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "MAIL_FROM": "security@example.org", "QUEUE_URL": f"{taker.url}/000000000000/mail",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(mail, "READ_SECONDS", 1)
    monkeypatch.setattr(mail, "SEND_SECONDS", 1.5)
    lambda_batch.client.cache_clear()
    yield taker
    lambda_batch.client.cache_clear()
    server.close()


async def invoke(records: list[dict[str, Any]], seconds: float = 60) -> set[str]:
    return failures(await asyncio.to_thread(mail.handler, {"Records": records}, Context(seconds)))


async def test_letters_are_sent(ses: Ses) -> None:
    assert await invoke([record("one", MESSAGE), record("two", MESSAGE)]) == set()
    assert ses.taken == {"one": 1, "two": 1}


async def test_a_letter_that_ses_took_without_an_answer_is_sent_at_most_twice(ses: Ses) -> None:
    ses.answers_after = 3
    assert await invoke([record("one", MESSAGE)]) == {"one"}
    assert await invoke([record("one", MESSAGE, receive_count=2)]) == set()
    assert ses.taken == {"one": 2}


async def test_letters_that_there_is_no_time_for_are_left_to_the_next_invocation(
    ses: Ses, monkeypatch: pytest.MonkeyPatch
) -> None:
    ses.answers_after = 0.3
    context = Context(0)
    ends = time.monotonic() + RESERVE_SECONDS + 2.0
    monkeypatch.setattr(context, "get_remaining_time_in_millis", lambda: int((ends - time.monotonic()) * 1000))
    records = [record(str(number), MESSAGE) for number in range(10)]
    left = failures(await asyncio.to_thread(mail.handler, {"Records": records}, context))
    assert left
    # Each letter was sent once or is left over: no copy, and none lost.
    assert ses.taken == {str(number): 1 for number in range(10) if str(number) not in left}


async def test_when_ses_is_away_every_letter_comes_again(ses: Ses, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        assert await invoke([record("one", MESSAGE), record("two", MESSAGE)]) == {"one", "two"}


async def test_a_message_without_a_letter_holds_up_nothing(ses: Ses) -> None:
    assert await invoke([record("junk", "{}"), record("one", MESSAGE)]) == {"junk"}
    assert ses.taken == {"one": 1}
