"""One call in each of the edge's three protocols, with one kind of answer, so that a test can ask all three for the
same."""

import base64
import json
import re
import ssl
import struct
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

import grpc
import httpx
from google.protobuf import any_pb2, json_format
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc import aio

from mesh.contract import Contract, Rpc
from mesh.rpc.channel import OPTIONS

CONTRACT = Contract.load()
SECONDS = 15


@dataclass(frozen=True)
class Answer:
    """How a call ended."""

    status: str
    """gRPC status by name, in JSON too."""
    reason: str = ""
    message: str = ""
    body: Mapping[str, Any] = field(default_factory=dict)
    """The response as proto3 JSON."""
    fields: tuple[str, ...] = ()
    """Fields at fault."""
    retry_after: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def outcome(self) -> tuple[str, str]:
        return self.status, self.reason


def method(name: str) -> Rpc:
    """`AuthService/SignIn` -> the RPC."""
    return next(rpc for path, rpc in CONTRACT.rpcs.items() if path.endswith(f".{name}"))


def refused(status: status_pb2.Status, headers: Mapping[str, str]) -> Answer:
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    found = {detail.type_url.rpartition(".")[2] for detail in status.details}
    for detail in status.details:
        for message in (info, bad, retry):
            detail.Unpack(message)
    assert not found or info.domain == "authmesh", status
    fields = tuple(item.field for item in bad.field_violations)
    return Answer(
        code_pb2.Code.Name(status.code), info.reason, status.message, {}, fields, "RetryInfo" in found, headers
    )


class Client(ABC):
    """A client of the edge."""

    name: str

    @abstractmethod
    async def call(
        self, name: str, request: Mapping[str, Any], token: str | None = None, headers: Sequence[tuple[str, str]] = ()
    ) -> Answer:
        """Calls `Service/Method` with a request in proto3 JSON."""

    async def ok(self, name: str, request: Mapping[str, Any], token: str | None = None) -> Mapping[str, Any]:
        """The response of a call that must succeed."""
        answer = await self.call(name, request, token)
        assert answer.status == "OK", f"{self.name} {name}: {answer}"
        return answer.body


def from_trailers(trailers: Mapping[str, str]) -> Answer:
    details = trailers.get("grpc-status-details-bin", "")
    answer = refused(status_pb2.Status.FromString(base64.b64decode(details + "=" * (-len(details) % 4))), trailers)
    code, message = int(trailers["grpc-status"]), unquote(trailers.get("grpc-message", ""))
    return Answer(code_pb2.Code.Name(code), answer.reason, message, {}, answer.fields, answer.retry_after, trailers)


def from_json(status: int, content: bytes, headers: Mapping[str, str]) -> Answer:
    body = json.loads(content) if content else {}
    if status == 200:
        return Answer("OK", body=body, headers=headers)
    assert set(body) <= {"code", "message", "details"}, body
    answer = refused(json_format.ParseDict(body, status_pb2.Status()), headers)
    assert answer.retry_after == bool(re.fullmatch(r"[1-9]\d*", headers.get("retry-after", ""))), headers
    return answer


def from_connect(status: int, content: bytes, headers: Mapping[str, str]) -> Answer:
    """The answer to a unary call of a Connect client. Whoever asks in protobuf is refused in JSON, too."""
    return Answer("OK", headers=headers) if status == 200 else _connect_error(json.loads(content), headers)


def from_connect_stream(content: bytes, headers: Mapping[str, str]) -> Answer:
    """How a stream of a Connect client ended: what its last frame says."""
    while content:
        flag, size = struct.unpack(">BI", content[:5])
        frame, content = content[5 : 5 + size], content[5 + size :]
        if flag & 2:
            assert not content, "the end is not the last frame"
            end = json.loads(frame)
            return _connect_error(end["error"], headers) if "error" in end else Answer("OK", headers=headers)
    raise AssertionError("a stream without an end")


