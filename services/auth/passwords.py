"""New passwords: by a code that was sent to the address, and by the password until now.

Nothing that anyone may call tells whether an address has an account: the work is the same, so is the answer.
"""

import asyncio
import secrets
import uuid
from collections.abc import Callable
from datetime import timedelta

from mesh.errors import InvalidArgument, NotFound, Reason, field_invalid
from mesh.outbox.work import UnitOfWork, Work
from services.auth import events, reset_code, throttle
from services.auth.account import Account
from services.auth.address import networks, normalise
from services.auth.constant_time import ConstantTime
from services.auth.denials import AnonymousDenials
from services.auth.hasher import Hasher
from services.auth.password_policy import PasswordPolicy
from services.auth.sign_out import SignOut
from services.auth.store import Accounts, Buckets, ResetCodes, SignUps
from services.auth.throttle import Throttle
from services.auth.turns import Turns


class Passwords:
    """Sends reset codes and replaces passwords."""

    def __init__(
        self,
        work: Work,
        hasher: Hasher,
        policy: PasswordPolicy,
        denials: AnonymousDenials,
        constant_time: ConstantTime,
        throttle: Throttle,
        turns: Turns,
        sign_out: SignOut,
        *,
        randbelow: Callable[[int], int] = secrets.randbelow,
    ) -> None:
        self._work = work
        self._hasher = hasher
        self._policy = policy
        self._denials = denials
        self._answer_time = constant_time
        self._throttle = throttle
        self._turns = turns
        self._sign_out = sign_out
        self._randbelow = randbelow
        self._accounts = Accounts()
        self._sign_ups = SignUps()
        self._codes = ResetCodes()
        self._buckets = Buckets()

    async def request_reset(self, email: str, address: str) -> None:
        """Sends a reset code, if the address has an account that may sign in and was not sent enough.

        Args:
            email: The address.
            address: The caller's, as the edge saw it.

        Raises:
            InvalidArgument: FIELD_INVALID, an address that no letter can be sent to.
            ResourceExhausted: RATE_LIMITED, OVERLOADED. Counted for every address alike.
        """
        email = normalise(email)
        limits = self._throttle.reset(email, networks(address))
        async with self._answer_time.pad(), self._turns.take(address):
            async with self._work.begin() as tx:
                if wait := await self._take(tx, limits, address):
                    tx.refuse(throttle.refusal(wait))
                salt = await self._sign_ups.salt(tx, email)
            code = reset_code.new(self._randbelow)
            digest = await self._hasher.digest_code(code, salt)
            async with self._work.begin() as tx:
                account = await self._accounts.by_email(tx, email)
                if account and not account.disabled:
                    await self._send(tx, account, code, digest)

    async def reset(self, email: str, code: str, password: str, address: str) -> None:
        """Sets a new password with a reset code, and ends every session.

        No one's wrong codes are in the owner's way: a code has so many digits that no limit by address is needed to
        keep it from being guessed.

        Args:
            email: The address.
            code: As typed.
            password: The new one.
            address: The caller's.

        Raises:
            InvalidArgument: CODE_INVALID, PASSWORD_INVALID, FIELD_INVALID.
            ResourceExhausted: RATE_LIMITED (too many wrong codes from this network), OVERLOADED.
        """
        email, tried = normalise(email), reset_code.typed(code)
        self._policy.check(password, field="new_password", email=email)
        limits = self._throttle.reset_code(email, networks(address))
        async with self._answer_time.pad(), self._turns.take(address):
            async with self._work.begin() as tx:
                if wait := await self._take(tx, limits, address):
                    tx.refuse(throttle.refusal(wait))
                salt = await self._sign_ups.salt(tx, email)
            digest, password_hash = await asyncio.gather(
                self._hasher.digest_code(tried, salt), self._hasher.hash_password(password)
            )
            async with self._work.begin() as tx:
                account = await self._accounts.by_email(tx, email)
                if account is None or not await self._codes.spend(tx, account.user_id, digest, self._work.now()):
                    await self._denials.count(tx, Reason.CODE_INVALID, address)
                    if account and await self._codes.any_live(tx, account.user_id, self._work.now()):
                        tx.record(events.reset_code_refused(account))
                    tx.refuse(reset_code.invalid())
                await self._buckets.give_back(tx, limits)
                await self._accounts.reset_password_hash(tx, account.user_id, password_hash)
                tx.record(events.password_reset(account))
                tx.message(email=account.email, kind="password_reset")
                order = await self._sign_out.order(tx, account.user_id, keep=None)
        await self._sign_out.carry_out(order)

    async def change(
        self, user_id: uuid.UUID, current: str, password: str, *, session: uuid.UUID, client_id: str, address: str
    ) -> None:
        """Replaces a person's password, and ends every session but the caller's.

        Args:
            user_id: Whose. The caller.
            current: The password until now.
            password: The new one.
            session: The caller's, which goes on.
            client_id: The caller's client.
            address: The caller's, as the edge saw it.

        Raises:
            InvalidArgument: FIELD_INVALID `current_password`, PASSWORD_INVALID `new_password`.
            NotFound: USER_NOT_FOUND, the account was deleted.
            ResourceExhausted: RATE_LIMITED (too many wrong passwords), OVERLOADED.
        """
        limits = self._throttle.change(user_id)
        async with self._turns.take(address):
            async with self._work.begin() as tx:
                account = await self._accounts.by_id(tx, user_id)
                if account is None:
                    raise NotFound(Reason.USER_NOT_FOUND, "the account was deleted")
                self._policy.check(password, field="new_password", email=account.email)
                taken = await self._buckets.take(tx, limits, self._work.now())
                if isinstance(taken, timedelta):
                    tx.refuse(throttle.refusal(taken))
            if not await self._hasher.is_right(account.password_hash, current):
                async with self._work.begin() as tx:
                    tx.record(events.password_refused(account, client_id))
                    tx.refuse(_not_the_password())
            if await self._hasher.is_right(account.password_hash, password):
                raise self._policy.refusal("new_password", "is the one that you have: choose another")
            password_hash = await self._hasher.hash_password(password)
            async with self._work.begin() as tx:
                await self._buckets.give_back(tx, limits)
                if not await self._accounts.set_password_hash(tx, account, password_hash):
                    # Another call has changed it meanwhile.
                    raise _not_the_password()
                tx.record(events.password_changed(account))
                tx.message(email=account.email, kind="password_changed")
                order = await self._sign_out.order(tx, user_id, keep=session)
        await self._sign_out.carry_out(order)

    async def _send(self, tx: UnitOfWork, account: Account, code: str, digest: bytes) -> None:
        """Sends a code, unless the address was sent enough.

        Only what is sent counts: when nothing is, the last message holds a code that is valid.
        """
        now = self._work.now()
        limits = {throttle.key("mail reset", account.email): throttle.CODES_BY_MAIL}
        if isinstance(await self._buckets.take(tx, limits, now), timedelta):
            return
        await self._codes.add(tx, account.user_id, digest, now + reset_code.LIFETIME)
        tx.message(email=account.email, kind="reset_password", code=code)
        tx.record(events.reset_code_issued(account))

    async def _take(self, tx: UnitOfWork, limits: throttle.Limits, address: str) -> timedelta | None:
        """How long the caller has to wait, if it has to."""
        taken = await self._buckets.take(tx, limits, self._work.now())
        if not isinstance(taken, timedelta):
            return None
        await self._denials.count(tx, Reason.RATE_LIMITED, address)
        return taken


def _not_the_password() -> InvalidArgument:
    return field_invalid("current_password", "is not the password of this account")
