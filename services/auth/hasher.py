"""Argon2id (RFC 9106) in threads. How much of it can be asked for at once is bounded by `turns`."""

import asyncio
import hashlib
import hmac
import secrets
import unicodedata
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import VerifyMismatchError
from argon2.low_level import hash_secret, hash_secret_raw
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mesh.errors import Reason, Unavailable
from mesh.telemetry.metrics import HASH_SECONDS
from mesh.telemetry.tracing import span

Result = TypeVar("Result")
_PEPPER = "pepper="


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
        self._peppers: dict[str, bytes] = {}
        self._current = ""
        """Id of the pepper of new hashes."""

    def pepper(self, held: Sequence[bytes]) -> None:
        """Has the first of these secrets go into new hashes, and each into those that it went into before.

        A hash says which: `pepper=<id>` before its PHC form. Sign-ups that are not verified when the first one changes
        are made again.
        """
        keys = [HKDF(SHA256(), 32, salt=None, info=b"authmesh password pepper v1").derive(one) for one in held]
        self._peppers = {hashlib.sha256(key).hexdigest()[:16]: key for key in keys}
        self._current = next(iter(self._peppers), "")

    async def hash_password(self, password: str) -> str:
        """The hash to store, in PHC form with a salt of its own, of the password after NFKC normalisation."""
        pepper = self._current
        return await self._compute(lambda: _named(pepper, self._argon2.hash(self._peppered(password, pepper))))

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
            right = self._verify(password_hash or _named(self._current, self._dummy), password)
            right = right and password_hash is not None
            return PasswordCheck(right, "" if right and not refused else self._with_salt(password, salt))

        return await self._compute(check)

    async def is_right(self, password_hash: str, password: str) -> bool:
        """Whether a password, as it was typed, is the one of a hash.

        For people who are known already: it takes another time than `check_password`.
        """
        return await self._compute(lambda: self._verify(password_hash, password))

    def is_outdated(self, password_hash: str) -> bool:
        """Whether the hash was made with other parameters than today's, or another pepper."""
        pepper, rest = _parts(password_hash)
        return pepper != self._current or self._argon2.check_needs_rehash(rest)

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

    def _verify(self, password_hash: str, password: str) -> bool:
        """Compares.

        Raises:
            Unavailable: KEYS_UNAVAILABLE: a pepper went into the hash that this process does not have.
        """
        pepper, rest = _parts(password_hash)
        try:
            return self._argon2.verify(rest, self._peppered(password, pepper))
        except VerifyMismatchError:
            return False

    def _peppered(self, password: str, pepper: str) -> bytes:
        normalised = unicodedata.normalize("NFKC", password).encode()
        if not pepper:
            return normalised
        key = self._peppers.get(pepper)
        if key is None:
            raise Unavailable(Reason.KEYS_UNAVAILABLE, "a password was hashed with a pepper that is not there")
        return hmac.digest(key, normalised, "sha256")

    def _with_salt(self, password: str, salt: bytes) -> str:
        argon2, pepper = self._argon2, self._current
        phc = hash_secret(
            self._peppered(password, pepper),
            salt,
            argon2.time_cost,
            argon2.memory_cost,
            argon2.parallelism,
            argon2.hash_len,
            Type.ID,
        ).decode()
        return _named(pepper, phc)

    async def _compute(self, work: Callable[[], Result]) -> Result:
        # A caller that leaves takes along what has not begun. A thread works on: there are no more of them than cores.
        with span("Argon2"):
            return await asyncio.get_running_loop().run_in_executor(self._pool, HASH_SECONDS.time()(work))


def _named(pepper: str, phc: str) -> str:
    return f"{_PEPPER}{pepper}{phc}" if pepper else phc


def _parts(password_hash: str) -> tuple[str, str]:
    """The id of the pepper, or empty, and the PHC form."""
    if not password_hash.startswith(_PEPPER):
        return "", password_hash
    pepper, separator, rest = password_hash.removeprefix(_PEPPER).partition("$")
    return pepper, separator + rest
