"""What User calls: Token and Auth that remember."""

from collections.abc import AsyncIterator
from typing import Any

from authmesh.auth.v1.credential_directory_pb2_grpc import (
    CredentialDirectoryServicer,
)
from authmesh.export.v1.export_pb2 import ExportedItem
from authmesh.token.v1.token_issuer_pb2_grpc import TokenIssuerServicer
from authmesh.user.v1 import user_service_pb2
from google.protobuf import empty_pb2

User = user_service_pb2.User
# Both have a DeleteSubject, each with its own request, and an ExportSubject.
_TokenIssuer: Any = TokenIssuerServicer
_CredentialDirectory: Any = CredentialDirectoryServicer


class Backends(_TokenIssuer, _CredentialDirectory):  # type: ignore[misc]
    """Token and Auth, as far as User tells them something."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    async def SetSubjectGrants(self, request: Any, context: Any) -> empty_pb2.Empty:
        self.heard.append(request)
        return empty_pb2.Empty()

    async def SetSubjectStatus(self, request: Any, context: Any) -> empty_pb2.Empty:
        self.heard.append(request)
        return empty_pb2.Empty()

    async def DeleteSubject(self, request: Any, context: Any) -> empty_pb2.Empty:
        self.heard.append(request)
        return empty_pb2.Empty()

    async def ExportSubject(self, request: Any, context: Any) -> AsyncIterator[ExportedItem]:
        self.heard.append(request)
        for number in range(3):
            yield ExportedItem(collection="things", json=f'{{"number": {number}, "text": "ä"}}')
        yield ExportedItem(collection="others", json="{}")
