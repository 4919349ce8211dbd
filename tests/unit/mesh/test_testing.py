"""What `mesh.testing` promises to users' own tests, with nothing else of ours."""

from typing import Any

import grpc
from authmesh.resource.v1 import resource_service_pb2, resource_service_pb2_grpc
from grpc import aio

from mesh.contract import Contract
from mesh.testing import LocalIssuer, serving

_Base: Any = resource_service_pb2_grpc.ResourceServiceServicer
NAME = "resources/0190a1b2-c3d4-7000-8000-000000000001"


class Resources(_Base):  # type: ignore[misc]
    async def GetResource(self, request: Any, context: Any) -> resource_service_pb2.Resource:
        return resource_service_pb2.Resource(name=request.name)


async def refusal(call: Any) -> grpc.StatusCode | None:
    try:
        await call
    except aio.AioRpcError as error:
        return error.code()
    return None


async def test_the_rules_are_real_and_the_tokens_local() -> None:
    issuer = LocalIssuer()
    services = [(resource_service_pb2_grpc.add_ResourceServiceServicer_to_server, Resources())]
    async with serving(Contract.load(), services, issuer) as channel:
        stub = resource_service_pb2_grpc.ResourceServiceStub(channel)

        def get(metadata: aio.Metadata | None = None, name: str = NAME) -> Any:
            return stub.GetResource(resource_service_pb2.GetResourceRequest(name=name), metadata=metadata)

        good = issuer.metadata(scopes=["resource:read"], session="0190a1b2-c3d4-7000-8000-000000000002")
        assert (await get(good)).name == NAME
        assert await refusal(get()) is grpc.StatusCode.UNAUTHENTICATED
        assert await refusal(get(issuer.metadata())) is grpc.StatusCode.PERMISSION_DENIED
        expired = issuer.metadata(scopes=["resource:read"], seconds=-300)
        assert await refusal(get(expired)) is grpc.StatusCode.UNAUTHENTICATED
        other = LocalIssuer().metadata(scopes=["resource:read"])
        assert await refusal(get(other)) is grpc.StatusCode.UNAUTHENTICATED
        assert await refusal(get(good, "nonsense")) is grpc.StatusCode.INVALID_ARGUMENT
        issuer.revoke_session("0190a1b2-c3d4-7000-8000-000000000002")
        assert await refusal(get(good)) is grpc.StatusCode.UNAUTHENTICATED


async def test_claims_are_chosen() -> None:
    issuer = LocalIssuer()
    authentication = await issuer.authentication()
    claims = await authentication.verify(issuer.token("ada", amr=["otp"], roles=["admin"], client="app"))
    assert (claims.subject, claims.amr, claims.roles, claims.client_id) == (
        "ada",
        ("otp",),
        frozenset({"admin"}),
        "app",
    )
