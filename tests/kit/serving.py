"""Servicers behind the interceptor of a real process, on a unix socket; only the token is taken on trust."""

import shutil
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from grpc import aio

from mesh.contract import Contract, Rpc
from mesh.rpc.call import Call, Handler
from mesh.rpc.channel import open_channel
from mesh.rpc.errors import error_table
from mesh.rpc.interceptor import MeshInterceptor
from mesh.rpc.limits import Limits
from mesh.rpc.validation import Validation
from mesh.tokens.claims import Claims
from mesh.tokens.policy import Policy


class TrustedCaller:
    """The authentication stage, with the claims of `subject` instead of a token's. The access rules are the real
    ones."""

    def __init__(self) -> None:
        self.subject = str(uuid.uuid4())
        self.scopes = frozenset({"session:manage", "user:read", "user:write", "resource:read", "resource:write"})
        self._policy = Policy()

    def __call__(self, rpc: Rpc, proceed: Handler) -> Handler:
        if rpc.kind != "authenticated":
            return proceed

        async def admit(call: Call) -> Any:
            now = int(time.time())
            call.claims = Claims(
                subject=self.subject,
                session=str(uuid.uuid4()),
                client_id="demo",
                scopes=self.scopes,
                roles=frozenset(),
                token_id=str(uuid.uuid4()),
                issued_at=now,
                expires_at=now + 600,
                auth_time=now,
                amr=("pwd",),
                key_id="k",
            )
            self._policy.admit_bearer(call, call.claims)
            return await proceed(call)

        return admit


@asynccontextmanager
async def served(services: Sequence[tuple[Any, Any]], caller: TrustedCaller) -> AsyncIterator[aio.Channel]:
    """Serves for the length of a block. Calls on the channel raise the `MeshError` that the service refused with."""
    directory = Path(tempfile.mkdtemp(prefix="authmesh-"))
    server = aio.server(
        interceptors=[MeshInterceptor(Contract.load(), [error_table, caller, Limits(200, factor=1000), Validation()])]
    )
    for add, servicer in services:
        add(servicer, server)
    server.add_insecure_port(f"unix:{directory}/socket")
    await server.start()
    try:
        async with open_channel(f"{directory}/socket") as channel:
            yield channel
    finally:
        await server.stop(None)
        shutil.rmtree(directory)
