"""One call, as its handler and the stages around it see it."""

import asyncio
import ipaddress
import re
import secrets
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError, Message
from grpc import aio

from mesh.contract import Rpc
from mesh.errors import field_invalid
from mesh.origin import current_origin, set_current_origin
from mesh.resources.name import CLIENT, NODE, SESSION, USER
from mesh.rpc.codec import HEADER, Codec, Codecs
from mesh.spiffe import SpiffeIds
from mesh.telemetry.tracing import parent

if TYPE_CHECKING:
    from mesh.tokens.claims import Claims

GATEWAY = "edge"
"""The virtual gateway's name: the only peer whose word about a client's address counts."""
_IDS = SpiffeIds()
# Envoy quotes a value that holds a separator, and a subject may hold anything: only a whole parse tells a URI from
# words inside of another value.
_XFCC_PAIR = r'([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^",;]*)'
_XFCC_ELEMENT = re.compile(rf"{_XFCC_PAIR}(?:;{_XFCC_PAIR})*")
_XFCC_PAIRS = re.compile(_XFCC_PAIR)
REQUEST_ID_CHARACTERS = "[A-Za-z0-9._-]"
"""What an `x-request-id` is made of; the edge replaces any other."""
REQUEST_ID_LENGTH = 64
_REQUEST_ID = re.compile(f"{REQUEST_ID_CHARACTERS}{{1,{REQUEST_ID_LENGTH}}}")


class Call:
    """What is known of a call. Made by the interceptor, read anywhere below it through `current_call`.

    The sidecar vouches for the metadata: it overwrites `x-forwarded-client-cert`, and the edge overwrites the client's
    address. What is read from it is read when it is asked for first: most calls need little of it.
    """

    def __init__(
        self,
        rpc: Rpc,
        payload: bytes | None,
        codecs: Codecs,
        context: "aio.ServicerContext[Any, Any]",
        ids: SpiffeIds = _IDS,
    ) -> None:
        """Initializes the instance.

        Args:
            rpc: The method.
            payload: The request message's bytes. None when the request ended before a whole message.
            codecs: How the method's messages are written.
            context: grpc's.
            ids: Of the mesh's nodes.
        """
        self.rpc = rpc
        self.context = context
        self.payload = payload
        self.metadata: Sequence[tuple[str, str | bytes]] = context.invocation_metadata() or ()  # type: ignore[assignment]
        self._first = {name: value for name, value in reversed(self.metadata) if isinstance(value, str)}
        self._ids = ids
        self.codec: Codec = codecs.json if self._first.get(HEADER) == "json" else codecs.protobuf
        """How this call's messages are written."""
        self.claims: Claims | None = None
        """Set by authentication, for methods that demand a token."""
        self.pay: Callable[[int], Awaitable[None]] | None = None
        """Set for a stream whose caller is sent a bounded number of bytes: told of each message's, it waits."""
        self.status = "OK"
        """How it ended, for telemetry: a gRPC status, and the reason where there is one."""
        self._request: Message | None = None

    @cached_property
    def caller(self) -> str | None:
        """The mesh node that dialled the sidecar, from its certificate; None when none was forwarded."""
        # The sidecar sets the header (SANITIZE_SET): one header, or it is not the sidecar's.
        certificates = self.values("x-forwarded-client-cert")
        return _node(certificates[0], self._ids) if len(certificates) == 1 else None

    @cached_property
    def address(self) -> str:
        """The client's address as the edge saw it, or empty."""
        return _address(self._first.get("x-envoy-external-address", "")) if self.caller == GATEWAY else ""

    @property
    def user_agent(self) -> str:
        """What the client says of itself, the beginning."""
        return self._first.get("user-agent", "")[:256]

    @cached_property
    def request_id(self) -> str:
        """The edge's, or one of our own."""
        request_id = self._first.get("x-request-id", "")
        return request_id if _REQUEST_ID.fullmatch(request_id) else str(uuid.uuid4())

    @cached_property
    def trace_id(self) -> str:
        """Of `traceparent` (W3C Trace Context), or one of our own."""
        found = parent(self.traceparent)
        return found[0] if found else secrets.token_hex(16)

    @property
    def traceparent(self) -> str:
        """As it came, or empty (W3C Trace Context)."""
        return self._first.get("traceparent", "")

    @property
    def passed_on(self) -> str:
        """The `traceparent` of calls made for this one, where this process adds no span: as it came."""
        return self.traceparent if parent(self.traceparent) else f"00-{self.trace_id}-{self.trace_id[:16]}-00"

    @property
    def request(self) -> Message:
        """The request message, parsed when it is asked for first.

        Raises:
            InvalidArgument: FIELD_INVALID when there is no whole message, or the bytes are not one of this type.
        """
        if self._request is None:
            if self.payload is None:
                raise field_invalid(
                    "request",
                    f"the body ends before a whole {self.rpc.input_type}: send its 5-byte prefix and all its bytes",
                )
            try:
                self._request = self.codec.parse(self.payload)
            except (DecodeError, UnicodeDecodeError, ValueError) as error:
                raise field_invalid("request", f"these bytes are not a valid {self.rpc.input_type}") from error
        assert self._request is not None
        return self._request

    @property
    def principal(self) -> str:
        """For whom the call is, as far as is known.

        The person or the client of its token, else the node that calls, else the client's address. Empty when nothing
        is known.
        """
        if claims := self.claims:
            # A token without a session is a client's own (RFC 7523).
            return (USER if claims.session else CLIENT).of(claims.subject)
        if self.caller and self.caller != GATEWAY:
            return NODE.of(self.caller)
        return f"addresses/{self.address}" if self.address else ""

    def event_fields(self) -> Mapping[str, str]:
        """What the call says of an audit event that is written while it is served (`mesh.origin`)."""
        fields = {
            "address": self.address,
            "user_agent": self.user_agent,
            "request_id": self.request_id,
            "trace_id": self.trace_id,
        }
        if claims := self.claims:
            fields["client"] = fields["actor"] = CLIENT.of(claims.client_id)
            # A token without a session is a client's own (RFC 7523).
            if claims.session:
                fields["actor"] = USER.of(claims.subject)
                fields["session"] = SESSION.of(claims.subject, claims.session)
        elif self.caller and self.rpc.access.HasField("internal"):
            fields["actor"] = NODE.of(self.caller)
        return fields

    def values(self, key: str) -> list[str]:
        """All values of a metadata key (lower case), as they came."""
        if len(self._first) == len(self.metadata):
            # No key has come twice, as a rule.
            return [self._first[key]] if key in self._first else []
        return [
            value if isinstance(value, str) else value.decode("latin-1") for name, value in self.metadata if name == key
        ]


