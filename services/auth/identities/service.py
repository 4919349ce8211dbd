"""IdentityService's gRPC servicer: it translates and delegates."""

import uuid
from typing import Any

from authmesh.auth.v1 import identity_service_pb2, identity_service_pb2_grpc
from google.protobuf import empty_pb2

from mesh.rpc.caller import caller_user, user_of
from services.auth.identities.identities import IdentityLinks
from services.auth.identities.store import IDENTITY, Identity


class IdentityService(identity_service_pb2_grpc.IdentityServiceServicer):
    """`authmesh.auth.v1.IdentityService`."""

    def __init__(self, links: IdentityLinks) -> None:
        self._links = links

    async def LinkIdentity(
        self, request: identity_service_pb2.LinkIdentityRequest, context: Any
    ) -> identity_service_pb2.Identity:
        """Links an identity."""
        return identity_message(await self._links.link(caller_user(), request.id_token, request.nonce))

    async def UnlinkIdentity(
        self, request: identity_service_pb2.UnlinkIdentityRequest, context: Any
    ) -> empty_pb2.Empty:
        """Unlinks an identity."""
        await self._links.unlink(user_of(request.name), uuid.UUID(IDENTITY.id(request.name)))
        return empty_pb2.Empty()

    async def ListIdentities(
        self, request: identity_service_pb2.ListIdentitiesRequest, context: Any
    ) -> identity_service_pb2.ListIdentitiesResponse:
        """Lists a person's identities."""
        identities = await self._links.of_user(user_of(request.parent))
        return identity_service_pb2.ListIdentitiesResponse(identities=map(identity_message, identities))


def identity_message(identity: Identity) -> identity_service_pb2.Identity:
    """An identity, as its person sees it."""
    message = identity_service_pb2.Identity(
        name=identity.name, issuer=identity.issuer, subject=identity.subject, email=identity.email
    )
    message.create_time.FromDatetime(identity.create_time)
    if identity.last_used_time:
        message.last_used_time.FromDatetime(identity.last_used_time)
    return message
