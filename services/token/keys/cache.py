"""What one process knows of the keys: which one signs, and the JWKS.

A view of the database that is never older than a few seconds.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime

import structlog

from mesh.errors import Reason, Unavailable
from mesh.runtime.periodic import Periodic
from services.token.keys.key import SigningKey, State, in_state, jwks
from services.token.keys.key_manager import Custodies
from services.token.keys.schedule import MAX_VIEW_AGE
from services.token.keys.signer import Signer
from services.token.keys.store import KeyStore

_log = structlog.get_logger("authmesh.keys")


class KeyCache(Periodic):
    """The view. Signs with the active key of the last decision, whichever replica took it."""

    name = "signing_keys"
    seconds = 1.0
    """How long a key that another replica retired or revoked may go on signing here."""
    log = _log

    def __init__(
        self,
        store: KeyStore,
        custodies: Custodies,
        *,
        is_revoked: Callable[[str], bool],
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Initializes the instance.

        Args:
            store: Has the keys.
            custodies: Have their private parts.
            is_revoked: Whether the revocation feed has brought news of a key: faster than the next poll.
            clock: The time.
            monotonic: Monotonic seconds.
        """
        self._store = store
        self._custodies = custodies
        self._is_revoked = is_revoked
        self._clock = clock
        self._monotonic = monotonic
        self._keys: Sequence[SigningKey] = ()
        self._signers: dict[str, Signer] = {}
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    @property
    def loaded(self) -> bool:
        """Whether a key that signs was ever read. For readiness."""
        return in_state(self._keys, State.ACTIVE, self._clock()) is not None

    def jwks(self) -> bytes:
        """The JWK set, as of now.

        Raises:
            Unavailable: KEYS_UNAVAILABLE: the keys were not read yet.
        """
        if not self._keys:
            raise Unavailable(Reason.KEYS_UNAVAILABLE, "the keys are not known yet: try again")
        return jwks([key for key in self._keys if not self._is_revoked(key.key_id)], self._clock())

    async def active(self) -> Signer:
        """The key to sign the next token with.

        Raises:
            Unavailable: KEYS_UNAVAILABLE or DEPENDENCY_UNAVAILABLE: no one can tell, or there is none.
        """
        key = self._usable()
        if key is None:
            async with self._reading:
                key = self._usable()
                if key is None:
                    await self._read()
                    key = self._usable()
        if key is None:
            raise Unavailable(Reason.KEYS_UNAVAILABLE, "no key signs now: try again")
        return self._signers.get(key.key_id) or await self._open(key)

    async def refresh(self) -> None:
        """Reads the keys now, and opens those that sign or will.

        Raises:
            Unavailable: DEPENDENCY_UNAVAILABLE.
        """
        async with self._reading:
            await self._read()
        time = self._clock()
        for state in (State.ACTIVE, State.PUBLISHED):
            key = in_state(self._keys, state, time)
            if key is not None and key.key_id not in self._signers:
                try:
                    await self._open(key)
                except Unavailable as error:
                    _log.error(
                        "signing key not opened",
                        key=key.key_id,
                        custody=key.custody,
                        state=state.name,
                        error=str(error),
                    )

    @property
    def ready(self) -> bool:
        """Whether the keys were read."""
        return self.loaded

    async def step(self) -> None:
        """Keeps the view fresh."""
        await self.refresh()

    def _usable(self) -> SigningKey | None:
        if self._monotonic() - self._read_at > MAX_VIEW_AGE.total_seconds():
            return None
        key = in_state(self._keys, State.ACTIVE, self._clock())
        return None if key is None or self._is_revoked(key.key_id) else key

    async def _read(self) -> None:
        began = self._monotonic()
        self._keys = await self._store.all()
        self._read_at = began
        signing = {key.key_id for key in self._keys if key.state(self._clock()) in (State.ACTIVE, State.PUBLISHED)}
        self._signers = {key_id: signer for key_id, signer in self._signers.items() if key_id in signing}

    async def _open(self, key: SigningKey) -> Signer:
        signer = await self._custodies.of(key).open(key)
        self._signers[key.key_id] = signer
        return signer
