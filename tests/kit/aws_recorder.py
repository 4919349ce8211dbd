"""A proxy in front of the AWS emulator that notes who calls what, as IAM names it, and can fail what S3 is asked to
keep."""

import asyncio
import json
import re
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

OPERATOR = "operator"
"""Who calls without the name of a node."""
_TARGETS = {"AmazonSQS": "sqs", "AWSEvents": "events", "TrentService": "kms"}
_NODE = re.compile(r"app/authmesh-(\w+)")
_SCOPE = re.compile(r"/(\w+)/aws4_request")
_S3 = {("GET", True): "GetObject", ("PUT", True): "PutObject", ("GET", False): "ListBucket"}
"""By method, and whether there is a key behind the bucket."""


@dataclass
class Recorder:
    """What was called so far."""

    port: int = 0
    actions: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """IAM actions by node."""
    puts_fail: bool = False
    """Whether objects are refused, as S3 does when it is overloaded."""

    @property
    def url(self) -> str:
        """Value of AWS_ENDPOINT_URL."""
        return f"http://127.0.0.1:{self.port}"

    def note(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[str, str]:
        """Notes a request.

        Returns:
            Who calls, and which action.
        """
        node = _NODE.search(headers.get("user-agent", ""))
        who = node[1] if node else OPERATOR
        action = _action(method, path, headers, body)
        self.actions[who].add(action)
        return who, action


def _action(method: str, path: str, headers: dict[str, str], body: bytes) -> str:
    if target := headers.get("x-amz-target"):
        service, _, name = target.rpartition(".")
        # Batches need the permission of their single form.
        return f"{_TARGETS[service.partition('_')[0]]}:{name.removesuffix('Batch')}"
    scope = _SCOPE.search(headers.get("authorization", ""))
    service = scope[1] if scope else "unsigned"
    if service != "s3":
        name = parse_qs(body.decode()).get("Action", ["?"])[0]
        return f"{service}:{name.removesuffix('Batch')}"
    has_key = len(urlsplit(path).path.strip("/").split("/", 1)) == 2
    return f"s3:{_S3.get((method, has_key), f'{method} {path}')}"


@asynccontextmanager
async def recording(upstream_port: int) -> AsyncIterator[Recorder]:
    """A recorder in front of an emulator, for the length of a block."""
    recorder = Recorder()
    open_now: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_now.add(task)
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", upstream_port)
        back = asyncio.create_task(_pour(upstream_reader, writer))
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                await _requests(recorder, reader, writer, upstream_writer)
        finally:
            back.cancel()
            upstream_writer.close()
            writer.close()
            open_now.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20)
    recorder.port = server.sockets[0].getsockname()[1]
    try:
        yield recorder
    finally:
        server.close()
        for task in list(open_now):
            task.cancel()


async def _requests(
    recorder: Recorder,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    upstream: asyncio.StreamWriter,
) -> None:
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        waits = headers.get("expect", "").lower() == "100-continue"
        if waits:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            head = re.sub(rb"(?i)\r\nexpect:[^\r]*", b"", head)
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        _, action = recorder.note(method, path, headers, body)
        if action == "s3:PutObject" and recorder.puts_fail:
            answer = b"<Error><Code>SlowDown</Code><Message>test</Message></Error>"
            writer.write(b"HTTP/1.1 503 Slow Down\r\ncontent-length: %d\r\n\r\n%s" % (len(answer), answer))
            await writer.drain()
            continue
        upstream.write(head + body)
        await upstream.drain()


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while part := await reader.read(65536):
            writer.write(part)
            await writer.drain()
    writer.close()


def statements(document: object) -> list[dict[str, object]]:
    """Of a policy document, with actions as lists."""
    found: list[dict[str, object]] = json.loads(json.dumps(document))["Statement"]
    for statement in found:
        if isinstance(statement["Action"], str):
            statement["Action"] = [statement["Action"]]
    return found
