"""Argon2id (RFC 9106) in threads, with a bound on how much of it can be asked for at once."""

import asyncio
import hashlib
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import VerifyMismatchError
from argon2.low_level import hash_secret_raw

from mesh.errors import Reason, ResourceExhausted

_SALT_BYTES = 16
Result = TypeVar("Result")


class Hasher:
    """Hashes passwords and codes. A thread each, because Argon2 takes tens of milliseconds of processor time and releases the interpreter."""

    def __init__(self, *, time_cost: int, memory_kib: int, lanes: int, threads: int, waiting: int) -> None:
        """Args:
        time_cost: Passes over the memory.
        memory_kib: Memory of one hash.
        lanes: Argon2's parallelism.
        threads: Hashes computed at the same time.
        waiting: Hashes that may wait for a thread; a further one is shed, or waiting callers would pile up past their deadlines.
        """
        self._argon2 = PasswordHasher(time_cost=time_cost, memory_cost=memory_kib, parallelism=lanes, type=Type.ID)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._room = threads + waiting
        self._dummy = self._argon2.hash(secrets.token_urlsafe())

    async def hash_password(self, password: str) -> str:
        """The hash to store, in PHC form, of the password after NFKC normalisation.

        Raises:
            ResourceExhausted: OVERLOADED.
        """
        return await self._compute(lambda: self._argon2.hash(_normalised(password)))

    async def is_right(self, password_hash: str | None, password: str) -> bool:
        """Whether it is the password of the hash. Without a hash the same work is done and the answer is no.

        Raises:
            ResourceExhausted: OVERLOADED.
        """

        def verify() -> bool:
            try:
                return self._argon2.verify(password_hash or self._dummy, _normalised(password)) and password_hash is not None
            except VerifyMismatchError:
                return False

        return await self._compute(verify)

    def is_outdated(self, password_hash: str) -> bool:
        """Whether the hash was made with other parameters than today's."""
        return self._argon2.check_needs_rehash(password_hash)

    async def digest_code(self, email: str, code: str) -> bytes:
        """The digest to store of a one-time code. Slow, because a code has 27 bits only: whoever reads the table can't find it within its lifetime.

        The salt follows from the address, so that one computation serves to compare with every open sign-up, and for an unknown address too.

        Raises:
            ResourceExhausted: OVERLOADED.
        """
        salt = hashlib.sha256(b"authmesh one-time code\0" + email.encode()).digest()[:_SALT_BYTES]
        argon2 = self._argon2
        return await self._compute(
            lambda: hash_secret_raw(code.encode(), salt, argon2.time_cost, argon2.memory_cost, argon2.parallelism, argon2.hash_len, Type.ID)
        )

    async def _compute(self, work: Callable[[], Result]) -> Result:
        if self._room <= 0:
            raise ResourceExhausted(Reason.OVERLOADED, "too many sign-ins at once: try again", retry_after=timedelta(seconds=1))
        self._room -= 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        # When the thread is done, not when the caller gave up: a caller that leaves does not free the processor.
        future.add_done_callback(lambda _: self._release())
        return await asyncio.shield(future)

    def _release(self) -> None:
        self._room += 1


def _normalised(password: str) -> bytes:
    return unicodedata.normalize("NFKC", password).encode()
