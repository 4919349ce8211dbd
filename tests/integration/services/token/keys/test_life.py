"""The life of keys on a real PostgreSQL: by the clock, by order, by revocation, and with several replicas."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from authmesh.audit.v1 import audit_event_pb2

from mesh.errors import NotFound, Reason, Unavailable
from mesh.outbox.work import Work
from mesh.storage.database import Database
from mesh.telemetry.metrics import REGISTRY
from mesh.tokens.keys import KeySet
from mesh.tokens.revocations import RevocationKind, RevocationSet
from services.token.keys.admin import KeyAdmin
from services.token.keys.cache import KeyCache
from services.token.keys.envelope import KmsRootedKeys
from services.token.keys.key import SigningKey, State, in_state
from services.token.keys.key_manager import Custodies, KeyManager, NewKey
from services.token.keys.kms import KmsKeys, SignQuota
from services.token.keys.local import LocalKeys
from services.token.keys.rotator import KeyRotator
from services.token.keys.schedule import KeyPolicy
from services.token.keys.signer import Signer, new_private_key
from services.token.keys.store import KeyStore
from services.token.revocation.log import RevocationLog
from tests.conftest import OpenDatabase
from tests.integration.services.token.conftest import Clock
from tests.kit.snapshots import whole

POLICY = KeyPolicy(
    jwks_max_cache=timedelta(minutes=1),
    lead=timedelta(minutes=2),
    period=timedelta(hours=10),
    token_lifetime=timedelta(minutes=10),
)


class Faulty:
    """A custody whose keys can be had, or not."""

    name = "local"

    def __init__(self) -> None:
        self.inner = LocalKeys(b"s" * 32)
        self.broken = False
        self.created = 0
        self.destroyed: list[str] = []

    async def create(self, algorithm: Any) -> NewKey:
        self._check()
        self.created += 1
        await asyncio.sleep(0)
        return await self.inner.create(algorithm)

    async def open(self, key: SigningKey) -> Signer:
        self._check()
        return await self.inner.open(key)

    async def destroy(self, key: SigningKey) -> None:
        self._check()
        self.destroyed.append(key.key_id)

    def _check(self) -> None:
        if self.broken:
            raise Unavailable(Reason.KEYS_UNAVAILABLE, "broken")


@dataclass
class Replica:
    """What one Token process has to do with keys."""

    database: Database
    clock: Clock
    custody: KeyManager
    store: KeyStore
    ring: KeyCache
    keeper: KeyRotator
    orders: KeyAdmin
    log: RevocationLog
    revocations: RevocationSet

    async def settle(self) -> int:
        """Takes all steps that are due. Returns how many."""
        steps = 0
        while await self.keeper.turn():
            steps += 1
        await self.ring.refresh()
        return steps

    async def states(self) -> list[State]:
        return [key.state(self.clock()) for key in await self.store.all()]

    async def key(self, state: State) -> SigningKey:
        found = in_state(await self.store.all(), state, self.clock())
        assert found
        return found

    def published(self) -> set[str]:
        return {key["kid"] for key in json.loads(self.ring.jwks())["keys"]}

    async def events(self) -> list[audit_event_pb2.AuditEvent]:
        rows = await self.database.fetch("SELECT payload FROM outbox WHERE kind = 'audit' ORDER BY id")
        return [audit_event_pb2.AuditEvent.FromString(row["payload"]) for row in rows]


def replica(database: Database, clock: Clock, custody: KeyManager, first: NewKey | None = None) -> Replica:
    work = Work(database, "token", clock=clock)
    store, custodies, log, revocations = (
        KeyStore(database),
        Custodies(custody),
        RevocationLog(database),
        RevocationSet(),
    )
    ring = KeyCache(store, custodies, is_revoked=revocations.refuses_key, clock=clock)
    keeper = KeyRotator(work, store, custodies, POLICY, algorithm="ES256", first=first, changed=ring.refresh)
    orders = KeyAdmin(work, store, log, POLICY.pace, changed=ring.refresh)
    return Replica(database, clock, custody, store, ring, keeper, orders, log, revocations)


@pytest.fixture
async def token(open_database: OpenDatabase) -> Replica:
    token = replica(await open_database("services.token"), Clock(), Faulty())
    await token.settle()
    return token


async def test_a_new_deployment_signs_at_once_and_the_next_key_waits_in_the_jwks(token: Replica) -> None:
    assert sorted(state.name for state in await token.states()) == ["ACTIVE", "PUBLISHED"]
    active = await token.key(State.ACTIVE)
    assert (await token.ring.active()).key_id == active.key_id
    assert token.published() == {key.key_id for key in await token.store.all()}
    assert await token.settle() == 0
    assert [event.type for event in await token.events()] == [
        "token.key_created",
        "token.key_activated",
        "token.key_created",
    ]


async def test_metrics_say_how_many_keys_there_are_and_when_the_next_takes_over(token: Replica) -> None:
    def told(name: str, **labels: str) -> float | None:
        return REGISTRY.get_sample_value(name, labels)

    await token.settle()
    assert (told("authmesh_signing_keys", state="active"), told("authmesh_signing_keys", state="published")) == (1, 1)
    active = await token.key(State.ACTIVE)
    assert active.active_time
    due = (active.active_time + POLICY.period).timestamp()
    assert told("authmesh_signing_key_due_timestamp_seconds") == due
    token.clock.pass_by(hours=10)
    await token.settle()
    assert told("authmesh_signing_keys", state="retiring") == 1
    assert told("authmesh_signing_key_due_timestamp_seconds") == due + POLICY.period.total_seconds()


async def test_it_begins_with_the_key_that_it_is_given_and_never_takes_it_again(open_database: OpenDatabase) -> None:
    custody, clock, database = LocalKeys(b"s" * 32), Clock(), await open_database("services.token")
    brought = custody.adopt(new_private_key("ES256"))
    token = replica(database, clock, custody, brought)
    await token.settle()
    assert (await token.ring.active()).key_id == brought.key_id
    await token.orders.revoke(brought.key_id)
    await token.settle()
    clock.pass_by(days=8)
    await token.settle()
    assert brought.key_id not in {key.key_id for key in await token.store.all()}


async def test_a_key_lives_by_the_policy(token: Replica) -> None:
    first, second = await token.key(State.ACTIVE), await token.key(State.PUBLISHED)
    token.clock.pass_by(hours=9, minutes=59)
    assert await token.settle() == 0
    token.clock.pass_by(minutes=1)
    await token.settle()
    assert (await token.ring.active()).key_id == second.key_id
    retiring = await token.key(State.RETIRING)
    assert retiring.key_id == first.key_id
    assert retiring.gone_time == token.clock() + POLICY.retention
    assert first.key_id in token.published()
    # Its private part goes when no replica can be signing with it any more.
    assert retiring.material is not None
    token.clock.pass_by(seconds=11)
    await token.settle()
    assert (await token.key(State.RETIRING)).material is None
    # Until its last token has expired, and not a second longer, whoever has noticed.
    token.clock.pass_by(seconds=(POLICY.retention - timedelta(seconds=12)).total_seconds())
    assert first.key_id in token.published()
    token.clock.pass_by(seconds=1)
    assert first.key_id not in token.published()
    await token.settle()
    assert first.key_id not in {key.key_id for key in await token.store.all()}
    types = [event.type for event in await token.events() if event.target == f"keys/{first.key_id}"]
    assert types == ["token.key_created", "token.key_activated", "token.key_retired", "token.key_removed"]


async def test_an_order_waits_until_every_verifier_knows_the_next_key(token: Replica) -> None:
    first, second = await token.key(State.ACTIVE), await token.key(State.PUBLISHED)
    ordered, due = await token.orders.rotate()
    assert (ordered.key_id, due) == (second.key_id, second.publish_time + POLICY.lead)
    await token.settle()
    assert (await token.ring.active()).key_id == first.key_id
    assert await token.orders.rotate() == (ordered, due)
    token.clock.pass_by(minutes=2)
    await token.settle()
    assert (await token.ring.active()).key_id == second.key_id
    # Once it was there for long enough, an order takes effect at once.
    third = await token.key(State.PUBLISHED)
    token.clock.pass_by(minutes=2)
    assert (await token.orders.rotate())[1] == token.clock()
    await token.settle()
    assert (await token.ring.active()).key_id == third.key_id
    assert [event.type for event in await token.events()].count("token.key_rotated") == 2


async def test_revoking_the_active_key_has_the_next_one_sign_at_once(token: Replica) -> None:
    first, second = await token.key(State.ACTIVE), await token.key(State.PUBLISHED)
    revoked = await token.orders.revoke(first.key_id)
    assert revoked.state(token.clock()) is State.REVOKED
    assert (await token.ring.active()).key_id == second.key_id
    assert token.published() == {second.key_id}
    snapshot = await whole(token.log.snapshot(token.clock()))
    assert [(one.kind, one.value) for one in snapshot.revocations] == [(RevocationKind.KEY, first.key_id)]
    # Longer than a token lives: with a stolen key somebody can sign new ones.
    assert snapshot.revocations[0].expires_at > token.clock().timestamp() + 86400
    await token.settle()
    assert (await token.key(State.PUBLISHED)).key_id != first.key_id
    assert (await token.key(State.REVOKED)).material is None
    assert await token.orders.revoke(first.key_id) == await token.key(State.REVOKED)
    assert len((await whole(token.log.snapshot(token.clock()))).revocations) == 1
    types = [event.type for event in await token.events()]
    assert types[3:] == ["token.key_revoked", "token.key_activated", "token.key_created"]


async def test_revoking_the_next_key_or_an_old_one_leaves_the_active_one_signing(token: Replica) -> None:
    first = await token.key(State.ACTIVE)
    await token.orders.revoke((await token.key(State.PUBLISHED)).key_id)
    await token.settle()
    assert (await token.ring.active()).key_id == first.key_id
    token.clock.pass_by(hours=10)
    await token.settle()
    active = await token.ring.active()
    await token.orders.revoke(first.key_id)
    assert (await token.ring.active()).key_id == active.key_id
    assert first.key_id not in token.published()


async def test_a_key_that_is_none_is_not_found(token: Replica) -> None:
    with pytest.raises(NotFound) as caught:
        await token.orders.revoke("nonsense")
    assert caught.value.reason is Reason.KEY_NOT_FOUND


async def test_a_next_key_that_cannot_sign_does_not_take_over(token: Replica) -> None:
    assert isinstance(token.custody, Faulty)
    first, second = await token.key(State.ACTIVE), await token.key(State.PUBLISHED)
    token.clock.pass_by(hours=10)
    token.custody.broken = True
    with pytest.raises(Unavailable):
        await token.keeper.turn()
    assert (await token.ring.active()).key_id == first.key_id
    # Revoking needs no custody: the record and the feed come first.
    await token.orders.revoke(first.key_id)
    assert (await token.key(State.ACTIVE)).key_id == second.key_id
    with pytest.raises(Unavailable):
        await token.keeper.turn()
    token.custody.broken = False
    await token.settle()
    assert (await token.key(State.PUBLISHED)).key_id not in (first.key_id, second.key_id)


async def test_a_key_whose_material_was_exchanged_does_not_take_over(token: Replica) -> None:
    other = LocalKeys(b"s" * 32).adopt(new_private_key("ES256"))
    published = await token.key(State.PUBLISHED)
    await token.database.execute(
        "UPDATE signing_keys SET material = $2 WHERE key_id = $1", published.key_id, other.material
    )
    token.clock.pass_by(hours=10)
    with pytest.raises(Unavailable):
        await token.keeper.turn()


@pytest.mark.parametrize("replicas", [2, 8])
async def test_replicas_agree(open_database: OpenDatabase, replicas: int) -> None:
    clock, custody, database = Clock(), Faulty(), await open_database("services.token")
    tokens = [replica(database, clock, custody) for _ in range(replicas)]
    for _ in range(3):
        await asyncio.gather(*(token.settle() for token in tokens))
        assert len({(await token.ring.active()).key_id for token in tokens}) == 1
        assert len({token.ring.jwks() for token in tokens}) == 1
        clock.pass_by(hours=10)
    # Two to begin with, and one for each of two rotations.
    assert custody.created == 4
    await asyncio.gather(*(token.orders.rotate() for token in tokens))
    types = [event.type for event in await tokens[0].events()]
    assert types.count("token.key_rotated") == 1
    assert types.count("token.key_created") == 4


async def test_what_another_replica_revoked_signs_nothing_here_once_the_feed_has_told(
    token: Replica, open_database: OpenDatabase
) -> None:
    other = replica(token.database, token.clock, token.custody)
    await other.ring.refresh()
    first = await other.ring.active()
    await token.orders.revoke(first.key_id)
    other.revocations.add((await whole(token.log.snapshot(token.clock()))).revocations)
    assert first.key_id not in other.published()
    assert (await other.ring.active()).key_id != first.key_id


async def test_a_view_that_is_too_old_signs_nothing(open_database: OpenDatabase) -> None:
    clock, database = Clock(), await open_database("services.token")
    token = replica(database, clock, Faulty())
    await token.settle()
    now = 0.0
    token.ring._monotonic = lambda: now
    await token.ring.refresh()
    now = 4.9
    await database._pool.close()
    await token.ring.active()
    now = 5.1
    with pytest.raises(Unavailable):
        await token.ring.active()
    # The JWKS goes on being served: nothing can have been revoked while nobody can write.
    assert len(token.published()) == 2


async def test_the_table_refuses_two_active_keys(token: Replica) -> None:
    published = await token.key(State.PUBLISHED)
    with pytest.raises(asyncpg.UniqueViolationError):
        await token.database.execute("UPDATE signing_keys SET active_time = now() WHERE key_id = $1", published.key_id)


@pytest.mark.parametrize("kind", ["kms", "kms-rooted"])
async def test_rotation_with_keys_of_kms(open_database: OpenDatabase, kms: Any, root_key: str, kind: str) -> None:
    custody: KeyManager = (
        KmsKeys(kms, SignQuota(100), description="t")
        if kind == "kms"
        else KmsRootedKeys(kms, root_key, issuer="https://issuer.test")
    )
    clock = Clock()
    token = replica(await open_database("services.token"), clock, custody)
    await token.settle()
    verifier_keys = KeySet(_fetch(token))
    for _ in range(2):
        await verifier_keys.refresh()
        signer = await token.ring.active()
        found = verifier_keys.find(signer.key_id)
        assert found
        assert found.verifies(b"x", await signer.sign(b"x"))
        clock.pass_by(hours=10)
        await token.settle()
        clock.pass_by(minutes=1)
        await token.settle()
    retiring = [key for key in await token.store.all() if key.state(clock()) is State.RETIRING]
    assert [key.material for key in retiring] == [None]


def _fetch(token: Replica) -> Callable[[], Awaitable[bytes]]:
    async def fetch() -> bytes:
        return token.ring.jwks()

    return fetch
