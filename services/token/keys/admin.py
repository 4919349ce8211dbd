"""What people may order about keys: a rotation before its time, and the end of a key.

One row's lock decides between those who order at once.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from mesh.errors import NotFound, Reason, Unavailable
from mesh.outbox.work import Work
from mesh.tokens.revocations import RevocationKind
from services.token import events
from services.token.keys.key import SigningKey, State, activation_time, in_state
from services.token.keys.schedule import REVOCATION_KEPT, RotationSchedule
from services.token.keys.store import KeyStore
from services.token.revocation.log import RevocationLog


class KeyAdmin:
    """What people may order. Needs no private key, so it works while KMS is down, and beside the running processes."""

    def __init__(
        self,
        work: Work,
        store: KeyStore,
        log: RevocationLog,
        pace: RotationSchedule,
        *,
        changed: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Initializes the instance.

        Args:
            work: Of Token.
            store: Has the keys.
            log: Takes revocations.
            pace: When keys take over.
            changed: Told after every change: reads the keys again.
        """
        self._work = work
        self._store = store
        self._log = log
        self._pace = pace
        self._changed = changed

    async def keys(self) -> list[SigningKey]:
        """Every key that is not forgotten, newest first."""
        time = self._work.now()
        return [key for key in await self._store.all() if key.state(time) is not State.GONE]

    def activation_time(self, keys: Sequence[SigningKey]) -> datetime | None:
        """When the next of these keys takes over, if nothing changes before. None when there is no next one yet."""
        time = self._work.now()
        published = in_state(keys, State.PUBLISHED, time)
        return (
            max(activation_time(published, in_state(keys, State.ACTIVE, time), self._pace), time) if published else None
        )

    async def rotate(self) -> tuple[SigningKey, datetime]:
        """Has the next key take over as soon as that is safe: the key, and when it will.

        A repeat before that changes nothing.

        Raises:
            Unavailable: KEYS_UNAVAILABLE: there is no next key, because none could be made yet.
        """
        async with self._work.begin() as tx:
            keys, time = await self._store.lock(tx), self._work.now()
            published, active = in_state(keys, State.PUBLISHED, time), in_state(keys, State.ACTIVE, time)
            if published is None:
                raise Unavailable(Reason.KEYS_UNAVAILABLE, "the next key is not made yet: try again")
            ordered = replace(published, ordered=True)
            due = max(activation_time(ordered, active, self._pace), time)
            if not published.ordered:
                await self._store.order(tx, published.key_id)
                tx.record(events.key_rotated(published, due))
        await self._tell()
        return ordered, due

    async def revoke(self, key_id: str) -> SigningKey:
        """Refuses every token that a key has signed, and has the next key sign if it was the active one.

        A repeat changes nothing.

        Raises:
            NotFound: KEY_NOT_FOUND.
        """
        async with self._work.begin() as tx:
            keys, time = await self._store.lock(tx), self._work.now()
            key = next((key for key in keys if key.key_id == key_id), None)
            if key is None:
                raise NotFound(
                    Reason.KEY_NOT_FOUND, "no such key: it never was, or every token that it signed has expired"
                )
            if key.revoke_time:
                return key
            was_active = key.state(time) is State.ACTIVE
            revoked = replace(key, revoke_time=time, gone_time=time + REVOCATION_KEPT)
            await self._store.revoke(tx, key_id, time, time + REVOCATION_KEPT)
            tx.record(events.key_revoked(key, key.state(time).name.lower()))
            published = in_state(keys, State.PUBLISHED, time)
            if was_active and published:
                # However short it has been in the JWKS: no one else can sign. Verifiers that don't know it yet ask
                # again for a key unknown to them.
                await self._store.activate(tx, published.key_id, time)
                tx.record(events.key_activated(published, "revocation"))
            await self._log.append(tx, RevocationKind.KEY, [key_id], time, kept=REVOCATION_KEPT)
        await self._tell()
        return revoked

    async def _tell(self) -> None:
        if self._changed:
            with suppress(Unavailable):
                await self._changed()
