"""Everything that the mesh holds of a person, as one JSON document.

Each service hands out its own part, item by item, and nothing is kept here but what is on its way.
"""

import json
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any

from authmesh.audit.v1.audit_directory_pb2_grpc import AuditDirectoryStub
from authmesh.auth.v1.credential_directory_pb2_grpc import CredentialDirectoryStub
from authmesh.export.v1.export_pb2 import ExportedItem, ExportSubjectRequest
from authmesh.resource.v1.resource_directory_pb2_grpc import ResourceDirectoryStub
from authmesh.token.v1.token_issuer_pb2_grpc import TokenIssuerStub
from google.protobuf import json_format
from grpc import aio

from mesh.export import EXPORT_SECONDS
from mesh.outbox.work import Work
from services.user import events
from services.user.answers import user_message
from services.user.profile import User, not_found
from services.user.store import Users

PIECE_BYTES = 64 * 1024
"""A piece of the document is sent when it has grown to this."""

Source = Any
"""`ExportSubject` of a service: a method of its stub."""


def sources(channel: aio.Channel) -> Sequence[Source]:
    """Those who hold something of a person, besides User."""
    stubs: Sequence[Any] = (
        CredentialDirectoryStub(channel),
        TokenIssuerStub(channel),
        ResourceDirectoryStub(channel),
        AuditDirectoryStub(channel),
    )
    return [stub.ExportSubject for stub in stubs]


class Export:
    """Writes the document."""

    def __init__(self, work: Work, sources: Sequence[Source]) -> None:
        """Initializes the instance.

        Args:
            work: Of User.
            sources: Those who are asked, in this order.
        """
        self._work = work
        self._sources = sources
        self._users = Users()

    async def pieces(self, user_id: uuid.UUID) -> AsyncGenerator[bytes]:
        """The document in pieces. One without `"complete": true` at its end is not whole.

        Args:
            user_id: Whose data.

        Raises:
            NotFound: USER_NOT_FOUND.
            Unavailable: a service can't be asked.
        """
        user = await self._note(user_id)
        piece = bytearray(_opening(user, self._work.now()))
        collection = ""
        async with aclosing(self._items(user)) as items:
            async for item in items:
                piece += b"," if item.collection == collection else _begin(collection, item.collection)
                piece += b"\n    " + item.json.encode()
                collection = item.collection
                if len(piece) >= PIECE_BYTES:
                    yield bytes(piece)
                    piece.clear()
        yield bytes(piece) + (b"\n  ]" if collection else b"") + b',\n  "complete": true\n}\n'

    async def _note(self, user_id: uuid.UUID) -> User:
        """The event and the message, before anything is handed out."""
        async with self._work.begin() as tx:
            user = await self._users.get(tx, user_id)
            if user is None:
                raise not_found()
            tx.record(events.data_exported(user))
            tx.message(email=user.email, kind="data_exported")
        return user

    async def _items(self, user: User) -> AsyncGenerator[ExportedItem]:
        request = ExportSubjectRequest(subject=str(user.id), email=user.email)
        for source in self._sources:
            async for item in source(request, timeout=EXPORT_SECONDS):
                yield item


def _opening(user: User, now: datetime) -> bytes:
    message = json_format.MessageToDict(user_message(user))
    head = {"user": user.name, "exportTime": now.isoformat(), "profile": message}
    return json.dumps(head, ensure_ascii=False, indent=2).removesuffix("\n}").encode()


def _begin(before: str, collection: str) -> bytes:
    return (b"\n  ]" if before else b"") + f",\n  {json.dumps(collection)}: [".encode()
