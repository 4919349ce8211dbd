"""Token's parts on a real PostgreSQL, without gRPC around them."""

import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from authmesh.audit.v1 import audit_event_pb2

import services.token
from mesh.ids import uuid7
from mesh.outbox.work import Work
from mesh.storage.database import Database, Transaction
from mesh.tokens.claims import Claims
from mesh.tokens.denials import Denials
from mesh.tokens.keys import KeySet
from mesh.tokens.revocations import RevocationSet
from mesh.tokens.verifier import Verifier
from services.token.clients.client import Client, ClientRecord
from services.token.clients.store import add_client
from services.token.keys.access_token import AccessTokenWriter
from services.token.keys.signer import ActiveKey, PrivateKey
from services.token.refusals import Refusals
from services.token.revocation.log import RevocationLog
from services.token.revocation.revoker import Revoker
from services.token.sessions.grants import load_role_scopes
from services.token.sessions.introspection import Introspection
from services.token.sessions.refresh import Refresh, TokenRefresher
from services.token.sessions.sign_in import Issued, SessionIssuer, SignIn
from services.token.sessions.sign_out import SessionManager
from services.token.sessions.store import Store
from services.token.sessions.subjects import SubjectSync
from tests.conftest import OpenDatabase
from tests.kit.signing import OneKey
from tests.kit.snapshots import whole

ISSUER = "https://issuer.test"
AUDIENCE = "authmesh"


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, **duration: float) -> None:
        self.now += timedelta(**duration)


class SomeClients(dict[str, Client]):
    """The clients, at hand for tests to change. The database knows of each that it is there, in its first version."""

    def __init__(self, database: Database, **clients: Client) -> None:
        super().__init__(clients)
        self._database = database

    async def find(self, client_id: str) -> Client | None:
        return self.get(client_id)

    async def recall(self, client_id: str) -> ClientRecord | None:
        return await self.read(client_id)

    async def read(self, client_id: str) -> ClientRecord | None:
        if (client := self.get(client_id)) is None:
            return None
        async with self._database.transaction() as tx:
            await add_client(tx, client_id, client, again=False)
        return ClientRecord(client_id, client, 1, datetime(1970, 1, 1, tzinfo=UTC))

    async def hold(self, tx: Transaction, client_id: str) -> ClientRecord | None:
        return await self.read(client_id)


@dataclass
class Token:
    """Token's use cases and what they are made of."""

    database: Database
    work: Work
    clock: Clock
    clients: SomeClients
    store: Store
    log: RevocationLog
    revocations: RevocationSet
    keys: KeySet
    verifier: Verifier
    sign_ins: SessionIssuer
    refreshes: TokenRefresher
    sign_outs: SessionManager
    subjects: SubjectSync
    introspection: Introspection
    denials: Denials
    refusals: Refusals

    async def sign_in(
        self,
        subject: uuid.UUID | None = None,
        *,
        instance: uuid.UUID | None = None,
        client: str = "demo",
        **changes: object,
    ) -> Issued:
        """A new session."""
        sign_in = SignIn(
            subject=subject or uuid7(),
            client_id=client,
            instance_id=instance,
            display_name="Ada's phone",
            platform="ios",
            scopes=frozenset(),
            auth_time=self.clock(),
            amr=("pwd",),
            address="192.0.2.7",
            user_agent="test/1",
        )
        return await self.sign_ins.issue(replace(sign_in, **changes))  # type: ignore[arg-type]

    async def refresh(
        self,
        token: str,
        *,
        instance: uuid.UUID | None = None,
        client: str = "demo",
        scopes: frozenset[str] = frozenset(),
    ) -> Issued:
        """The next tokens."""
        return await self.refreshes.refresh(Refresh(token, client, instance, scopes, "192.0.2.8"))

    async def learn_revocations(self) -> None:
        """What the feed does, without the feed."""
        self.revocations.add((await whole(self.log.snapshot(self.clock()))).revocations)

    async def refuses(self, issued: Issued) -> bool:
        """Whether the access token is revoked."""
        await self.learn_revocations()
        return self.revocations.refuses(self.claims(issued))

    def claims(self, issued: Issued) -> Claims:
        """What the access token says."""
        return self.verifier.verify(issued.access_token)

    async def events(self, event_type: str = "") -> list[audit_event_pb2.AuditEvent]:
        """The audit events, oldest first."""
        rows = await self.database.fetch("SELECT payload FROM outbox WHERE kind = 'audit' ORDER BY id")
        events = [audit_event_pb2.AuditEvent.FromString(row["payload"]) for row in rows]
        return [event for event in events if event_type in ("", event.type)]


@pytest.fixture
async def token(open_database: OpenDatabase) -> Token:
    database = await open_database("services.token")
    return await assemble(database)


async def assemble(database: Database, key: PrivateKey | None = None, active: ActiveKey | None = None) -> Token:
    """The parts as main.py puts them together."""
    clock = Clock()
    one_key = OneKey(key)
    keys = KeySet(one_key.jwks)
    await keys.refresh()
    verifier = Verifier(keys, ISSUER, AUDIENCE, clock=lambda: clock().timestamp())
    role_scopes = load_role_scopes(Path(services.token.__file__).parent / "roles.yaml")
    everything = frozenset(role_scopes.known)
    clients = SomeClients(database, demo=Client(display_name="Demo", confidential=False, scopes=everything))
    work = Work(database, "token", clock=clock)
    store, log, revocations = Store(database), RevocationLog(database), RevocationSet()
    denials, refusals = Denials(work), Refusals()
    revoker, writer = Revoker(store, log), AccessTokenWriter(active or one_key, ISSUER, AUDIENCE)

    async def verify(access_token: str) -> Claims:
        return verifier.verify(access_token)

    return Token(
        database=database,
        work=work,
        clock=clock,
        clients=clients,
        store=store,
        log=log,
        revocations=revocations,
        keys=keys,
        verifier=verifier,
        sign_ins=SessionIssuer(work, store, revoker, writer, clients, role_scopes, new_id=uuid7),
        refreshes=TokenRefresher(work, store, revoker, denials, refusals, writer, clients, new_id=uuid7),
        sign_outs=SessionManager(work, store, revoker, verify),
        subjects=SubjectSync(work, store, revoker, role_scopes),
        introspection=Introspection(store, verify, issuer=ISSUER, audience=AUDIENCE, clock=clock),
        denials=denials,
        refusals=refusals,
    )
