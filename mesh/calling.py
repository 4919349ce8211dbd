"""Calls any RPC of the contract by its name, with JSON in and out: what `authmesh call` does."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from mesh.contract import Contract, Rpc
from mesh.rpc.channel import OPTIONS

DEADLINE = 30.0
"""Seconds for a unary call; streams have none."""


class CallError(Exception):
    """The call was refused, or can't be made. The message is for people: status, reason and text, then a line for each detail."""


def find_rpc(contract: Contract, name: str) -> Rpc:
    """The RPC that `name` means: `SERVICE/METHOD`, where SERVICE is the full name, or any unambiguous end of it (`ResourceService`).

    Raises:
        CallError: no RPC or several have that name.
    """
    service, slash, method = name.strip("/").rpartition("/")
    if not slash:
        service, _, method = name.rpartition(".")
    named = [rpc for rpc in contract.rpcs.values() if rpc.name == method]
    found = [rpc for rpc in named if f".{rpc.service}".endswith(f".{service}")]
    if len(found) == 1:
        return found[0]
    known = sorted(f"{rpc.service.rpartition('.')[2]}/{rpc.name}" for rpc in (found or named or contract.rpcs.values()) if rpc.http or named)
    raise CallError(f"{name} names {'several RPCs' if found else 'no RPC'}; {'there are' if found else 'known'}: {', '.join(known)}")


def parse_request(contract: Contract, rpc: Rpc, text: str) -> Message:
    """The request message of an RPC, from proto3 JSON.

    Raises:
        CallError: it is no JSON of that message.
    """
    request = contract.message_type(rpc.input_type)()
    try:
        if not text.lstrip().startswith("{"):
            raise ValueError("it must be a JSON object")
        json_format.Parse(text, request)
    except (json_format.ParseError, ValueError, TypeError) as error:
        raise CallError(f"the request is no {rpc.input_type}: {error}") from None
    return request


def call(contract: Contract, rpc: Rpc, request: Message, *, target: str, ca_file: Path, token: str | None = None) -> Iterator[str]:
    """Calls the RPC and gives each answer as one line of JSON, or as it is where it is a document (JWKS, discovery, introspection).

    Args:
        contract: Where the messages are defined.
        rpc: What to call.
        request: Its request.
        target: `host:port` of the edge.
        ca_file: Certificate to trust.
        token: Access token.

    Raises:
        CallError: it was refused, or there is no answer.
    """
    response_type = contract.message_type(rpc.output_type)
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    try:
        credentials = grpc.ssl_channel_credentials(ca_file.read_bytes())
    except OSError as error:
        raise CallError(f"the certificate to trust can't be read: {ca_file}: {error.strerror}") from None
    with grpc.secure_channel(target, credentials, options=[*OPTIONS, ("grpc.enable_http_proxy", 0)]) as channel:
        stub: Any = channel.unary_stream if rpc.server_streaming else channel.unary_unary
        method = stub(rpc.path, request_serializer=type(request).SerializeToString, response_deserializer=response_type.FromString)
        try:
            answers = method(request, metadata=metadata, timeout=None if rpc.server_streaming else DEADLINE)
            for answer in answers if rpc.server_streaming else (answers,):
                yield _text(answer, in_lines=rpc.server_streaming)
        except grpc.RpcError as error:
            raise CallError(_refusal(error)) from None


def _text(message: Message, *, in_lines: bool) -> str:
    if message.DESCRIPTOR.full_name == "google.api.HttpBody":
        document: bytes = message.data  # type: ignore[attr-defined]
        return document.decode(errors="replace")
    return json_format.MessageToJson(message, indent=None if in_lines else 2, ensure_ascii=False)


def _refusal(error: Any) -> str:
    """Status, reason and message of a refusal in one line, then what its details say."""
    details = next((value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin"), b"")
    try:
        status = status_pb2.Status.FromString(details)
    except DecodeError:
        status = status_pb2.Status()
    info, bad_request, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    for detail in status.details:
        for target in (info, bad_request, retry):
            if detail.Is(target.DESCRIPTOR):
                detail.Unpack(target)
    lines = [" ".join(part for part in (error.code().name, info.reason) if part) + f": {status.message or error.details()}"]
    lines += [f"  {violation.field}: {violation.description}" for violation in bad_request.field_violations]
    if retry.HasField("retry_delay"):
        lines.append(f"  try again in {retry.retry_delay.ToJsonString()}")
    return "\n".join(lines)
