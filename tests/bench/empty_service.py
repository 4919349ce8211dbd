"""A service whose handlers do nothing, with every stage of a real process around them:
`python -m tests.bench.empty_service SOCKET JWKS_FILE [open|bare|http://COLLECTOR]`.

`open` leaves authentication out, and nothing else. `bare` has no interceptor at all: what grpc.aio itself costs. With
the address of a collector, calls that say so are traced.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import uvloop
from authmesh.token.v1 import token_service_pb2, token_service_pb2_grpc
from google.api import httpbody_pb2
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from mesh.contract import Contract
from mesh.rpc.admission import Admission
from mesh.rpc.call import Stage
from mesh.rpc.call_log import circumstances, telemetry
from mesh.rpc.channel import OPTIONS
from mesh.rpc.errors import error_table
from mesh.rpc.interceptor import MeshInterceptor
from mesh.rpc.limits import Limits
from mesh.rpc.validation import Validation
from mesh.telemetry.logs import configure_logging
from mesh.telemetry.tracing import Tracing
from mesh.tokens.authentication import Authentication
from mesh.tokens.feed import RevocationFeed
from mesh.tokens.keys import KeySet
from mesh.tokens.policy import Policy
from mesh.tokens.revocations import RevocationSet
from mesh.tokens.verifier import Verifier
from tests.kit.snapshots import nothing_revoked
from tests.kit.tokens import AUDIENCE, ISSUER

_Base: Any = token_service_pb2_grpc.TokenServiceServicer


class _Empty(_Base):  # type: ignore[misc]
    def __init__(self, jwks: bytes) -> None:
        self._jwks = jwks

    async def GetJwks(self, request: Any, context: Any) -> Any:
        return httpbody_pb2.HttpBody(content_type="application/json", data=self._jwks)

    async def RevokeToken(self, request: Any, context: Any) -> Any:
        """Public: nothing is demanded."""
        return token_service_pb2.RevokeTokenResponse()

    async def ListSessions(self, request: Any, context: Any) -> Any:
        """Wants a token with a scope."""
        return token_service_pb2.ListSessionsResponse()


class _FreshFeed(RevocationFeed):
    def staleness(self) -> float:
        return 0.0


async def main(socket: str, jwks: bytes, kind: str) -> None:
    configure_logging("info", circumstances("bench"))

    async def fetch() -> bytes:
        return jwks

    keys, revocations = KeySet(fetch), RevocationSet()
    await keys.refresh()
    authentication = Authentication(
        Verifier(keys, ISSUER, AUDIENCE),
        keys,
        revocations,
        _FreshFeed("unix:///nowhere", nothing_revoked, revocations),
        Policy(),
        Limits(1000, factor=10**6),
    )
    admission: list[Stage] = [telemetry, error_table, Admission(1000)]
    guarded: list[Stage] = [] if kind == "open" else [authentication]
    stages: list[Stage] = [*admission, *guarded, Validation()]
    interceptors = [] if kind == "bare" else [MeshInterceptor(Contract.load(), stages)]
    server = aio.server(interceptors=interceptors, options=OPTIONS)
    token_service_pb2_grpc.add_TokenServiceServicer_to_server(_Empty(jwks), server)
    readiness = health.aio.HealthServicer()
    await readiness.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(readiness, server)
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    tracing = asyncio.create_task(Tracing(kind, "bench", "0").run()) if kind.startswith("http") else None
    await server.wait_for_termination()
    if tracing:
        tracing.cancel()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], Path(sys.argv[2]).read_bytes(), *sys.argv[3:] or ["guarded"]))
