"""What a question to the trail costs at most: held to the contract, and so to docs/limits.md."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

from authmesh.audit.v1.audit_service_pb2 import QueryEventsRequest
from authmesh.audit.v1.audit_service_pb2_grpc import AuditServiceStub, add_AuditServiceServicer_to_server

from services.audit.pipeline.envelope import read
from services.audit.reading.projection import Projection
from services.audit.reading.projector import Projector
from services.audit.reading.service import AuditService
from services.audit.reading.watch import Watch
from services.audit.trail.objects import lay_out
from tests.kit.envelopes import envelope
from tests.kit.metering import hold_to_contract, metered
from tests.kit.serving import TrustedCaller, served
from tests.kit.trail import chained

HEARTBEAT = timedelta(milliseconds=300)


async def test_a_question_costs_no_more_than_the_contract_says(
    new_database_url: Callable[[str], Awaitable[str]],
) -> None:
    async with metered(await new_database_url("services.audit")) as (database, meter):
        projection, caller = Projection(database), TrustedCaller()
        follower = Projector(projection)
        caller.scopes = frozenset({"admin:audit"})
        service = AuditService(projection, Watch(projection, follower, HEARTBEAT))
        sealed = chained(
            1, 400, actor="users/ada", subject="users/bob", session="s" * 80, user_agent="u" * 256, sealed=b"x" * 600
        )
        for item in lay_out(read(envelope(sent)) for sent in sealed):
            await follower.project(item.key, item.body)
        await database.execute("ANALYZE")
        async with served([(add_AuditServiceServicer_to_server, service)], caller) as channel:
            stub = AuditServiceStub(channel)
            requests = [
                QueryEventsRequest(page_size=200),
                QueryEventsRequest(page_size=200, actor="users/ada"),
                QueryEventsRequest(),
            ] * 3
            measured = await meter.measure([lambda request=request: stub.QueryEvents(request) for request in requests])  # type: ignore[misc]
    hold_to_contract("authmesh.audit.v1.AuditService", {"QueryEvents": measured})
