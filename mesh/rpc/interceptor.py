"""The one interceptor of a server.

It puts the stages around every handler, and refuses what the contract does not have.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc import aio
from grpc_status import rpc_status

from mesh.contract import Contract
from mesh.errors import PermissionDenied, Reason, Unimplemented, field_invalid
from mesh.rpc.call import Call, Handler, Stage, current_call, send_initial_metadata, set_current_call
from mesh.rpc.codec import Codecs
from mesh.rpc.errors import to_status
from mesh.spiffe import SpiffeIds

UNGUARDED = ("/grpc.health.v1.Health/", "/grpc.reflection.v1alpha.ServerReflection/")
"""The only methods outside the contract: their protos can't carry an access rule."""

_INCOMPLETE = rpc_status.to_status(to_status(field_invalid("request", "the body ends before a whole message")))


class MeshInterceptor(aio.ServerInterceptor):
    """Wraps each handler once, at its first call, and keeps it: nothing is built on the hot path."""

    def __init__(self, contract: Contract, stages: Sequence[Stage], ids: SpiffeIds | None = None) -> None:
        """Initializes the instance.

        Args:
            contract: The RPCs that exist.
            stages: Outermost first.
            ids: Of the mesh's nodes.
        """
        self._contract = contract
        self._ids = ids or SpiffeIds()
        self._stages = stages
        self._wrapped: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["grpc.RpcMethodHandler[Any, Any] | None"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        """The handler with the stages around it.

        A method that no one serves is UNIMPLEMENTED; a method without a rule is refused.
        """
        path = handler_call_details.method
        if wrapped := self._wrapped.get(path):
            return wrapped
        handler = await continuation(handler_call_details)
        if handler is None:
            return _refusal(Unimplemented(Reason.NOT_IMPLEMENTED, "no such method"))
        self._wrapped[path] = handler = _unguarded(handler) if path.startswith(UNGUARDED) else self._wrap(path, handler)
        return handler

    def _wrap(self, path: str, handler: "grpc.RpcMethodHandler[Any, Any]") -> "grpc.RpcMethodHandler[Any, Any]":
        rpc = self._contract.rpcs.get(path)
        if rpc is None or rpc.access.WhichOneof("kind") is None or handler.request_streaming:
            return _refusal(PermissionDenied(Reason.CALLER_NOT_ALLOWED, "this method has no access rule"))
        proceed = _streaming(handler) if handler.response_streaming else _unary(handler)
        for stage in reversed(self._stages):
            proceed = stage(rpc, proceed)
        codecs = Codecs.of(handler)

        async def serve(_: object, context: "aio.ServicerContext[Any, Any]") -> Any:
            call = Call(rpc, await _message(context), codecs, context, self._ids)
            set_current_call(call)
            return await proceed(call)

        # Bytes come in, and of a unary call go out, as they are: what can't be read or written is ours to answer, not
        # grpc's UNKNOWN with a Python class in it. For the same reason we read the request ourselves: grpc.aio never
        # answers a unary request that ends before a whole message.
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                serve, request_deserializer=None, response_serializer=_serialized
            )
        return grpc.stream_unary_rpc_method_handler(serve, request_deserializer=None, response_serializer=None)


async def _message(context: "aio.ServicerContext[Any, Any]") -> bytes | None:
    """The request message, or None when the request ended before a whole one."""
    message: Any = await context.read()
    return None if message is aio.EOF else message


def _unguarded(handler: "grpc.RpcMethodHandler[Any, Any]") -> "grpc.RpcMethodHandler[Any, Any]":
    """The handler as it is, but for unary requests that end before a whole message."""
    if handler.request_streaming:
        return handler
    behaviour: Any = handler.unary_stream if handler.response_streaming else handler.unary_unary

    async def serve(_: object, context: "aio.ServicerContext[Any, Any]") -> Any:
        message: Any = await context.read()
        if message is aio.EOF:
            await context.abort_with_status(_INCOMPLETE)
        return await behaviour(message, context)

    if handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(serve, handler.request_deserializer, handler.response_serializer)
    return grpc.stream_unary_rpc_method_handler(serve, handler.request_deserializer, handler.response_serializer)


def _unary(handler: "grpc.RpcMethodHandler[Any, Any]") -> Handler:
    behaviour: Any = handler.unary_unary

    async def proceed(call: Call) -> Any:
        return call.codec.serialize(await behaviour(call.request, call.context))

    return proceed


def _streaming(handler: "grpc.RpcMethodHandler[Any, Any]") -> Handler:
    behaviour: Any = handler.unary_stream

    async def proceed(call: Call) -> None:
        responses = behaviour(call.request, call.context)
        if not hasattr(responses, "__aiter__"):
            await responses
            return
        begun = False
        async with aclosing(responses):
            async for response in responses:
                if not begun:
                    begun = True
                    await send_initial_metadata(call.context)
                await call.context.write(response)
                if call.pay:
                    await call.pay(response.ByteSize())

    return proceed


def _serialized(message: Message) -> bytes:
    call = current_call()
    assert call is not None
    return call.codec.serialize(message)


def _refusal(error: PermissionDenied | Unimplemented) -> "grpc.RpcMethodHandler[Any, Any]":
    status = rpc_status.to_status(to_status(error))

    async def refuse(_: object, context: "aio.ServicerContext[Any, Any]") -> None:
        await context.abort_with_status(status)

    # Refuses without reading: a client that opens a stream sends nothing more before it has an answer.
    return grpc.stream_unary_rpc_method_handler(refuse, request_deserializer=None, response_serializer=None)
