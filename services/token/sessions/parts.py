"""Sessions, put together."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from mesh.ids import uuid7
from mesh.outbox.work import Work
from mesh.tokens.claims import Claims
from mesh.tokens.denials import Denials
from services.token.clients.client import Clients
from services.token.keys.access_token import AccessTokenWriter
from services.token.refusals import Refusals
from services.token.revocation.revoker import Revoker
from services.token.sessions.export import Export
from services.token.sessions.grants import RoleScopes
from services.token.sessions.introspection import Introspection
from services.token.sessions.refresh import TokenRefresher
from services.token.sessions.sign_in import SessionIssuer
from services.token.sessions.sign_out import SessionManager
from services.token.sessions.store import Store
from services.token.sessions.subjects import SubjectSync


@dataclass(frozen=True, slots=True)
class Sessions:
    """What the rest of Token needs of them."""

    sign_ins: SessionIssuer
    refreshes: TokenRefresher
    sign_outs: SessionManager
    subjects: SubjectSync
    introspection: Introspection
    export: Export


def make_sessions(
    work: Work,
    store: Store,
    writer: AccessTokenWriter,
    clients: Clients,
    revoker: Revoker,
    denials: Denials,
    refusals: Refusals,
    role_scopes: RoleScopes,
    verify: Callable[[str], Awaitable[Claims]],
    *,
    issuer: str,
    audience: str,
    mfa_roles: frozenset[str],
    clock: Callable[[], datetime],
) -> Sessions:
    """The use cases of sessions."""
    return Sessions(
        SessionIssuer(work, store, revoker, writer, clients, role_scopes, mfa_roles=mfa_roles, new_id=uuid7),
        TokenRefresher(work, store, revoker, denials, refusals, writer, clients, new_id=uuid7),
        SessionManager(work, store, revoker, verify),
        SubjectSync(work, store, revoker, role_scopes),
        Introspection(store, verify, issuer=issuer, audience=audience, clock=clock),
        Export(store, clock),
    )
