"""Resource as clients meet it: real servicers behind the real interceptor, on a unix socket, over a real database.
Tokens and User are stand-ins."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from authmesh.audit.v1.audit_event_pb2 import AuditEvent
from authmesh.resource.v1 import resource_directory_pb2, resource_service_pb2
from authmesh.resource.v1.resource_directory_pb2_grpc import (
    ResourceDirectoryStub,
    add_ResourceDirectoryServicer_to_server,
)
from authmesh.resource.v1.resource_service_pb2_grpc import ResourceServiceStub, add_ResourceServiceServicer_to_server
from grpc import aio

from mesh.contract import Contract
from mesh.errors import MeshError, Reason, Unavailable
from mesh.ids import uuid7
from mesh.outbox.work import Work
from mesh.rpc.admission import Admission
from mesh.rpc.call import Call, Stage
from mesh.rpc.channel import open_channel
from mesh.rpc.errors import error_table
from mesh.rpc.interceptor import MeshInterceptor
from mesh.rpc.limits import Limits
from mesh.rpc.validation import Validation
from mesh.storage.database import Database
from mesh.tokens.claims import Claims
from mesh.tokens.denials import Denials
from services.resource.authorizer import Authorizer
from services.resource.change_log import ChangeLog
from services.resource.erasure import Erasure
from services.resource.export import Export
from services.resource.resources import Resources
from services.resource.resume_tokens import ResumeTokens
from services.resource.retention import Retention
from services.resource.service import ResourceDirectory, ResourceService
from services.resource.share import Grantee
from services.resource.share_claims import ShareClaims
from services.resource.sharing import Sharing
from services.resource.watch import Watch
from tests.conftest import OpenDatabase
from tests.kit.calls import around

QUOTA = 45
"""Resources of one person."""

Watching = AsyncIterator[resource_service_pb2.WatchResourcesResponse]


class Addresses:
    """Stands in for User."""

    def __init__(self) -> None:
        self.users: dict[str, UUID] = {}
        self.unknown: set[UUID | None] = set()
        """Ids that no user has; any other is somebody's."""
        self.away = False
        self.refuses: MeshError | None = None

    async def find(self, grantee: Grantee) -> UUID | None:
        if self.away:
            raise Unavailable(Reason.DEPENDENCY_UNAVAILABLE, "away")
        if self.refuses:
            raise self.refuses
        if grantee.email is None:
            return grantee.user if grantee.user not in self.unknown else None
        return self.users.get(grantee.email.lower())


@dataclass
class Clock:
    """The real time, and how far tests have moved it."""

    moved: timedelta = field(default_factory=timedelta)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.moved


@asynccontextmanager
async def stand_in_for_tokens(call: Call) -> AsyncIterator[None]:
    """Believes the subject in the metadata."""
    for subject in call.values("x-subject"):
        call.claims = Claims(subject, "session", "demo", frozenset(), frozenset(), "jti", 0, 0, 0, (), "kid")
    yield


@dataclass
class Replica:
    """One process of Resource, inside this one."""

    channel: aio.Channel
    changes: ChangeLog
    claims: ShareClaims
    retention: Retention
    tokens: ResumeTokens
    watch: Watch
    admission: Admission

    def person(self, subject: UUID | str | None = None) -> "Person":
        return Person(self.channel, str(subject or uuid7()))

    async def claim(self, user: UUID, email: str) -> None:
        request = resource_directory_pb2.ClaimSharesRequest(user_id=str(user), email=email)
        await ResourceDirectoryStub(self.channel).ClaimShares(request)


@dataclass
class Person:
    """A caller. Requests are given by field; refusals are raised as `MeshError`."""

    channel: aio.Channel
    subject: str

    @property
    def id(self) -> UUID:
        return UUID(self.subject)

    @property
    def name(self) -> str:
        return f"users/{self.subject}"

    async def call(self, method: str, **fields: Any) -> Any:
        request = getattr(resource_service_pb2, f"{method}Request")(**fields)
        return await getattr(ResourceServiceStub(self.channel), method)(
            request, metadata=(("x-subject", self.subject),)
        )

    async def create(
        self, display_name: str = "plan", content: str = "a", request_id: str = ""
    ) -> resource_service_pb2.Resource:
        resource = resource_service_pb2.Resource(display_name=display_name, content=content)
        made: resource_service_pb2.Resource = await self.call(
            "CreateResource", resource=resource, request_id=request_id
        )
        return made

    @asynccontextmanager
    async def watch(self, resume_token: str = "") -> AsyncIterator[Watching]:
        request = resource_service_pb2.WatchResourcesRequest(resume_token=resume_token)
        call = ResourceServiceStub(self.channel).WatchResources(
            request, metadata=(("x-subject", self.subject),), timeout=60
        )
        messages: Any = call.__aiter__()
        try:
            yield messages
        finally:
            call.cancel()


@dataclass
class Service:
    """Resource: its database, the people it can ask for, and as many replicas as a test wants."""

    database: Database
    addresses: Addresses
    clock: Clock
    start: Callable[[], Awaitable[Replica]]

    async def events(self) -> list[AuditEvent]:
        rows = await self.database.fetch("SELECT payload FROM outbox WHERE kind = 'audit' ORDER BY id")
        return [AuditEvent.FromString(row["payload"]) for row in rows]

    async def event_types(self) -> list[str]:
        return [event.type for event in await self.events()]


@asynccontextmanager
async def replica(database: Database, addresses: Addresses, clock: Clock) -> AsyncIterator[Replica]:
    work = Work(database, "resource", clock=clock)
    changes = ChangeLog(database)
    gate = Authorizer(work, Denials(work))
    claims = ShareClaims(work, changes, addresses)
    resources = Resources(work, changes, gate, quota=QUOTA, new_id=uuid7)
    sharing = Sharing(work, changes, gate, claims, new_id=uuid7)
    tokens = ResumeTokens(database)
    watch = Watch(changes, tokens, timedelta(seconds=1))
    admission = Admission(200)
    stages: list[Stage] = [error_table, admission, around(stand_in_for_tokens), Limits(200, factor=1000), Validation()]
    server = aio.server(interceptors=[MeshInterceptor(Contract.load(), stages)])
    add_ResourceServiceServicer_to_server(ResourceService(resources, sharing, watch), server)
    add_ResourceDirectoryServicer_to_server(ResourceDirectory(claims, Erasure(work, changes), Export(database)), server)
    with tempfile.TemporaryDirectory() as directory:
        socket = f"{directory}/resource"
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
        following = asyncio.create_task(watch.run())
        async with open_channel(socket) as channel:
            retention = Retention(database, changes, timedelta(days=7), clock=clock)
            yield Replica(channel, changes, claims, retention, tokens, watch, admission)
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        await server.stop(0)


@pytest.fixture
async def service(open_database: OpenDatabase) -> AsyncIterator[Service]:
    database, addresses, clock = await open_database("services.resource"), Addresses(), Clock()
    async with AsyncExitStack() as stack:

        async def start() -> Replica:
            return await stack.enter_async_context(replica(database, addresses, clock))

        yield Service(database, addresses, clock, start)


@pytest.fixture
async def running(service: Service) -> Replica:
    return await service.start()


@pytest.fixture
def owner(running: Replica) -> Person:
    return running.person()


@pytest.fixture
def friend(running: Replica) -> Person:
    return running.person()