Handler = Callable[[Call], Awaitable[Any]]
"""Serves a call. Returns the response's bytes, or None for a stream, whose messages it has written."""

Stage = Callable[[Rpc, Handler], Handler]
"""Given a method and what comes after the stage, returns what a call of that method goes through instead. Asked once
for each method, when it is called first: a stage that has nothing to do for a method returns what it was given.

A stage runs in the call's own task, so it may end a stream as `asyncio.timeout` would. It raises to refuse. For unary
and server-streaming methods alike."""


def set_current_call(call: Call) -> None:
    """Makes `call` the current one of this task and of the tasks that it starts."""
    set_current_origin(call)


def current_call() -> Call | None:
    """The call that the running code serves, or None outside of one (a background task)."""
    origin = current_origin()
    return origin if isinstance(origin, Call) else None


async def send_initial_metadata(context: "aio.ServicerContext[Any, Any]", *metadata: tuple[str, str]) -> None:
    """Sends the initial metadata, and stays until they are sent when the call is ended meanwhile.

    grpc.aio notes that they are sent when the operation returns, also where the first message carries them. A call that
    is ended before that sends them again with its status; grpc core refuses the second time, and the client is never
    answered. So a stream calls this before its first message.
    """
    sending = asyncio.ensure_future(context.send_initial_metadata(metadata))
    try:
        await asyncio.shield(sending)
    except asyncio.CancelledError:
        await asyncio.wait([sending])
        raise


@lru_cache(256)
def _node(certificate: str, ids: SpiffeIds) -> str | None:
    """The node whose certificate the sidecar saw: one element with one URI. Peers are few, so their words repeat."""
    if not _XFCC_ELEMENT.fullmatch(certificate):
        return None
    uris = [
        value.removeprefix('"').removesuffix('"')
        for key, value in _XFCC_PAIRS.findall(certificate)
        if key.lower() == "uri"
    ]
    return ids.node(uris[0]) if len(uris) == 1 else None


@lru_cache(1024)
def _address(value: str) -> str:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return ""
    # A zone (RFC 4007) is free text, and of no meaning off its link.
    return "" if "%" in value else str(address)
