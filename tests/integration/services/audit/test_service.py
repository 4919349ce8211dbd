"""What of AuditService is not part of this release says so."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from authmesh.audit.v1.audit_service_pb2 import QueryEventsRequest, WatchEventsRequest
from authmesh.audit.v1.audit_service_pb2_grpc import AuditServiceServicer, AuditServiceStub, add_AuditServiceServicer_to_server
from grpc import aio

from mesh.contract import Contract
from mesh.errors import Reason, Unimplemented
from mesh.rpc.channel import open_channel
from mesh.rpc.errors import error_table
from mesh.rpc.interceptor import MeshInterceptor


async def test_queries_are_unimplemented_in_the_contracts_shape() -> None:
    server = aio.server(interceptors=[MeshInterceptor(Contract.load(), [error_table])])
    add_AuditServiceServicer_to_server(AuditServiceServicer(), server)  # type: ignore[abstract]
    with TemporaryDirectory() as directory:
        server.add_insecure_port(f"unix:{Path(directory) / 'audit'}")
        await server.start()
        async with open_channel(str(Path(directory) / "audit")) as channel:
            stub = AuditServiceStub(channel)
            with pytest.raises(Unimplemented) as queried:
                await stub.QueryEvents(QueryEventsRequest())
            assert queried.value.reason is Reason.NOT_IMPLEMENTED
            with pytest.raises(Unimplemented) as watched:
                await anext(aiter(stub.WatchEvents(WatchEventsRequest())))
            assert watched.value.reason is Reason.NOT_IMPLEMENTED
        await server.stop(0)
