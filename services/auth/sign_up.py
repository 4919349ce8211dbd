"""Signing up, and proving the address.

Nothing here tells whether an address has an account: the work is the same, so is the answer.
"""

import asyncio
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from authmesh.user.v1 import user_directory_pb2

from mesh.errors import Reason, field_invalid
from mesh.outbox.work import UnitOfWork, Work
from mesh.resources.request_id import request_id_reused
from services.auth import events, throttle, verification
from services.auth.account import SentCode, SignUp
from services.auth.address import networks, normalise
from services.auth.constant_time import ConstantTime
from services.auth.denials import AnonymousDenials
from services.auth.hasher import Hasher
from services.auth.password_policy import PasswordPolicy
from services.auth.store import Accounts, Buckets, SignUps
from services.auth.throttle import Throttle
from services.auth.turns import Turns

CREATE_USER = "/authmesh.user.v1.UserDirectory/CreateUser"


@dataclass(frozen=True, slots=True)
class Application:
    """What someone sends to sign up."""

    email: str
    password: str
    display_name: str
    request_id: uuid.UUID | None


class Registration:
    """Takes sign-ups, sends codes, and makes accounts of those whose code comes back."""

    def __init__(
        self,
        work: Work,
        hasher: Hasher,
        policy: PasswordPolicy,
        denials: AnonymousDenials,
        constant_time: ConstantTime,
        throttle: Throttle,
        turns: Turns,
        *,
        new_id: Callable[[], uuid.UUID],
        randbelow: Callable[[int], int] = secrets.randbelow,
    ) -> None:
        self._work = work
        self._hasher = hasher
        self._policy = policy
        self._denials = denials
        self._answer_time = constant_time
        self._throttle = throttle
        self._turns = turns
        self._new_id = new_id
        self._randbelow = randbelow
        self._accounts = Accounts()
        self._sign_ups = SignUps()
        self._buckets = Buckets()

    async def sign_up(self, application: Application, address: str) -> None:
        """Writes a sign-up and sends its code; or, where the address has an account, a message that says so.

        An address that was sent enough is sent no more for a while. The sign-up is good all the same, with the code of
        the last message.

        Args:
            application: What was sent.
            address: The caller's, as the edge saw it.

        Raises:
            InvalidArgument: FIELD_INVALID, PASSWORD_INVALID, REQUEST_ID_REUSED.
            ResourceExhausted: RATE_LIMITED (too many sign-ups from this network), OVERLOADED.
        """
        email = normalise(application.email)
        self._policy.check(application.password, field="password", email=email, names=(application.display_name,))
        limits = self._throttle.sign_up(networks(address))
        async with self._answer_time.pad(), self._turns.take(address):
            async with self._work.begin() as tx:
                if await self._is_repeat(tx, application, email):
                    return
                if wait := await self._take(tx, limits, address):
                    tx.refuse(throttle.refusal(wait))
                salt = await self._sign_ups.salt(tx, email)
            code = verification.new_code(self._randbelow)
            password_hash, digest = await asyncio.gather(
                self._hasher.hash_sign_up_password(application.password, salt),
                self._hasher.digest_code(code.first, salt),
            )
            sign_up = SignUp(
                user_id=self._new_id(),
                request_id=application.request_id,
                email=email,
                display_name=application.display_name,
                password_hash=password_hash,
                code_attempts=0,
                create_time=self._work.now(),
            )
            async with self._work.begin() as tx:
                if await self._sign_ups.add(tx, sign_up):
                    await self._write(tx, sign_up, code, digest)
                    return
                # Another call with this request_id was faster: this one changes nothing, and costs nothing.
                await self._buckets.give_back(tx, limits)
                await self._is_repeat(tx, application, email)

    async def resend_code(self, email: str, address: str) -> None:
        """Sends another code for the newest sign-up of an address, if it has one that waits, and was not sent enough.

        Raises:
            ResourceExhausted: RATE_LIMITED, OVERLOADED. Counted for every address alike.
        """
        email = normalise(email)
        limits = self._throttle.resend(email, networks(address))
        async with self._answer_time.pad(), self._turns.take(address):
            async with self._work.begin() as tx:
                if wait := await self._take(tx, limits, address):
                    tx.refuse(throttle.refusal(wait))
                salt = await self._sign_ups.salt(tx, email)
            code = verification.new_code(self._randbelow)
            digest = await self._hasher.digest_code(code.first, salt)
            async with self._work.begin() as tx:
                account = await self._accounts.by_email(tx, email)
                waiting = await self._sign_ups.newest(tx, email, self._work.now())
                if waiting and account is None:
                    await self._send_code(tx, waiting, code, digest)

    async def verify_email(self, email: str, code: str, address: str, password: str = "") -> None:
        """Makes an account of the sign-up that the code proves the address for; User is told to make the profile.

        With the password of a sign-up, no limit is in the way of the right code: a stranger who sends wrong ones
        for the address doesn't know that password. Only success gets past a limit, and an attempt that doesn't succeed
        is answered as if it had been refused unseen: a limit tells nothing about the password.

        Args:
            email: The address.
            code: As typed.
            address: The caller's.
            password: If given, the sign-up must be one with this password. A stranger may sign up with someone's
                address, and its owner might type
                the code of that mail: without the password it would be the stranger's that opens the account.

        Raises:
            InvalidArgument: CODE_INVALID; FIELD_INVALID, for a long code without a password.
            ResourceExhausted: RATE_LIMITED, OVERLOADED.
        """
        email, tried = normalise(email), verification.typed(code)
        if tried.is_long and not password:
            raise field_invalid(
                "password", "a code of 16 digits is good only together with the password that was chosen at sign-up"
            )
        limits = self._throttle.code(email, networks(address))
        async with self._answer_time.pad(), self._turns.take(address):
            async with self._work.begin() as tx:
                wait = await self._take(tx, limits, address)
                if wait and not password:
                    tx.refuse(throttle.refusal(wait))
                salt = await self._sign_ups.salt(tx, email)
            digest, password_hash = await asyncio.gather(
                self._hasher.digest_code(tried.first, salt),
                self._hasher.hash_sign_up_password(password, salt) if password else _nothing(),
            )
            async with self._work.begin() as tx:
                if not await self._verify(tx, email, tried, digest, password_hash, address):
                    tx.refuse(throttle.refusal(wait) if wait else verification.code_invalid())
                if not wait:
                    await self._buckets.give_back(tx, limits)

    async def _verify(
        self, tx: UnitOfWork, email: str, code: verification.Code, digest: bytes, password_hash: str, address: str
    ) -> bool:
        now = self._work.now()
        sent = await self._sign_ups.codes(tx, email, digest, now)
        meant = await self._sign_ups.attempt_code(tx, email, password_hash, now) if password_hash else None
        user_id = verification.proven(sent, code, meant)
        sign_up = await self._sign_ups.lock(tx, user_id, now) if user_id else None
        if sign_up and await self._accounts.add(tx, sign_up, now):
            await self._sign_ups.mark_verified(tx, sign_up, now)
            welcome(tx, sign_up)
            return True
        # With a password the one that was tried; without, the one that a person would mean.
        blamed = next((item for item in meant or () if item.code_attempts <= verification.CODE_ATTEMPTS), None)
        if meant is None and await self._accounts.by_email(tx, email) is None:
            blamed = await self._sign_ups.newest(tx, email, now)
        if blamed:
            tx.record(events.code_refused(blamed))
        else:
            # No row of its own: the address awaits no code, or its codes are used up, and a stranger could go on for
            # ever.
            await self._denials.count(tx, Reason.CODE_INVALID, address)
        return False

    async def _is_repeat(self, tx: UnitOfWork, application: Application, email: str) -> bool:
        """Whether this very sign-up was made already.

        The password is not compared: someone who knew the request_id could guess it here.
        """
        if application.request_id is None:
            return False
        earlier = await self._sign_ups.by_request(tx, application.request_id)
        if earlier is None:
            return False
        if (earlier.email, earlier.display_name) != (email, application.display_name):
            raise request_id_reused("sign-up")
        return True

    async def _take(self, tx: UnitOfWork, limits: throttle.Limits, address: str) -> timedelta | None:
        """How long the caller has to wait, if it has to."""
        taken = await self._buckets.take(tx, limits, self._work.now())
        if not isinstance(taken, timedelta):
            return None
        await self._denials.count(tx, Reason.RATE_LIMITED, address)
        return taken

    async def _write(self, tx: UnitOfWork, sign_up: SignUp, code: verification.Code, digest: bytes) -> None:
        account = await self._accounts.by_email(tx, sign_up.email)
        if account is None:
            tx.record(events.signed_up(sign_up))
            await self._send_code(tx, sign_up, code, digest)
            return
        # The sign-up is kept all the same: at sign-in its password must look unverified, or signing up and in would
        # tell.
        tx.record(events.signed_up_again(account))
        limits = {throttle.key("mail reminder", account.email): throttle.REMINDERS_BY_MAIL}
        if not isinstance(await self._buckets.take(tx, limits, self._work.now()), timedelta):
            tx.message(email=account.email, kind="sign_up_exists")

    async def _send_code(self, tx: UnitOfWork, sign_up: SignUp, code: verification.Code, digest: bytes) -> None:
        """Sends a code, unless the address was sent enough.

        Only what is sent counts: when nothing is, the last message holds a good code.
        """
        now, name, limit = self._work.now(), throttle.key("mail code", sign_up.email), throttle.CODES_BY_MAIL
        taken = await self._buckets.take(tx, {name: limit}, now)
        if isinstance(taken, timedelta):
            return
        # Before the bucket is empty, and while it stays nearly so, codes are long: they are valid for whichever sign-up
        # comes next.
        if throttle.left(taken[name], limit, now) >= limit.burst // 2 and not await self._sign_ups.has_others(
            tx, sign_up, now
        ):
            code = verification.short(code)
        expire_time = now + verification.CODE_LIFETIME
        await self._sign_ups.add_code(tx, SentCode(sign_up.email, digest, code.rest, sign_up.user_id, expire_time))
        tx.message(email=sign_up.email, kind="verify_email", code=str(code), display_name=sign_up.display_name)
        tx.record(events.code_issued(sign_up))


def welcome(tx: UnitOfWork, sign_up: SignUp) -> None:
    """Writes that someone has an account now, and has User make the profile."""
    tx.record(events.email_verified(sign_up))
    profile = user_directory_pb2.CreateUserRequest(
        user_id=str(sign_up.user_id), email=sign_up.email, display_name=sign_up.display_name
    )
    tx.command(CREATE_USER, profile)


async def _nothing() -> str:
    return ""
