"""Signing up, and proving the address. Nothing here tells whether an address has an account: the work is the same, so is the answer."""

import asyncio
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from authmesh.audit.v1 import audit_event_pb2
from authmesh.user.v1 import user_directory_pb2

from mesh.database import Database, Transaction
from mesh.errors import FieldViolation, InvalidArgument, MeshError, Reason
from mesh.outbox import Outbox
from services.auth import throttle, verification
from services.auth.account import SignUp
from services.auth.address import block, normalise
from services.auth.answer_time import AnswerTime
from services.auth.denials import AnonymousDenials
from services.auth.hasher import Hasher
from services.auth.password_policy import PasswordPolicy
from services.auth.store import Accounts, AttemptCounts, SignUps

CREATE_USER = "/authmesh.user.v1.UserDirectory/CreateUser"


@dataclass(frozen=True, slots=True)
class Application:
    """What somebody sends to sign up."""

    email: str
    password: str
    display_name: str
    request_id: uuid.UUID | None


class _Written(Enum):
    YES = "a sign-up was added"
    REPEAT = "there is one with this request_id"


class SignUpDesk:
    """Takes sign-ups, sends codes, and makes accounts of those whose code comes back."""

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        hasher: Hasher,
        policy: PasswordPolicy,
        denials: AnonymousDenials,
        answer_time: AnswerTime,
        *,
        clock: Callable[[], datetime],
        new_id: Callable[[], uuid.UUID],
        randbelow: Callable[[int], int] = secrets.randbelow,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._hasher = hasher
        self._policy = policy
        self._denials = denials
        self._answer_time = answer_time
        self._clock = clock
        self._new_id = new_id
        self._randbelow = randbelow
        self._accounts = Accounts()
        self._sign_ups = SignUps()
        self._attempts = AttemptCounts()

    async def sign_up(self, application: Application, address: str) -> None:
        """Writes a sign-up and sends its code; or, where the address has an account, a message that says so.

        Args:
            application: What was sent.
            address: The caller's, as the edge saw it.

        Raises:
            InvalidArgument: FIELD_INVALID, PASSWORD_INVALID, REQUEST_ID_REUSED.
            ResourceExhausted: RATE_LIMITED (too many messages to this address), OVERLOADED.
        """
        email = normalise(application.email)
        self._policy.check(application.password, field="password", email=email, names=(application.display_name,))
        async with self._answer_time.level():
            if await self._is_repeat(application, email):
                return
            code = verification.new_code(self._randbelow)
            password_hash, code_hash = await asyncio.gather(self._hasher.hash_password(application.password), self._hasher.digest_code(email, code))
            now = self._clock()
            sign_up = SignUp(
                user_id=self._new_id(),
                request_id=application.request_id,
                email=email,
                display_name=application.display_name,
                password_hash=password_hash,
                code_hash=code_hash,
                code_expire_time=now + verification.CODE_LIFETIME,
                code_attempts=0,
                create_time=now,
            )
            written = await self._write(sign_up, code, address)
            if isinstance(written, MeshError):
                raise written
            if written is _Written.REPEAT:
                await self._is_repeat(application, email)

    async def resend_code(self, email: str, address: str) -> None:
        """Sends another code for the newest sign-up of an address, if it has one that waits.

        Raises:
            ResourceExhausted: RATE_LIMITED, OVERLOADED. Counted for every address alike.
        """
        email = normalise(email)
        async with self._answer_time.level():
            code = verification.new_code(self._randbelow)
            code_hash = await self._hasher.digest_code(email, code)
            now = self._clock()
            async with self._database.transaction() as tx:
                refusal = await self._admit_mail(tx, email, address, now)
                waiting = None if refusal else await self._sign_ups.lock_open(tx, email, now)
                if waiting:
                    await self._sign_ups.set_code(tx, waiting[0], code_hash, now + verification.CODE_LIFETIME)
                    await self._send_code(tx, waiting[0], code)
            if refusal:
                raise refusal

    async def verify_email(self, email: str, code: str, address: str, password: str = "") -> None:
        """Makes an account of the sign-up whose code it is; User is told to make the profile.

        Args:
            email: The address.
            code: As typed.
            address: The caller's.
            password: If given, the sign-up must be the one with this password. A stranger may sign up with somebody's address, and its owner
                might type the code of that mail: without the password it would be the stranger's that opens the account.

        Raises:
            InvalidArgument: CODE_INVALID.
            ResourceExhausted: OVERLOADED.
        """
        email = normalise(email)
        async with self._answer_time.level():
            digest = await self._hasher.digest_code(email, verification.typed(code))
            now = self._clock()
            async with self._database.transaction() as tx:
                waiting = await self._sign_ups.lock_open(tx, email, now)
                verdict = verification.judge(waiting, digest, now)
                proven, tried = verdict.verified, verdict.tried
                if proven and password and not await self._hasher.is_right(proven.password_hash, password):
                    tried, proven = (proven,), None
                verified = proven is not None and await self._accounts.add(tx, proven, now)
                if proven and verified:
                    await self._sign_ups.close(tx, waiting)
                    await self._sign_ups.mark_verified(tx, proven, now)
                    await self._welcome(tx, proven)
                elif tried:
                    await self._sign_ups.count_wrong_code(tx, tried)
                    await self._outbox.record(tx, _refused_code(tried[0]))
                else:
                    # No row of its own: the address awaits no code, or its codes are used up, and a stranger could go on for ever.
                    await self._denials.count(tx, Reason.CODE_INVALID, address)
            if not verified:
                raise verification.code_invalid()

    async def _is_repeat(self, application: Application, email: str) -> bool:
        """Whether this very sign-up was made already. The password is compared with its Argon2id hash: nothing quicker to guess is kept of it."""
        if application.request_id is None:
            return False
        async with self._database.transaction(readonly=True) as tx:
            earlier = await self._sign_ups.by_request(tx, application.request_id)
        if earlier is None:
            return False
        same_password = await self._hasher.is_right(earlier.password_hash, application.password)
        if not (same_password and (earlier.email, earlier.display_name) == (email, application.display_name)):
            message = "was used for another sign-up in the last 24 hours: make a new one"
            raise InvalidArgument(Reason.REQUEST_ID_REUSED, f"request_id {message}", violations=(FieldViolation("request_id", message),))
        return True

    async def _write(self, sign_up: SignUp, code: str, address: str) -> _Written | MeshError:
        """The transaction. Refusals are returned, not raised, so that what was counted is committed."""
        async with self._database.transaction() as tx:
            if refusal := await self._admit_mail(tx, sign_up.email, address, sign_up.create_time):
                return refusal
            account = await self._accounts.by_email(tx, sign_up.email)
            # It is kept even if there is an account: at sign-in its password must look unverified, or signing up and in would tell.
            kept = sign_up if account is None else replace(sign_up, code_hash=None)
            if not await self._sign_ups.add(tx, kept):
                return _Written.REPEAT
            waiting = await self._sign_ups.lock_open(tx, sign_up.email, sign_up.create_time)
            await self._sign_ups.close(tx, waiting[verification.OPEN_SIGN_UPS :])
            if account is None:
                await self._outbox.record(tx, audit_event_pb2.AuditEvent(type="auth.signed_up", subject=_user(sign_up), email=sign_up.email))
                await self._send_code(tx, sign_up, code)
            else:
                event = audit_event_pb2.AuditEvent(
                    type="auth.signed_up",
                    outcome=audit_event_pb2.OUTCOME_FAILURE,
                    reason="ALREADY_EXISTS",
                    subject=f"users/{account.user_id}",
                    email=sign_up.email,
                )
                await self._outbox.record(tx, event)
                await self._outbox.message(tx, email=account.email, kind="sign_up_exists")
            return _Written.YES

    async def _admit_mail(self, tx: Transaction, email: str, address: str, now: datetime) -> MeshError | None:
        rules = throttle.policies(throttle.MAIL, email, block(address), familiar=False)
        admitted = throttle.admit(await self._attempts.lock(tx, rules, now), rules, now)
        if isinstance(admitted, dict):
            await self._attempts.save(tx, admitted)
            return None
        await self._denials.count(tx, Reason.RATE_LIMITED, address)
        return throttle.refusal(admitted)

    async def _send_code(self, tx: Transaction, sign_up: SignUp, code: str) -> None:
        await self._outbox.message(tx, email=sign_up.email, kind="verify_email", code=code, display_name=sign_up.display_name)
        event = audit_event_pb2.AuditEvent(type="auth.code_issued", subject=_user(sign_up), detail={"kind": "verify_email"})
        await self._outbox.record(tx, event)

    async def _welcome(self, tx: Transaction, sign_up: SignUp) -> None:
        event = audit_event_pb2.AuditEvent(type="auth.email_verified", actor=_user(sign_up), subject=_user(sign_up), email=sign_up.email)
        await self._outbox.record(tx, event)
        profile = user_directory_pb2.CreateUserRequest(user_id=str(sign_up.user_id), email=sign_up.email, display_name=sign_up.display_name)
        await self._outbox.command(tx, CREATE_USER, profile)


def _user(sign_up: SignUp) -> str:
    return f"users/{sign_up.user_id}"


def _refused_code(sign_up: SignUp) -> audit_event_pb2.AuditEvent:
    failure = audit_event_pb2.OUTCOME_FAILURE
    return audit_event_pb2.AuditEvent(type="auth.code_refused", outcome=failure, reason=Reason.CODE_INVALID, subject=_user(sign_up))
