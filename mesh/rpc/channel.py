"""Channels to other services, through the sidecar's egress.

One socket for all backends, routed by the method's path.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from grpc import aio

from mesh.errors import Internal, MeshError, Reason
from mesh.rpc.call import current_call
from mesh.rpc.errors import from_rpc_error
from mesh.telemetry.tracing import outgoing, span

DEFAULT_SECONDS = 5.0
"""Deadline of a call that sets none."""

METADATA_LIMIT = 32 * 1024
"""Bytes of metadata a call may carry: tokens up to 8 KiB must pass, and grpc's default fails at random near its own 8
KiB."""

OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_metadata_size", METADATA_LIMIT),
    ("grpc.absolute_max_metadata_size", 2 * METADATA_LIMIT),
    # No table of headers seen before: grpc keeps those in it that it could not parse, and then fails every call that
    # names one, from any caller. The sidecar brings calls of everyone on one connection.
    ("grpc.http2.hpack_table_size.decoder", 0),
    # Retries happen once, in Envoy, for methods that declare that they may be retried.
    ("grpc.enable_retries", 0),
    # The sidecar is on this machine: asking for it costs nothing, and by default the pause between two attempts grows
    # to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
]

_VERDICTS_ON_US = frozenset(
    {
        Reason.TOKEN_MISSING,
        Reason.TOKEN_INVALID,
        Reason.TOKEN_EXPIRED,
        Reason.TOKEN_REVOKED,
        Reason.CALLER_NOT_ALLOWED,
        Reason.SCOPE_MISSING,
        Reason.ROLE_MISSING,
        Reason.STEP_UP_REQUIRED,
    }
)


def _bounded(details: aio.ClientCallDetails) -> aio.ClientCallDetails:
    metadata = aio.Metadata(*(details.metadata or ()))
    timeout = details.timeout if details.timeout is not None else DEFAULT_SECONDS
    if call := current_call():
        metadata.add("x-request-id", call.request_id)
        metadata.add("traceparent", outgoing() or call.passed_on)
        remaining = call.context.time_remaining()
        timeout = min(timeout, remaining) if remaining is not None else timeout
    return aio.ClientCallDetails(details.method, timeout, metadata, details.credentials, details.wait_for_ready)


def _named(details: aio.ClientCallDetails) -> str:
    method: str | bytes = details.method
    return (method.decode() if isinstance(method, bytes) else method).lstrip("/")


def _refusal(error: aio.AioRpcError) -> MeshError:
    refusal = from_rpc_error(error)
    if current_call() and refusal.reason in _VERDICTS_ON_US:
        # We called wrongly, or the mesh forbids it. Passed on, it would read as a verdict on our own client, who would
        # drop good tokens.
        return Internal(Reason.INTERNAL, f"a backend refused this service: {refusal.reason}")
    return refusal


class _Unary(aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self,
        continuation: Callable[[aio.ClientCallDetails, Any], Awaitable[Any]],
        client_call_details: aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        with span(_named(client_call_details), client=True, rpc_system="grpc"):
            try:
                return await (await continuation(_bounded(client_call_details), request))
            except aio.AioRpcError as error:
                raise _refusal(error) from error


class _Streaming(aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(
        self,
        continuation: Callable[[aio.ClientCallDetails, Any], Awaitable[Any]],
        client_call_details: aio.ClientCallDetails,
        request: Any,
    ) -> AsyncIterator[Any]:
        call = await continuation(_bounded(client_call_details), request)

        async def responses() -> AsyncIterator[Any]:
            try:
                async for response in call:
                    yield response
            except aio.AioRpcError as error:
                raise _refusal(error) from error

        return responses()


@asynccontextmanager
async def open_channel(egress: str) -> AsyncIterator[aio.Channel]:
    """A channel through the egress socket.

    Calls have a deadline, carry the current call's ids, and raise `MeshError` as the backend refused.
    """
    async with aio.insecure_channel(
        f"unix:{egress}", interceptors=[_Unary(), _Streaming()], options=OPTIONS
    ) as channel:
        yield channel
