"""Servicers behind the interceptor of a real process, on a unix socket."""

import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from grpc import aio

from mesh.contract import Contract
from mesh.rpc.admission import Admission
from mesh.rpc.call import Stage
from mesh.rpc.channel import OPTIONS
from mesh.rpc.errors import error_table
from mesh.rpc.interceptor import MeshInterceptor
from mesh.rpc.validation import Validation
from mesh.testing.issuer import LocalIssuer

_PLACES = 200


@asynccontextmanager
async def serving(
    contract: Contract,
    services: Sequence[tuple[Callable[[Any, aio.Server], None], Any]],
    issuer: LocalIssuer,
) -> AsyncIterator[aio.Channel]:
    """Serves for the length of a block.

    Args:
        contract: The access rules, limits and field rules.
        services: Each a generated `add_…Servicer_to_server` and a servicer.
        issuer: Whose tokens are admitted.

    Yields:
        A plain channel: refusals are the `AioRpcError` that clients see.
    """
    stages: list[Stage] = [error_table, Admission(_PLACES), await issuer.authentication(), Validation()]
    server = aio.server(interceptors=[MeshInterceptor(contract, stages)], options=OPTIONS)
    for add, servicer in services:
        add(servicer, server)
    with tempfile.TemporaryDirectory(prefix="authmesh-") as directory:
        server.add_insecure_port(f"unix:{directory}/s")
        await server.start()
        try:
            async with aio.insecure_channel(f"unix:{directory}/s", options=OPTIONS) as channel:
                yield channel
        finally:
            await server.stop(None)
