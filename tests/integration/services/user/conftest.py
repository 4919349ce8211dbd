"""User on a real database, with a courier that notes what it is given."""

import uuid
from collections.abc import Awaitable, Callable, Sequence

import pytest
from authmesh.audit.v1 import audit_event_pb2
from authmesh.auth.v1 import credential_directory_pb2
from authmesh.token.v1 import token_issuer_pb2

from mesh.ids import uuid7
from mesh.outbox.work import Work
from mesh.storage.database import Database
from services.user.administration import SET_SUBJECT_GRANTS, SET_SUBJECT_STATUS, Administration, Command
from services.user.profiles import Profiles


class NotingCourier:
    """Notes what is delivered at once, and what the database held at that moment."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.delivered: list[str] = []
        self.committed: list[int] = []

    async def deliver(self, commands: Sequence[Command]) -> None:
        self.delivered += [command.method for command in commands]
        self.committed.append(await self._database.fetchval("SELECT count(*) FROM outbox WHERE kind = 'command'"))


class UserParts:
    """The parts of the service, wired as main.py wires them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.courier = NotingCourier(database)
        self.work = Work(database, "user")
        self.directory = Profiles(self.work)
        self.administration = Administration(self.work, self.courier)

    async def new_user(self, email: str, name: str = "Ada") -> uuid.UUID:
        """Makes a profile whose creation has left the outbox already."""
        user_id = uuid7()
        await self.directory.create(user_id, email, name)
        await self.database.execute("DELETE FROM outbox")
        return user_id

    async def new_administrator(self, email: str) -> uuid.UUID:
        user_id = await self.new_user(email)
        await self.administration.set_roles(user_id, ["admin"], "")
        await self.database.execute("DELETE FROM outbox")
        self.courier.delivered.clear()
        self.courier.committed.clear()
        return user_id

    async def events(self) -> list[audit_event_pb2.AuditEvent]:
        rows = await self.database.fetch("SELECT payload FROM outbox WHERE kind = 'audit' ORDER BY id")
        return [audit_event_pb2.AuditEvent.FromString(row["payload"]) for row in rows]

    async def grants(self) -> list[token_issuer_pb2.SetSubjectGrantsRequest]:
        rows = await self.database.fetch(
            "SELECT payload FROM outbox WHERE destination = $1 ORDER BY id", SET_SUBJECT_GRANTS
        )
        return [token_issuer_pb2.SetSubjectGrantsRequest.FromString(row["payload"]) for row in rows]

    async def statuses(self) -> list[credential_directory_pb2.SetSubjectStatusRequest]:
        rows = await self.database.fetch(
            "SELECT payload FROM outbox WHERE destination = $1 ORDER BY id", SET_SUBJECT_STATUS
        )
        return [credential_directory_pb2.SetSubjectStatusRequest.FromString(row["payload"]) for row in rows]


@pytest.fixture
async def user(open_database: Callable[[str], Awaitable[Database]]) -> UserParts:
    return UserParts(await open_database("services.user"))
