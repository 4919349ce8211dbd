"""The two ways in which messages are written, which gRPC calls codecs.

Protobuf, and proto3 JSON for Connect clients.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message

HEADER = "x-authmesh-codec"
"""`json` on a call whose messages are JSON. The edge sets it: grpc keeps the content type, which says the same, to
itself."""


@dataclass(frozen=True, slots=True)
class Codec:
    """How the messages of one method are read and written."""

    parse: Callable[[bytes], Message]
    """Raises ValueError when the bytes can't be read, or DecodeError."""
    serialize: Callable[[Message], bytes]


@dataclass(frozen=True, slots=True)
class Codecs:
    """The codecs of one method."""

    protobuf: Codec
    json: Codec

    @classmethod
    def of(cls, handler: "grpc.RpcMethodHandler[Any, Any]") -> "Codecs":
        """The codecs of a generated handler."""
        parse: Any = handler.request_deserializer
        serialize: Any = handler.response_serializer
        request_type: type[Message] = parse.__self__
        return cls(Codec(parse, serialize), Codec(lambda payload: _parse(payload, request_type), _serialize))


def _parse(payload: bytes, kind: type[Message]) -> Message:
    if not payload.lstrip().startswith(b"{"):
        # The library takes an empty list for an empty message.
        raise ValueError("no JSON object")
    try:
        # As Envoy's transcoder does, which can't refuse a member that it doesn't know.
        return json_format.Parse(payload, kind(), ignore_unknown_fields=True)
    except (json_format.ParseError, RecursionError) as error:
        raise ValueError("no JSON of this message") from error


def _serialize(message: Message) -> bytes:
    return json_format.MessageToJson(message, indent=None, ensure_ascii=False).encode()
