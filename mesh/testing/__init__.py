"""For tests of a service of your own: tokens without Token, revocations without Redis, and the real interceptor.

    issuer = LocalIssuer()
    async with serving(contract, services, issuer) as channel:
        metadata = issuer.metadata(scopes=["user:read"])
        await greeter_pb2_grpc.GreeterStub(channel).Greet(request, metadata=metadata)

The access rules, limits and field rules are those of the contract; only what is outside of the process is left out.
"""

from mesh.testing.issuer import LocalIssuer
from mesh.testing.server import serving

__all__ = ["LocalIssuer", "serving"]
