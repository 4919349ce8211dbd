"""What each method of Resource costs at most: held to the contract, and so to docs/limits.md."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from authmesh.resource.v1 import resource_service_pb2
from authmesh.resource.v1.resource_service_pb2_grpc import ResourceServiceStub, add_ResourceServiceServicer_to_server

from mesh.ids import uuid7
from mesh.outbox.work import Work
from mesh.storage.database import Database
from mesh.tokens.denials import Denials
from services.resource.authorizer import Authorizer
from services.resource.change_log import ChangeLog
from services.resource.resources import Resources
from services.resource.service import ResourceService
from services.resource.share import MAX_SHARES, Grantee
from services.resource.share_claims import ShareClaims
from services.resource.sharing import Sharing
from tests.integration.services.resource.conftest import Clock
from tests.kit.metering import Meter, hold_to_contract, metered
from tests.kit.serving import TrustedCaller, served

SERVICE = "authmesh.resource.v1.ResourceService"
QUOTA = 1_000
NAME, CONTENT = "é" * 200, "x" * 65_536
Resource = resource_service_pb2.Resource


class UserLookup:
    """Finds everybody, and counts the questions."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self.holder = uuid4()

    async def find(self, grantee: Grantee) -> UUID | None:
        self._meter.asked += 1
        return grantee.user or self.holder


class Costs:
    """Resource with one person who has as much as they may have."""

    def __init__(self, database: Database, meter: Meter, people: UserLookup, caller: TrustedCaller, stub: Any) -> None:
        self.database, self.meter, self.people, self.caller, self.stub = database, meter, people, caller, stub

    def call(self, method: str, **fields: Any) -> Callable[[], Awaitable[Any]]:
        request = getattr(resource_service_pb2, f"{method}Request")(**fields)
        return lambda: getattr(self.stub, method)(request)

    async def own(self, number: int, content: str = CONTENT) -> list[str]:
        """Gives the caller so many resources."""
        rows = await self.database.fetch(
            """
            INSERT INTO resources (id, owner_id, display_name, content, version, create_time, update_time)
            SELECT uuidv7(), $1, $2, $3, 1, now(), now() FROM generate_series(1, $4) RETURNING id
            """,
            UUID(self.caller.subject),
            NAME,
            content,
            number,
        )
        return [f"resources/{row['id']}" for row in rows]

    async def share(self, name: str, number: int) -> None:
        """Shares a resource with so many people."""
        await self.database.execute(
            """
            INSERT INTO shares (id, resource_id, grantee, holder_id, role, create_time)
            SELECT uuidv7(), $1, 'users/' || holder, holder, 1, now()
            FROM (SELECT gen_random_uuid() AS holder FROM generate_series(1, $2)) people
            """,
            name.removeprefix("resources/"),
            number,
        )


@pytest.fixture
async def costs(new_database_url: Callable[[str], Awaitable[str]]) -> AsyncIterator[Costs]:
    async with metered(await new_database_url("services.resource")) as (database, meter):
        work, caller, people = Work(database, "resource", clock=Clock()), TrustedCaller(), UserLookup(meter)
        changes, gate = ChangeLog(database), Authorizer(work, Denials(work))
        claims = ShareClaims(work, changes, people)
        resources = Resources(work, changes, gate, quota=QUOTA, new_id=uuid7)
        sharing = Sharing(work, changes, gate, claims, new_id=uuid7)
        service: Any = ResourceService(resources, sharing, None)  # type: ignore[arg-type]
        async with served([(add_ResourceServiceServicer_to_server, service)], caller) as channel:
            yield Costs(database, meter, people, caller, ResourceServiceStub(channel))


async def test_no_method_costs_more_than_the_contract_says(costs: Costs) -> None:
    measure, call = costs.meter.measure, costs.call
    mine = [*await costs.own(40), *await costs.own(QUOTA - 50, "a")]
    shared, full = mine[0], mine[1]
    await costs.share(shared, MAX_SHARES - 5)
    await costs.share(full, MAX_SHARES)
    strangers = await costs.own(2)
    await costs.database.execute(
        "UPDATE resources SET owner_id = gen_random_uuid() WHERE id = ANY($1::uuid[])",
        [name[10:] for name in strangers],
    )
    await costs.database.execute("ANALYZE")
    measured = {}
    measured["CreateResource"] = await measure(
        [
            call("CreateResource", resource=Resource(display_name=NAME, content=CONTENT), request_id=str(uuid4()))
            for _ in range(10)
        ]
    )
    measured["GetResource"] = await measure([call("GetResource", name=name) for name in (*mine[:10], strangers[0])])
    measured["ListResources"] = await measure([call("ListResources", page_size=200) for _ in range(10)])
    measured["UpdateResource"] = await measure(
        [
            *(
                call("UpdateResource", resource=Resource(name=shared, content=f"{number}{CONTENT[2:]}"))
                for number in range(10, 20)
            ),
            call("UpdateResource", resource=Resource(name=strangers[0], content="b")),
        ]
    )
    measured["ShareResource"] = await measure(
        [
            call("ShareResource", name=shared, email="ada@example.com", role=1),
            call("ShareResource", name=shared, email="ada@example.com", role=2),
            call("ShareResource", name=shared, user=f"users/{costs.people.holder}", role=1),
            call("ShareResource", name=shared, user=f"users/{uuid4()}", role=1),
            call("ShareResource", name=full, user=f"users/{uuid4()}", role=1),
            call("ShareResource", name=strangers[0], user=f"users/{uuid4()}", role=1),
        ]
    )
    measured["ListShares"] = await measure([call("ListShares", name=full, page_size=200) for _ in range(10)])
    measured["UnshareResource"] = await measure(
        [
            call("UnshareResource", name=shared, email="ada@example.com"),
            call("UnshareResource", name=strangers[0], user="users/me"),
        ]
    )
    measured["DeleteResource"] = await measure(
        [call("DeleteResource", name=name) for name in (full, mine[2], strangers[0])]
    )
    hold_to_contract(SERVICE, measured)
