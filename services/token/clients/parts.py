"""Clients, put together."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from mesh.ids import uuid7
from mesh.outbox.work import Work
from mesh.runtime.part import Part
from mesh.tokens.denials import Denials
from services.token.clients.admin import ClientAdmin
from services.token.clients.bootstrap import ClientBootstrap
from services.token.clients.cache import ClientDirectory
from services.token.clients.client import Client
from services.token.clients.credentials_grant import ClientCredentialsGrant
from services.token.clients.service import ClientService
from services.token.keys.access_token import AccessTokenWriter
from services.token.refusals import Refusals
from services.token.revocation.revoker import Revoker
from services.token.sessions.grants import RoleScopes


@dataclass(frozen=True, slots=True)
class ClientParts:
    """What the rest of Token needs of them."""

    directory: ClientDirectory
    grant: ClientCredentialsGrant
    service: ClientService
    parts: tuple[Part, ...]


def make_clients(
    work: Work,
    first: Mapping[str, Client],
    writer: AccessTokenWriter,
    revoker: Revoker,
    denials: Denials,
    refusals: Refusals,
    role_scopes: RoleScopes,
    *,
    issuer: str,
    longest_token: timedelta,
) -> ClientParts:
    """Clients of the database, which begins with those of a file."""
    directory = ClientDirectory(work.database, longest_token=longest_token)
    grant = ClientCredentialsGrant(work, denials, refusals, writer, directory, issuer, new_id=uuid7)
    admin = ClientAdmin(work, revoker, denials, role_scopes, longest_token=longest_token)
    return ClientParts(directory, grant, ClientService(admin), (ClientBootstrap(work, first),))
