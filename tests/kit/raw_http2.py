"""A client of HTTP/2 that sends what it is told, valid or not: what `httpx` and grpc would refuse to send, or would
mend on the way."""

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import StreamClosedError
from h2.settings import SettingCodes

from mesh.contract import Rpc
from tests.kit.protocols import Answer, from_connect, from_json, from_trailers

Headers = Sequence[tuple[str, str | bytes]]
Field = tuple[str, str | bytes | None]
SECONDS = 15.0


@dataclass
class Stream:
    """One request and what came back."""

    number: int
    headers: dict[str, str] = field(default_factory=dict)
    """Of the answer; trailers included."""
    body: bytes = b""
    reset: bool = False
    """The server cut the stream off without an answer, or after a part of it."""
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def answered(self) -> bool:
        """Whether it ended as HTTP has it."""
        return self.done.is_set() and not self.reset and ":status" in self.headers

    async def end(self, within: float = SECONDS) -> "Stream":
        """This stream, ended.

        Raises:
            TimeoutError: it did not end within that time.
        """
        async with asyncio.timeout(within):
            await self.done.wait()
        return self


class Connection:
    """One connection; use `connected`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, read: bool) -> None:
        self._reader, self._writer, self._read = reader, writer, read
        self._http = H2Connection(
            H2Configuration(
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
                validate_inbound_headers=False,
            )
        )
        self._streams: dict[int, Stream] = {}
        self.closed = asyncio.Event()

    @property
    def max_streams(self) -> int:
        """How many streams the server lets us have at once."""
        return self._http.remote_settings.max_concurrent_streams

    async def open(self, headers: Headers, *, end: bool = False) -> Stream:
        """Sends the head of a request."""
        number = self._http.get_next_available_stream_id()
        stream = self._streams[number] = Stream(number)
        self._http.send_headers(number, [(name.encode(), _bytes(value)) for name, value in headers], end_stream=end)
        await self._flush()
        return stream

    async def send(self, stream: Stream, data: bytes = b"", *, end: bool = False) -> None:
        """Sends a part of a body, as the server gives room for it. What the server has answered already is not sent
        on."""
        try:
            while data and not stream.done.is_set():
                room = min(
                    self._http.local_flow_control_window(stream.number), self._http.max_outbound_frame_size, len(data)
                )
                if room <= 0:
                    await asyncio.sleep(0.005)
                    continue
                self._http.send_data(stream.number, data[:room])
                data = data[room:]
                await self._flush()
            if end and not stream.done.is_set():
                self._http.end_stream(stream.number)
                await self._flush()
        except StreamClosedError:
            pass

    async def send_trailers(self, stream: Stream, fields: Headers) -> None:
        """Ends a request with trailers."""
        self._http.send_headers(
            stream.number, [(name.encode(), _bytes(value)) for name, value in fields], end_stream=True
        )
        await self._flush()

    async def request(self, headers: Headers, body: bytes = b"") -> Stream:
        """Sends a whole request."""
        stream = await self.open(headers)
        await self.send(stream, body, end=True)
        return stream

    async def _flush(self) -> None:
        if data := self._http.data_to_send():
            self._writer.write(data)
            await self._writer.drain()

    async def _listen(self) -> None:
        try:
            while data := await self._reader.read(65536):
                for event in self._http.receive_data(data):
                    self._take(event)
                await self._flush()
        except ConnectionError:
            pass
        finally:
            self.closed.set()
            for stream in self._streams.values():
                stream.reset = stream.reset or not stream.done.is_set()
                stream.done.set()

    def _take(self, event: Event) -> None:
        if isinstance(event, ConnectionTerminated):
            self.closed.set()
        stream = self._streams.get(getattr(event, "stream_id", None) or 0)
        if stream is None:
            return
        if isinstance(event, ResponseReceived | TrailersReceived | InformationalResponseReceived):
            stream.headers |= {name.decode(): value.decode("latin-1") for name, value in event.headers or ()}
        elif isinstance(event, DataReceived):
            stream.body += event.data
            if self._read:
                self._http.acknowledge_received_data(event.flow_controlled_length or 0, stream.number)
        elif isinstance(event, StreamReset):
            stream.reset = not stream.done.is_set()
            stream.done.set()
        elif isinstance(event, StreamEnded):
            stream.done.set()


@asynccontextmanager
async def connected(
    address: tuple[str, int] | str,
    context: ssl.SSLContext | None = None,
    *,
    window: int | None = None,
    read: bool = True,
) -> AsyncIterator[Connection]:
    """A connection to a TCP address, or to the socket at a path.

    Args:
        address: Host and port, or a path.
        context: For TLS; its ALPN is set to h2.
        window: The room that the server has for each answer, when it is not HTTP/2's own.
        read: Whether answers are read on; without it the server's room is used up and never given back.
    """
    if isinstance(address, str):
        reader, writer = await asyncio.open_unix_connection(address)
    else:
        if context is not None:
            context.set_alpn_protocols(["h2"])
        reader, writer = await asyncio.open_connection(*address, ssl=context)
    connection = Connection(reader, writer, read=read)
    if window is not None:
        connection._http.local_settings[SettingCodes.INITIAL_WINDOW_SIZE] = window
    connection._http.initiate_connection()
    await connection._flush()
    listening = asyncio.create_task(connection._listen())
    try:
        yield connection
    finally:
        listening.cancel()
        writer.close()


def grpc_head(path: str, *more: Field) -> list[tuple[str, str | bytes]]:
    """The head of a gRPC call. What `more` names, also twice, takes the place of what is usual; None leaves it out."""
    usual = {
        ":method": "POST",
        ":scheme": "https",
        ":path": path,
        ":authority": "mesh",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    fields: list[tuple[str, str | bytes]] = [(name, value) for name, value in usual.items() if name not in dict(more)]
    fields += [(name, value) for name, value in more if value is not None]
    # Pseudo-headers go first.
    return sorted(fields, key=lambda field: not field[0].startswith(":"))


async def call(
    address: tuple[str, int] | str,
    context: ssl.SSLContext | None,
    protocol: str,
    rpc: Rpc,
    *fields: Field,
    body: bytes | None = None,
    within: float = SECONDS,
) -> Answer:
    """One call of `grpc`, `grpc-web`, `connect` or `json` with more header fields, on a connection of its own.

    Args:
        address: Where to.
        context: For TLS.
        protocol: The form of the call.
        rpc: The method.
        fields: As in `grpc_head`.
        body: The bytes of the body; an empty message when None.
        within: Seconds for the answer.

    Raises:
        TimeoutError: there was no answer within that time.
        ConnectionResetError: the stream was reset instead.
    """
    head, usual = grpc_head(rpc.path, *fields), frame(b"")
    if protocol == "grpc-web":
        head = grpc_head(rpc.path, ("content-type", "application/grpc-web+proto"), ("te", None), *fields)
    elif protocol == "connect":
        kind = (("content-type", "application/proto"), ("connect-protocol-version", "1"), ("te", None))
        head, usual = grpc_head(rpc.path, *kind, *fields), b""
    elif protocol == "json":
        binding = rpc.http[0]
        verb = (":method", binding.method)
        head = grpc_head(binding.template, verb, ("content-type", "application/json"), ("te", None), *fields)
        usual = b"{}" if binding.body else b""
    async with connected(address, context) as connection:
        answer = await (await connection.request(head, usual if body is None else body)).end(within)
    if not answer.answered:
        raise ConnectionResetError("the stream was reset")
    if protocol == "json":
        return from_json(int(answer.headers[":status"]), answer.body, answer.headers)
    if protocol == "connect":
        return from_connect(int(answer.headers[":status"]), answer.body, answer.headers)
    # The trailers of a good gRPC-Web answer are in its body.
    return from_trailers({"grpc-status": "0", **answer.headers})


def frame(message: bytes) -> bytes:
    """A message as gRPC sends it: a prefix of five bytes, of which four are its length."""
    return struct.pack(">BI", 0, len(message)) + message


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value