def _connect_error(body: Mapping[str, Any], headers: Mapping[str, str]) -> Answer:
    details = [
        any_pb2.Any(type_url=f"type.googleapis.com/{item['type']}", value=base64.b64decode(item["value"] + "=="))
        for item in body["details"]
    ]
    code = code_pb2.Code.Value(body["code"].upper())
    return refused(status_pb2.Status(code=code, message=body["message"], details=details), headers)


def encoded(rpc: Rpc, request: Mapping[str, Any]) -> bytes:
    return json_format.ParseDict(dict(request), CONTRACT.message_type(rpc.input_type)()).SerializeToString()


def decoded(rpc: Rpc, payload: bytes) -> dict[str, Any]:
    return json_format.MessageToDict(CONTRACT.message_type(rpc.output_type).FromString(payload))


async def posted(
    http: httpx.AsyncClient, rpc: Rpc, payload: bytes, headers: Sequence[tuple[str, str]]
) -> httpx.Response:
    """Posts one gRPC message.

    Envoy refuses by the headers alone. When its answer comes before the body is sent, httpcore throws the answer away
    (RFC 9113, 8.1 forbids that) and complains of the stream that is closed. Then nothing was done: it is sent again.
    """
    content = struct.pack(">BI", 0, len(payload)) + payload
    for _ in range(4):
        with suppress(httpx.LocalProtocolError):
            return await http.post(rpc.path, content=content, headers=headers)
    return await http.post(rpc.path, content=content, headers=headers)


