"""Argon2id (RFC 9106) in threads. How much of it can be asked for at once is bounded by `turns`."""

import asyncio
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import VerifyMismatchError
from argon2.low_level import hash_secret, hash_secret_raw

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class PasswordCheck:
    """What a password was compared with."""

    right: bool
    """Whether it is the account's."""
    sign_up_hash: str
    """Its hash with the salt of the address, to look for a sign-up by; empty where that is not needed."""


class Hasher:
    """Hashes passwords and codes.

    A thread each, because Argon2 takes tens of milliseconds of processor time and releases the interpreter.
    """

    def __init__(self, *, time_cost: int, memory_kib: int, lanes: int, threads: int) -> None:
        """Initializes the instance.

        Args:
            time_cost: Passes over the memory.
            memory_kib: Memory of one hash.
            lanes: Argon2's parallelism.
            threads: Hashes computed at the same time.
        """
        self._argon2 = PasswordHasher(time_cost=time_cost, memory_cost=memory_kib, parallelism=lanes, type=Type.ID)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._dummy = self._argon2.hash(secrets.token_urlsafe())

    async def hash_password(self, password: str) -> str:
        """The hash to store, in PHC form with a salt of its own, of the password after NFKC normalisation."""
        return await self._compute(lambda: self._argon2.hash(_normalised(password)))

    async def hash_sign_up_password(self, password: str, salt: bytes) -> str:
        """The hash to store of a sign-up's password.

        All sign-ups of an address have one salt: one computation finds the one that is meant.
        """
        return await self._compute(lambda: self._with_salt(password, salt))

    async def check_password(
        self, password_hash: str | None, password: str, salt: bytes, *, refused: bool
    ) -> PasswordCheck:
        """Compares a password with an account's, and prepares to compare it with sign-ups.

        A wrong one costs two hashes, whatever there is to compare it with. Both are one computation, so that nothing is
        to be seen between them.

        Args:
            password_hash: The account's, or None: then the same work is done, and the answer is no.
            password: As it was typed.
            salt: Of the address.
            refused: Whether a right password is refused, too: then it costs as much as a wrong one.
        """

        def check() -> PasswordCheck:
            try:
                right = (
                    self._argon2.verify(password_hash or self._dummy, _normalised(password))
                    and password_hash is not None
                )
            except VerifyMismatchError:
                right = False
            return PasswordCheck(right, "" if right and not refused else self._with_salt(password, salt))

        return await self._compute(check)

    async def is_right(self, password_hash: str, password: str) -> bool:
        """Whether a password, as it was typed, is the one of a hash.

        For people who are known already: it takes another time than `check_password`.
        """

        def check() -> bool:
            try:
                return self._argon2.verify(password_hash, _normalised(password))
            except VerifyMismatchError:
                return False

        return await self._compute(check)

    def is_outdated(self, password_hash: str) -> bool:
        """Whether the hash was made with other parameters than today's."""
        return self._argon2.check_needs_rehash(password_hash)

    async def digest_code(self, code: str, salt: bytes) -> bytes:
        """The digest to store of a one-time code.

        Slow, because a code has 27 bits only: a reader of the table can't find it within its lifetime.

        Args:
            code: Eight digits.
            salt: Of the address, so that one computation serves to compare with every code that was sent to it, and for
                an unknown address too.
        """
        argon2 = self._argon2
        return await self._compute(
            lambda: hash_secret_raw(
                code.encode(), salt, argon2.time_cost, argon2.memory_cost, argon2.parallelism, argon2.hash_len, Type.ID
            )
        )

    def _with_salt(self, password: str, salt: bytes) -> str:
        argon2 = self._argon2
        return hash_secret(
            _normalised(password),
            salt,
            argon2.time_cost,
            argon2.memory_cost,
            argon2.parallelism,
            argon2.hash_len,
            Type.ID,
        ).decode()

    async def _compute(self, work: Callable[[], Result]) -> Result:
        # A caller that leaves takes along what has not begun. A thread works on: there are no more of them than cores.
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


def _normalised(password: str) -> bytes:
    return unicodedata.normalize("NFKC", password).encode()
