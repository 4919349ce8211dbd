"""The adapter of `IdentityProvider` for a user pool of Cognito.

The pool keeps the passwords and sends its codes. A person is known here from their first sign-in on, under the id that
they have in the pool (`sub`); second factors, passkeys and everything else of ours is as with local accounts.
"""

import json
import time
import uuid
from collections.abc import Awaitable, Sequence
from datetime import timedelta

import structlog

from mesh.errors import FailedPrecondition, NotFound, Reason, Unauthenticated, field_invalid
from mesh.outbox.work import UnitOfWork, Work
from mesh.tokens.claims import ClaimsError
from mesh.tokens.keys import KeySet
from services.auth import events, throttle
from services.auth.account import Account, SignUp
from services.auth.address import networks, normalise
from services.auth.cognito.id_token import PoolUser, verify_id_token
from services.auth.cognito.pool import (
    ExistsError,
    PasswordRefusedError,
    PoolChallenge,
    PoolError,
    ResetRequiredError,
    Tokens,
    UnconfirmedError,
    UserPool,
)
from services.auth.constant_time import ConstantTime
from services.auth.denials import AnonymousDenials
from services.auth.identity_provider import Demand, DemandAnswer, Judgement
from services.auth.notifications import notify
from services.auth.password_policy import PasswordPolicy
from services.auth.sign_out import SignOut
from services.auth.sign_up import Application, welcome
from services.auth.store import Accounts, Buckets
from services.auth.throttle import Throttle
from services.auth.turns import Turns
from services.auth.verification import code_invalid

_log = structlog.get_logger("authmesh.cognito")

_METHODS = {
    "SOFTWARE_TOKEN_MFA": ("totp", "SOFTWARE_TOKEN_MFA_CODE", ("pwd", "otp")),
    "SMS_MFA": ("sms", "SMS_MFA_CODE", ("pwd", "sms")),
    "EMAIL_OTP": ("email", "EMAIL_OTP_CODE", ("pwd", "otp")),
    "NEW_PASSWORD_REQUIRED": ("new_password", "NEW_PASSWORD", ("pwd",)),
}
"""Of each challenge: the way to answer as MfaChallenge has it, the pool's name for the answer, and `amr`."""


