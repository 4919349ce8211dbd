"""Calls any RPC of the contract by its name, with JSON in and out: what `authmesh call` does."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import grpc
from google.api import httpbody_pb2
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from mesh.contract import Contract, Rpc
from mesh.operator.implemented import implemented
from mesh.operator.terminal import escaped
from mesh.rpc.channel import OPTIONS

DEADLINE = 30.0
"""Seconds for a unary call; streams have none."""


class CallError(Exception):
    """The call was refused, or can't be made.

    The message is for people: status, reason and text, then a line for each detail.
    """


def find_rpc(contract: Contract, name: str) -> Rpc:
    """The RPC that `name` means.

    `SERVICE/METHOD`, where SERVICE is the full name, or any unambiguous end of it (`ResourceService`).

    Raises:
        CallError: no RPC or several have that name. The nearest are told.
    """
    service, slash, method = name.strip("/").rpartition("/")
    if not slash:
        service, _, method = name.rpartition(".")
    found = [rpc for rpc in contract.rpcs.values() if rpc.name == method and _is_called(rpc.service, service)]
    if len(found) == 1:
        return found[0]
    if found:
        raise CallError(f"several RPCs are called {name}: {', '.join(rpc.path.strip('/') for rpc in found)}")
    raise CallError(_unknown(contract, service, method))


def _is_called(service: str, name: str) -> bool:
    return bool(name) and f".{service}".endswith(f".{name}")


def _unknown(contract: Contract, service: str, method: str) -> str:
    """What is wrong with a name, and what may have been meant. Only what answers at the edge is offered."""
    offered = {f"{rpc.service.rpartition('.')[2]}/{rpc.name}": rpc for rpc in implemented(contract) if rpc.http}
    known = [full for full in contract.services if _is_called(full, service)]
    if known:
        wrong = f"{service.rpartition('.')[2]} has no method {method}"
        near = _nearest(method, {rpc.name: text for text, rpc in offered.items() if rpc.service in known})
        rest = (
            ", ".join(rpc.name for rpc in offered.values() if rpc.service in known)
            or "none that can be called from outside"
        )
        others = f"it has {rest}"
    else:
        wrong = f"{service} is not a service" if service else f"{method} is not SERVICE/METHOD"
        near = [text for text, rpc in offered.items() if rpc.name == method] or _nearest(
            f"{service.rpartition('.')[2]}/{method}" if service else method,
            {text if service else rpc.name: text for text, rpc in offered.items()},
        )
        others = f"choose from {', '.join(dict.fromkeys(text.partition('/')[0] for text in offered))}"
    return f"{wrong}: " + (f"did you mean {' or '.join(near)}?" if near else others)


def _nearest(name: str, names: Mapping[str, str]) -> list[str]:
    """The value of the key that is spelled most like `name`, whatever the case; nothing if none is."""
    lower = {key.lower(): value for key, value in names.items()}
    return [lower[key] for key in get_close_matches(name.lower(), lower, n=1)]


def parse_request(contract: Contract, rpc: Rpc, text: str) -> Message:
    """The request message of an RPC, from proto3 JSON.

    Raises:
        CallError: it is not JSON of that message.
    """
    request = contract.message_type(rpc.input_type)()
    try:
        if not text.lstrip().startswith("{"):
            raise ValueError("it must be a JSON object")
        json_format.Parse(text, request)
    except (json_format.ParseError, ValueError, TypeError) as error:
        raise CallError(f"the request is not a valid {rpc.input_type}: {error}") from None
    return request


def call(
    contract: Contract, rpc: Rpc, request: Message, *, target: str, ca_file: Path, token: str | None = None
) -> Iterator[str]:
    """Calls the RPC and gives each answer as one line of JSON.

    An answer that is a document (JWKS, discovery, introspection, export) is given as it is.

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
        method = stub(
            rpc.path, request_serializer=type(request).SerializeToString, response_deserializer=response_type.FromString
        )
        try:
            answers = method(request, metadata=metadata, timeout=None if rpc.server_streaming else DEADLINE)
            messages = answers if rpc.server_streaming else (answers,)
            if rpc.output_type == httpbody_pb2.HttpBody.DESCRIPTOR.full_name:
                # Pieces of one document.
                yield b"".join(message.data for message in messages).decode(errors="replace")
                return
            for message in messages:
                yield json_format.MessageToJson(message, indent=None if rpc.server_streaming else 2, ensure_ascii=False)
        except grpc.RpcError as error:
            raise CallError(_refusal(error)) from None


def _refusal(error: Any) -> str:
    """Status, reason and message of a refusal in one line, then what its details say."""
    details = next((value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin"), b"")
    try:
        status = status_pb2.Status.FromString(details)
    except DecodeError:
        status = status_pb2.Status()
    info, bad_request, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    for detail in status.details:
        for target in (info, bad_request, retry):
            if detail.Is(target.DESCRIPTOR):
                detail.Unpack(target)
    message = status.message or error.details() or ""
    lines = [" ".join(part for part in (error.code().name, info.reason) if part) + f": {escaped(message)}"]
    fields = [f"{violation.field}: {violation.description}" for violation in bad_request.field_violations]
    # The message tells the first few itself.
    lines += [escaped(f"  {text}") for text in fields if text not in status.message]
    if retry.HasField("retry_delay"):
        lines.append(f"  try again in {retry.retry_delay.ToJsonString()}")
    return "\n".join(lines)
