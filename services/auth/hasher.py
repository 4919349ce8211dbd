"""Argon2id (RFC 9106) in threads, with a bound on how much of it can be asked for at once, shared fairly among the networks that ask."""

import asyncio
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import VerifyMismatchError
from argon2.low_level import hash_secret, hash_secret_raw

from mesh.errors import Reason, ResourceExhausted
from services.auth.address import networks
from services.auth.fair_queue import FairQueue

Result = TypeVar("Result")


@dataclass(eq=False, slots=True)
class _Job:
    """A computation that waits for a thread."""

    work: Callable[[], Any]
    result: "asyncio.Future[Any]"


@dataclass(frozen=True, slots=True)
class PasswordCheck:
    """What a password was compared with."""

    right: bool
    """Whether it is the account's."""
    sign_up_hash: str
    """Its hash with the salt of the address, to look for a sign-up by; empty where that is not needed."""


class Hasher:
    """Hashes passwords and codes. A thread each, because Argon2 takes tens of milliseconds of processor time and releases the interpreter.

    Every method takes the address of the caller on whose behalf it works: threads are shared among networks.
    """

    def __init__(self, *, time_cost: int, memory_kib: int, lanes: int, threads: int, waiting: int) -> None:
        """Args:
        time_cost: Passes over the memory.
        memory_kib: Memory of one hash.
        lanes: Argon2's parallelism.
        threads: Hashes computed at the same time.
        waiting: Hashes that may wait for a thread. Beyond it one is shed, of the network that asks for most: waiting callers would pile up past their
            deadlines.
        """
        self._argon2 = PasswordHasher(time_cost=time_cost, memory_cost=memory_kib, parallelism=lanes, type=Type.ID)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._queue: FairQueue[_Job] = FairQueue()
        self._free = threads
        self._waiting = waiting
        self._dummy = self._argon2.hash(secrets.token_urlsafe())

    async def hash_password(self, password: str, caller: str) -> str:
        """The hash to store, in PHC form with a salt of its own, of the password after NFKC normalisation.

        Raises:
            ResourceExhausted: OVERLOADED.
        """
        return await self._compute(lambda: self._argon2.hash(_normalised(password)), caller)

    async def hash_sign_up_password(self, password: str, salt: bytes, caller: str) -> str:
        """The hash to store of a sign-up's password. All sign-ups of an address have one salt, so that one computation finds the one that is meant.

        Raises:
            ResourceExhausted: OVERLOADED.
        """
        return await self._compute(lambda: self._with_salt(password, salt), caller)

    async def check_password(self, password_hash: str | None, password: str, salt: bytes, caller: str, *, refused: bool) -> PasswordCheck:
        """Compares a password with an account's, and prepares to compare it with sign-ups. A wrong one costs two hashes, whatever there is to compare
        it with. Both are one computation: were the second one shed alone, that would tell that the first said no.

        Args:
            password_hash: The account's, or None: then the same work is done, and the answer is no.
            password: As it was typed.
            salt: Of the address.
            caller: The caller's address.
            refused: Whether a right password is refused, too: then it costs as much as a wrong one.

        Raises:
            ResourceExhausted: OVERLOADED. Nothing was compared.
        """

        def check() -> PasswordCheck:
            try:
                right = self._argon2.verify(password_hash or self._dummy, _normalised(password)) and password_hash is not None
            except VerifyMismatchError:
                right = False
            return PasswordCheck(right, "" if right and not refused else self._with_salt(password, salt))

        return await self._compute(check, caller)

    def is_outdated(self, password_hash: str) -> bool:
        """Whether the hash was made with other parameters than today's."""
        return self._argon2.check_needs_rehash(password_hash)

    async def digest_code(self, code: str, salt: bytes, caller: str) -> bytes:
        """The digest to store of a one-time code. Slow, because a code has 27 bits only: whoever reads the table can't find it within its lifetime.

        Args:
            code: Eight digits.
            salt: Of the address, so that one computation serves to compare with every code that was sent to it, and for an unknown address too.
            caller: The caller's address.

        Raises:
            ResourceExhausted: OVERLOADED.
        """
        argon2 = self._argon2
        return await self._compute(
            lambda: hash_secret_raw(code.encode(), salt, argon2.time_cost, argon2.memory_cost, argon2.parallelism, argon2.hash_len, Type.ID), caller
        )

    def _with_salt(self, password: str, salt: bytes) -> str:
        argon2 = self._argon2
        return hash_secret(_normalised(password), salt, argon2.time_cost, argon2.memory_cost, argon2.parallelism, argon2.hash_len, Type.ID).decode()

    async def _compute(self, work: Callable[[], Result], caller: str) -> Result:
        job = _Job(work, asyncio.get_running_loop().create_future())
        self._queue.put(job, networks(caller))
        self._start()
        if len(self._queue) > self._waiting:
            shed = self._queue.shed(self._now())
            if not shed.result.done():
                shed.result.set_exception(
                    ResourceExhausted(Reason.OVERLOADED, "too many sign-ins at once: try again", retry_after=timedelta(seconds=1))
                )
        try:
            result: Result = await job.result
            return result
        finally:
            # A caller that leaves the queue makes room. One that leaves a thread does not: the processor works on.
            self._queue.discard(job)

    def _start(self) -> None:
        while self._free and self._queue:
            self._free -= 1
            job = self._queue.take(self._now())
            asyncio.get_running_loop().run_in_executor(self._pool, job.work).add_done_callback(partial(self._finish, job))

    def _finish(self, job: _Job, done: "asyncio.Future[Any]") -> None:
        self._free += 1
        error = done.exception()
        if not job.result.done():
            if error:
                job.result.set_exception(error)
            else:
                job.result.set_result(done.result())
        self._start()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


def _normalised(password: str) -> bytes:
    return unicodedata.normalize("NFKC", password).encode()