class CognitoIdentityProvider:
    """See `services.auth.identity_provider.IdentityProvider`."""

    def __init__(
        self,
        work: Work,
        pool: UserPool,
        keys: KeySet,
        policy: PasswordPolicy,
        denials: AnonymousDenials,
        constant_time: ConstantTime,
        throttle: Throttle,
        turns: Turns,
        sign_out: SignOut,
        *,
        issuer: str,
        client_id: str,
    ) -> None:
        """Initializes the instance.

        Args:
            work: Of Auth.
            pool: The user pool.
            keys: Its keys.
            policy: What a new password must be, besides the pool's own policy.
            denials: Counts refusals of anonymous callers.
            constant_time: Levels answers.
            throttle: Limits callers.
            turns: Bounds what is under way.
            sign_out: Ends sessions when a password changes.
            issuer: Of the pool's ID tokens.
            client_id: Ours.
        """
        self._work = work
        self._pool = pool
        self._keys = keys
        self._policy = policy
        self._denials = denials
        self._answer_time = constant_time
        self._throttle = throttle
        self._turns = turns
        self._sign_out = sign_out
        self._issuer = issuer
        self._client_id = client_id
        self._accounts = Accounts()
        self._buckets = Buckets()

    async def sign_up(self, application: Application, address: str) -> None:
        """See `IdentityProvider.sign_up`. Who is there already hears of it, and the caller doesn't."""
        email = normalise(application.email)
        self._policy.check(application.password, field="password", email=email, names=(application.display_name,))
        async with self._answer_time.pad(), self._turns.take(address):
            await self._admit(self._throttle.sign_up(networks(address)), address)
            try:
                user_id = await self._pool.sign_up(email, application.password, application.display_name)
            except ExistsError:
                await self._remind(email)
            except PasswordRefusedError as error:
                raise self._policy.refusal("password", _plain(error)) from None
            else:
                newcomer = SignUp(user_id, None, email, application.display_name, "", 0, self._work.now())
                async with self._work.begin() as tx:
                    tx.record(events.signed_up(newcomer))

    async def resend_code(self, email: str, address: str) -> None:
        """See `IdentityProvider.resend_code`."""
        email = normalise(email)
        async with self._answer_time.pad(), self._turns.take(address):
            await self._admit(self._throttle.resend(email, networks(address)), address)
            await self._quietly(self._pool.resend_code(email))

    async def verify_email(self, email: str, code: str, address: str, password: str = "") -> None:
        """See `IdentityProvider.verify_email`. The pool knows one sign-up of an address: `password` says nothing."""
        email, limits = normalise(email), self._throttle.code(normalise(email), networks(address))
        async with self._answer_time.pad(), self._turns.take(address):
            await self._admit(limits, address)
            try:
                await self._pool.confirm(email, _digits(code))
            except PoolError:
                await self._count(Reason.CODE_INVALID, address)
                raise code_invalid() from None
            async with self._work.begin() as tx:
                await self._buckets.give_back(tx, limits)

    async def request_reset(self, email: str, address: str) -> None:
        """See `IdentityProvider.request_reset`."""
        email = normalise(email)
        async with self._answer_time.pad(), self._turns.take(address):
            await self._admit(self._throttle.reset(email, networks(address)), address)
            await self._quietly(self._pool.forgot_password(email))

    async def reset(self, email: str, code: str, password: str, address: str) -> None:
        """See `IdentityProvider.reset`."""
        email, limits = normalise(email), self._throttle.reset_code(normalise(email), networks(address))
        self._policy.check(password, field="new_password", email=email)
        async with self._answer_time.pad(), self._turns.take(address):
            await self._admit(limits, address)
            try:
                await self._pool.confirm_password(email, _digits(code), password)
            except PasswordRefusedError as error:
                raise self._policy.refusal("new_password", _plain(error)) from None
            except PoolError:
                await self._count(Reason.CODE_INVALID, address)
                raise code_invalid() from None
            async with self._work.begin() as tx:
                await self._buckets.give_back(tx, limits)
                account = await self._accounts.by_email(tx, email)
                if account is None:
                    # Known to the pool, and never seen here: there is no session to end.
                    return
                tx.record(events.password_reset(account))
                tx.message(email=account.email, kind="password_reset")
                order = await self._sign_out.order(tx, account.user_id, keep=None)
        await self._sign_out.carry_out(order)

    async def change(
        self, user_id: uuid.UUID, current: str, password: str, *, session: uuid.UUID, client_id: str, address: str
    ) -> None:
        """See `IdentityProvider.change`. Where the pool asks for a second factor, a reset does it."""
        limits = self._throttle.change(user_id)
        async with self._turns.take(address):
            async with self._work.begin() as tx:
                account = await self._account(tx, user_id)
                self._policy.check(password, field="new_password", email=account.email)
                await self._take(tx, limits)
            try:
                outcome = await self._pool.authenticate(account.email, current)
                if isinstance(outcome, PoolChallenge):
                    raise FailedPrecondition(
                        Reason.MFA_ENABLED, "the identity provider asks for a second factor: reset the password instead"
                    )
                await self._pool.change_password(outcome.access_token, current, password)
            except PasswordRefusedError as error:
                raise self._policy.refusal("new_password", _plain(error)) from None
            except PoolError:
                async with self._work.begin() as tx:
                    tx.record(events.password_refused(account, client_id))
                raise field_invalid("current_password", "is not the password of this account") from None
            async with self._work.begin() as tx:
                await self._buckets.give_back(tx, limits)
                tx.record(events.password_changed(account))
                tx.message(email=account.email, kind="password_changed")
                order = await self._sign_out.order(tx, user_id, keep=session)
        await self._sign_out.carry_out(order)

    async def judge(self, email: str, account: Account | None, password: str, salt: bytes) -> Judgement:
        """See `IdentityProvider.judge`."""
        try:
            outcome = await self._pool.authenticate(email, password)
        except UnconfirmedError:
            # Said to everyone who tries: the caller hears nothing of it, and the owner of the address does.
            async with self._work.begin() as tx:
                await notify(tx, email=email, kind="sign_in_unverified", about=email, now=self._work.now())
            return Judgement(account, right=False)
        except ResetRequiredError:
            raise FailedPrecondition(
                Reason.PASSWORD_RESET_REQUIRED, "this password is not good any more: RequestPasswordReset sends a code"
            ) from None
        except PoolError:
            return Judgement(account, right=False)
        if isinstance(outcome, PoolChallenge):
            return Judgement(account, right=False, demand=_demand(outcome))
        return Judgement(await self._known(outcome), right=True)

    async def satisfy(self, email: str, state: bytes, answer: DemandAnswer) -> tuple[Account, Sequence[str]] | None:
        """See `IdentityProvider.satisfy`."""
        challenge = PoolChallenge(**json.loads(state))
        method, name, amr = _METHODS[challenge.name]
        given = answer.new_password if method == "new_password" else _digits(answer.totp)
        if not given:
            return None
        if answer.new_password:
            self._policy.check(answer.new_password, field="new_password", email=email)
        try:
            outcome = await self._pool.answer(challenge, {name: given})
        except PasswordRefusedError as error:
            raise self._policy.refusal("new_password", _plain(error)) from None
        except PoolError:
            return None
        if isinstance(outcome, PoolChallenge):
            raise Unauthenticated(Reason.CREDENTIALS_INVALID, "sign in again: the identity provider asks for more")
        return await self._known(outcome), amr

    async def is_password(self, account: Account, password: str) -> bool:
        """See `IdentityProvider.is_password`."""
        try:
            # What it asks for behind a right password is not asked here: the session is there.
            await self._pool.authenticate(account.email, password)
        except PoolError:
            return False
        return True

    async def delete(self, user_id: uuid.UUID) -> None:
        """See `IdentityProvider.delete`."""
        await self._pool.delete(str(user_id))

    async def _known(self, tokens: Tokens) -> Account:
        """The account of whom the pool has let in; made at first sight."""
        try:
            user = await verify_id_token(
                tokens.id_token, self._keys, issuer=self._issuer, client_id=self._client_id, now=time.time()
            )
        except ClaimsError as error:
            _log.error("the user pool's ID token is not good", cause=str(error))
            raise _not_let_in() from None
        async with self._work.begin() as tx:
            account = await self._accounts.by_id(tx, user.id)
            if account is None:
                await self._meet(tx, user)
                account = await self._accounts.by_id(tx, user.id)
        if account is None:
            _log.warning("the address of a user of the pool is another account's", user=str(user.id))
            raise _not_let_in()
        return account

    async def _meet(self, tx: UnitOfWork, user: PoolUser) -> None:
        now = self._work.now()
        newcomer = SignUp(user.id, None, user.email, user.name, "", 0, now)
        if await self._accounts.add(tx, newcomer, now):
            welcome(tx, newcomer)

    async def _account(self, tx: UnitOfWork, user_id: uuid.UUID) -> Account:
        account = await self._accounts.by_id(tx, user_id)
        if account is None:
            raise NotFound(Reason.USER_NOT_FOUND, "the account was deleted")
        return account

    async def _remind(self, email: str) -> None:
        """Tells someone that there was a sign-up at their address."""
        async with self._work.begin() as tx:
            account = await self._accounts.by_email(tx, email)
            limits = {throttle.key("mail reminder", email): throttle.REMINDERS_BY_MAIL}
            if account and not isinstance(await self._buckets.take(tx, limits, self._work.now()), timedelta):
                tx.record(events.signed_up_again(account))
                tx.message(email=email, kind="sign_up_exists")

    async def _admit(self, limits: throttle.Limits, address: str) -> None:
        async with self._work.begin() as tx:
            taken = await self._buckets.take(tx, limits, self._work.now())
            if isinstance(taken, timedelta):
                await self._denials.count(tx, Reason.RATE_LIMITED, address)
                tx.refuse(throttle.refusal(taken))

    async def _take(self, tx: UnitOfWork, limits: throttle.Limits) -> None:
        taken = await self._buckets.take(tx, limits, self._work.now())
        if isinstance(taken, timedelta):
            tx.refuse(throttle.refusal(taken))

    async def _count(self, reason: Reason, address: str) -> None:
        async with self._work.begin() as tx:
            await self._denials.count(tx, reason, address)

    async def _quietly(self, call: Awaitable[None]) -> None:
        """Whether the pool sends anything is the address's business."""
        try:
            await call
        except PoolError:
            return


def _demand(challenge: PoolChallenge) -> Demand:
    if challenge.name not in _METHODS:
        _log.error("the user pool asks for what this release doesn't know", challenge=challenge.name)
        raise _not_let_in()
    state = {"name": challenge.name, "session": challenge.session, "username": challenge.username}
    return Demand((_METHODS[challenge.name][0],), json.dumps(state).encode())


def _digits(code: str) -> str:
    return "".join(code.split())


def _plain(error: PasswordRefusedError) -> str:
    """The pool's own words, which say what its policy wants."""
    return f"is refused by the identity provider: {str(error)[:200]}"


def _not_let_in() -> Unauthenticated:
    return Unauthenticated(Reason.CREDENTIALS_INVALID, "the address or the password is wrong")