class GrpcClient(Client):
    name = "grpc"

    def __init__(self, channel: aio.Channel) -> None:
        self.channel = channel

    async def call(
        self, name: str, request: Mapping[str, Any], token: str | None = None, headers: Sequence[tuple[str, str]] = ()
    ) -> Answer:
        return await self.send(method(name), encoded(method(name), request), token, headers)

    async def send(
        self, rpc: Rpc, payload: bytes, token: str | None = None, headers: Sequence[tuple[str, str]] = ()
    ) -> Answer:
        """Calls with bytes that may be no message at all."""
        metadata = [*headers, *([("authorization", f"Bearer {token}")] if token else [])]
        call = self.channel.unary_unary(rpc.path, request_serializer=bytes, response_deserializer=bytes)
        try:
            response = await call(payload, metadata=metadata, timeout=SECONDS)
        except aio.AioRpcError as error:
            trailers = dict(error.trailing_metadata() or ())
            details = trailers.get("grpc-status-details-bin", b"")
            status = status_pb2.Status.FromString(details if isinstance(details, bytes) else b"")
            answer = refused(status, {key: str(value) for key, value in trailers.items()})
            return Answer(
                error.code().name,
                answer.reason,
                error.details() or "",
                {},
                answer.fields,
                answer.retry_after,
                answer.headers,
            )
        return Answer("OK", body=decoded(rpc, response))

    @asynccontextmanager
    async def stream(
        self, name: str, request: Mapping[str, Any], token: str
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Opens a server stream of responses in proto3 JSON."""
        rpc = method(name)
        call = self.channel.unary_stream(rpc.path, request_serializer=bytes, response_deserializer=bytes)(
            encoded(rpc, request), metadata=[("authorization", f"Bearer {token}")]
        )

        async def responses() -> AsyncIterator[dict[str, Any]]:
            async for payload in call:
                yield decoded(rpc, payload)

        try:
            yield responses()
        finally:
            call.cancel()


class GrpcWebClient(Client):
    name = "grpc-web"

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def call(
        self, name: str, request: Mapping[str, Any], token: str | None = None, headers: Sequence[tuple[str, str]] = ()
    ) -> Answer:
        return await self.send(method(name), encoded(method(name), request), token, headers)

    async def send(
        self, rpc: Rpc, payload: bytes, token: str | None = None, headers: Sequence[tuple[str, str]] = ()
    ) -> Answer:
        """Calls with bytes that may be no message at all."""
        sent = [("content-type", "application/grpc-web+proto"), ("x-grpc-web", "1"), *headers]
        sent += [("authorization", f"Bearer {token}")] if token else []
        try:
            response = await posted(self._http, rpc, payload, sent)
        except httpx.TransportError as error:
            return Answer("UNAVAILABLE", message=str(error))
        trailers, body = dict(response.headers), b""
        rest = response.content
        while rest:
            flag, size = struct.unpack(">BI", rest[:5])
            frame, rest = rest[5 : 5 + size], rest[5 + size :]
            if flag & 0x80:
                trailers |= dict(re.findall(r"([^:\r\n]+): ?([^\r\n]*)", frame.decode()))
            else:
                body = frame
        code = int(trailers["grpc-status"])
        if code == 0:
            return Answer("OK", body=decoded(rpc, body), headers=trailers)
        return from_trailers(trailers)


class SidecarClient(Client):
    """Dials a sidecar with a node's certificate, as another Envoy does. grpc's own client can't: the certificates have
    SPIFFE ids and no host names.

    Reads refusals, whose status is in the headers, and no more.
    """

    name = "sidecar"

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def call(
        self, name: str, request: Mapping[str, Any], token: str | None = None, headers: Sequence[tuple[str, str]] = ()
    ) -> Answer:
        rpc = method(name)
        payload = encoded(rpc, request)
        sent = [("content-type", "application/grpc"), ("te", "trailers"), *headers]
        sent += [("authorization", f"Bearer {token}")] if token else []
        response = await posted(self._http, rpc, payload, sent)
        return from_trailers(dict(response.headers)) if "grpc-status" in response.headers else Answer("OK")


class JsonClient(Client):
    name = "json"

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def call(
        self, name: str, request: Mapping[str, Any], token: str | None = None, headers: Sequence[tuple[str, str]] = ()
    ) -> Answer:
        rpc = method(name)
        binding = rpc.http[0]
        rest = json.loads(json.dumps(dict(request)))

        def take(match: "re.Match[str]") -> str:
            place, parts = rest, match[1].split(".")
            for part in parts[:-1]:
                place = place[part]
            return str(place.pop(parts[-1]))

        path = re.sub(r"\{([a-z_.]+)(?:=[^}]*)?\}", take, binding.template)
        body = rest if binding.body == "*" else rest.pop(binding.body, None) if binding.body else None
        query = {} if binding.body == "*" else rest
        return await self.send(
            binding.method,
            f"{path}?{urlencode(query)}" if query else path,
            json.dumps(body) if body is not None else None,
            token,
            headers,
        )

    async def send(
        self,
        http_method: str,
        path: str,
        body: str | bytes | None = None,
        token: str | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> Answer:
        """Sends any HTTP request to the edge."""
        sent = [*headers, *([("authorization", f"Bearer {token}")] if token else [])]
        sent += [("content-type", "application/json")] if body is not None else []
        try:
            response = await self._http.request(http_method, path, content=body, headers=sent)
        except httpx.TransportError as error:
            return Answer("UNAVAILABLE", message=str(error))
        return from_json(response.status_code, response.content, dict(response.headers))


@asynccontextmanager
async def open_clients(edge: str, ca_file: Path) -> AsyncIterator[dict[str, Client]]:
    """A client of each protocol, by name."""
    address = urlsplit(edge)
    credentials = grpc.ssl_channel_credentials(ca_file.read_bytes())
    http = httpx.AsyncClient(
        base_url=edge, verify=ssl.create_default_context(cafile=str(ca_file)), http2=True, timeout=SECONDS
    )
    async with aio.secure_channel(address.netloc, credentials, options=OPTIONS) as channel, http:
        clients: list[Client] = [GrpcClient(channel), GrpcWebClient(http), JsonClient(http)]
        yield {client.name: client for client in clients}
