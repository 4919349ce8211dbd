"""Moves keys through their states when it is time.

Every replica does: one row's lock decides which, and the others find it done.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime

import structlog

from mesh.errors import Reason, Unavailable
from mesh.outbox.work import UnitOfWork, Work
from mesh.runtime.periodic import Periodic
from mesh.telemetry.metrics import SIGNING_KEY_DUE_TIMESTAMP, SIGNING_KEYS
from mesh.tokens.keys import ANY_ALGORITHM, parse_jwks
from services.token import events
from services.token.keys.key import (
    SigningKey,
    State,
    Step,
    Transition,
    activation_time,
    in_state,
    jwks,
    next_step,
)
from services.token.keys.key_manager import Custodies, NewKey
from services.token.keys.schedule import KeyPolicy
from services.token.keys.signer import Algorithm
from services.token.keys.store import KeyStore

_TOLD = (State.PUBLISHED, State.ACTIVE, State.RETIRING, State.REVOKED)
_TRIAL = b"a key that can't sign must not take over"
_log = structlog.get_logger("authmesh.keys")


class KeyRotator(Periodic):
    """Makes the next key, has it take over, and clears away what was."""

    name = "key_rotator"
    seconds = 1.0
    longest = 30.0
    log = _log

    def __init__(
        self,
        work: Work,
        store: KeyStore,
        custodies: Custodies,
        policy: KeyPolicy,
        *,
        algorithm: Algorithm,
        first: NewKey | None,
        changed: Callable[[], Awaitable[None]],
    ) -> None:
        """Initializes the instance.

        Args:
            work: Of Token.
            store: Has the keys.
            custodies: Make, try and destroy private keys.
            policy: The times.
            algorithm: Of new keys.
            first: A key that was made elsewhere, to begin with where there was never any.
            changed: Told after every step: reads the keys again.
        """
        self._work = work
        self._store = store
        self._custodies = custodies
        self._policy = policy
        self._algorithm: Algorithm = algorithm
        self._first = first
        self._changed = changed
        self._noted = False

    async def step(self) -> bool:
        """Does what is due."""
        if not self._noted:
            await self._store.note_pace(self._policy.pace)
            self._noted = True
        return await self.turn()

    async def turn(self) -> bool:
        """Takes the most urgent step. False when nothing is due.

        Raises:
            Unavailable: DEPENDENCY_UNAVAILABLE, or KEYS_UNAVAILABLE: the custody is out of reach, or the next key can't
                sign. Nothing has changed.
        """
        keys = await self._store.all()
        _tell(keys, self._policy, self._work.now())
        if next_step(keys, self._policy.pace, self._work.now()) is None:
            return False
        async with self._work.begin() as tx:
            keys, time = await self._store.lock(tx), self._work.now()
            step = next_step(keys, self._policy.pace, time)
            if step is None:
                return False
            await self._take(tx, step, keys, time)
        _log.info("signing keys moved on", step=step.act.name, key=step.key.key_id if step.key else None)
        with suppress(Unavailable):
            await self._changed()
        return True

    async def _take(self, tx: UnitOfWork, step: Step, keys: Sequence[SigningKey], time: datetime) -> None:
        match step:
            case Step(Transition.ACTIVATE, SigningKey() as key):
                await self._activate(tx, key, keys, time)
            case Step(Transition.ERASE, SigningKey() as key):
                await self._custodies.of(key).destroy(key)
                await self._store.erase(tx, key.key_id)
            case Step(Transition.REMOVE, SigningKey() as key):
                await self._store.remove(tx, key.key_id)
                tx.record(events.key_removed(key))
            case _:
                await self._create(tx, keys, time)

    async def _create(self, tx: UnitOfWork, keys: Sequence[SigningKey], time: datetime) -> None:
        custody, imported = self._custodies.chosen, not keys and self._first is not None
        new = self._first if not keys and self._first else await custody.create(self._algorithm)
        key = SigningKey(new.key_id, new.algorithm, new.public_jwk, custody.name, new.material, time)
        try:
            await self._store.publish(tx, key)
            tx.record(events.key_created(key, imported=imported))
            await tx.flush()
        except BaseException:
            with suppress(Unavailable):
                await custody.destroy(key)
            raise

    async def _activate(self, tx: UnitOfWork, key: SigningKey, keys: Sequence[SigningKey], time: datetime) -> None:
        await self._try(key)
        if before := in_state(keys, State.ACTIVE, time):
            await self._store.retire(tx, before.key_id, time, time + self._policy.retention)
            tx.record(events.key_retired(before))
        await self._store.activate(tx, key.key_id, time)
        cause = "order" if key.ordered else "schedule" if before else "none_active"
        tx.record(events.key_activated(key, cause, actor=events.NODE))

    async def _try(self, key: SigningKey) -> None:
        """Signs once: a key that was disabled, or that no one can open, must not take the place of one that works."""
        signature = await (await self._custodies.of(key).open(key)).sign(_TRIAL)
        published = parse_jwks(jwks([key], key.publish_time), ANY_ALGORITHM)[key.key_id]
        if not published.verifies(_TRIAL, signature):
            raise Unavailable(
                Reason.KEYS_UNAVAILABLE, f"the key {key.key_id} signs what its public key does not verify: revoke it"
            )


def _tell(keys: Sequence[SigningKey], policy: KeyPolicy, time: datetime) -> None:
    """Says how many keys there are, and when the next one takes over."""
    for state in _TOLD:
        SIGNING_KEYS.labels(state.name.lower()).set(sum(key.state(time) is state for key in keys))
    active, published = in_state(keys, State.ACTIVE, time), in_state(keys, State.PUBLISHED, time)
    if published:
        SIGNING_KEY_DUE_TIMESTAMP.set(activation_time(published, active, policy.pace).timestamp())
    elif active and active.active_time:
        SIGNING_KEY_DUE_TIMESTAMP.set((active.active_time + policy.period).timestamp())
