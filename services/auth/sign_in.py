"""Signing in: the password, a second factor where the person has one, then the tokens.

Unknown address, wrong password and forbidden account are one answer after the same work.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NoReturn, TypeVar

from authmesh.auth.v1.auth_service_pb2 import MfaChallenge
from authmesh.token.v1 import token_issuer_pb2, token_set_pb2
from google.protobuf import empty_pb2

from mesh.errors import FailedPrecondition, MeshError, Reason, Unauthenticated, Unavailable
from mesh.outbox.work import UnitOfWork, Work
from services.auth import events, mfa, throttle
from services.auth.account import Account
from services.auth.address import networks, normalise
from services.auth.constant_time import ConstantTime
from services.auth.demands import Demands, WaitingSignIn
from services.auth.denials import AnonymousDenials
from services.auth.identity_provider import Demand, DemandAnswer, IdentityProvider, Judgement
from services.auth.notifications import notify
from services.auth.second_factors import Challenge, SecondFactors
from services.auth.store import Accounts, Buckets, SignUps
from services.auth.throttle import Throttle
from services.auth.turns import Turns

Result = TypeVar("Result")

_PASSWORD, _TWO_FACTORS = ("pwd",), ("pwd", "otp")
"""Authentication methods (RFC 8176)."""
RequestCheck = Callable[[token_issuer_pb2.CheckSignInRequest], Awaitable[empty_pb2.Empty]]
"""Has Token judge client, installation and scopes; raises `MeshError` as Token refuses."""
TokenIssuer = Callable[[token_issuer_pb2.IssueTokensRequest], Awaitable[token_set_pb2.TokenSet]]
"""Starts a session in Token; raises `MeshError` as Token refuses."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What someone sends to sign in, and where from."""

    email: str
    password: str
    client_id: str
    device: token_set_pb2.Device
    scopes: Sequence[str]
    address: str
    user_agent: str


@dataclass(frozen=True, slots=True)
class MfaAnswer:
    """What someone sends to answer a challenge, and where from. All but one of the factors are empty."""

    challenge: str
    totp: str
    recovery_code: str
    address: str
    user_agent: str
    new_password: str = ""


@dataclass(frozen=True, slots=True)
class _Known:
    email: str
    account: Account | None
    salt: bytes
    """Of the address."""
    sources: Sequence[bytes]
    """What a success would make known."""
    known_devices: bool
    """Whether one of them is already."""
    installation_known: bool
    """Whether the installation is."""
    slowed: bool
    """Whether further attempts have to wait, and this one did not."""
    limits: throttle.Limits
    """What the attempt took from."""


class Authenticator:
    """Checks passwords and has Token start sessions."""

    def __init__(
        self,
        work: Work,
        provider: IdentityProvider,
        denials: AnonymousDenials,
        constant_time: ConstantTime,
        throttle: Throttle,
        turns: Turns,
        check_request: RequestCheck,
        issue_tokens: TokenIssuer,
        factors: SecondFactors,
    ) -> None:
        self._work = work
        self._provider = provider
        self._denials = denials
        self._answer_time = constant_time
        self._throttle = throttle
        self._turns = turns
        self._check_request = check_request
        self._issue_tokens = issue_tokens
        self._factors = factors
        self._accounts = Accounts()
        self._sign_ups = SignUps()
        self._demands = Demands()
        self._buckets = Buckets()
        self._conclusions: set[asyncio.Task[Any]] = set()

    async def sign_in(self, attempt: Attempt) -> token_set_pb2.TokenSet | MfaChallenge:
        """Starts a session for the password of a verified account; where the person has a second factor, asks for it.

        What is wrong with the request, or with Token, is said before the password is looked at. Whatever happens behind
        a right password is in the audit trail, and the person hears of it.

        Raises:
            InvalidArgument: FIELD_INVALID, as Token judges client, installation and scopes.
            Unauthenticated: CREDENTIALS_INVALID.
            FailedPrecondition: EMAIL_UNVERIFIED, for the right password of a sign-up.
            ResourceExhausted: RATE_LIMITED, OVERLOADED.
            MeshError: what else Token refuses with, and Unavailable when Token can't be reached.
        """
        email = normalise(attempt.email)
        async with self._answer_time.pad(success=False):
            await self._check_request(
                token_issuer_pb2.CheckSignInRequest(
                    client_id=attempt.client_id, device=attempt.device, scopes=attempt.scopes
                )
            )
            async with self._turns.take(attempt.address):
                known = await self._admit(email, attempt)
                judgement = await self._provider.judge(email, known.account, attempt.password, known.salt)
            return await self._to_the_end(self._conclude(known, judgement, attempt))

    async def verify_mfa(self, answer: MfaAnswer) -> token_set_pb2.TokenSet:
        """Starts the session of a sign-in whose challenge is answered with a second factor.

        Raises:
            InvalidArgument: CODE_INVALID: `totp` or `recovery_code` is wrong, or `challenge` is void.
            ResourceExhausted: RATE_LIMITED (too many wrong codes of the app).
            MeshError: what else Token refuses with, and Unavailable when Token can't be reached.
        """
        if satisfied := await self._satisfy(answer):
            return satisfied
        account, challenge = await self._accept(answer)
        attempt = Attempt(
            email=account.email,
            password="",
            client_id=challenge.client_id,
            device=challenge.device,
            scopes=challenge.scopes,
            address=answer.address,
            user_agent=answer.user_agent,
        )
        return await self.start(account, attempt, _TWO_FACTORS)

    async def start(self, account: Account, attempt: Attempt, amr: Sequence[str]) -> token_set_pb2.TokenSet:
        """Starts a session for someone who has shown who they are.

        Args:
            account: Whose.
            attempt: What the session is for. Its password is not looked at.
            amr: How they have shown it (RFC 8176).

        Raises:
            MeshError: as Token refuses, and Unavailable when Token can't be reached.
        """
        return await self._to_the_end(self._start(account, attempt, amr))

    async def _to_the_end(self, conclusion: Coroutine[Any, Any, Result]) -> Result:
        """Concludes a sign-in also for a caller who leaves now, or whose time is up.

        They would otherwise leave no trace of a right password.
        """
        task = asyncio.ensure_future(conclusion)
        self._conclusions.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    def _forget(self, conclusion: "asyncio.Task[Any]") -> None:
        self._conclusions.discard(conclusion)
        if not conclusion.cancelled():
            # Told to the caller, if there is one.
            conclusion.exception()

    async def _admit(self, email: str, attempt: Attempt) -> _Known:
        """Counts the attempt before it is judged, so that a hundred at once are a hundred.

        It also reads what there is to judge it by.
        """
        now = self._work.now()
        around, installation = networks(attempt.address), attempt.device.instance_id.lower()
        sources, by_installation = _sources(email, attempt)
        async with self._work.begin() as tx:
            known_devices = await self._accounts.known_devices(tx, sources)
            installation_known = not known_devices.isdisjoint(by_installation)
            limits = (
                self._throttle.known_sign_in(email, installation)
                if installation_known
                else self._throttle.sign_in(email, around)
            )
            taken = await self._buckets.take(tx, limits, now)
            if isinstance(taken, timedelta):
                await self._denials.count(tx, Reason.RATE_LIMITED, attempt.address)
                tx.refuse(throttle.refusal(taken))
            return _Known(
                email=email,
                account=await self._accounts.by_email(tx, email),
                salt=await self._sign_ups.salt(tx, email),
                sources=sources,
                known_devices=bool(known_devices),
                installation_known=installation_known,
                slowed=throttle.has_emptied(taken, limits, now),
                limits=limits,
            )

    async def _conclude(
        self, known: _Known, judgement: Judgement, attempt: Attempt
    ) -> token_set_pb2.TokenSet | MfaChallenge:
        account = judgement.account
        if judgement.demand:
            return await self._wait(known, judgement.demand, attempt)
        if account is None or not judgement.right:
            await self._refuse(known, judgement, attempt)
        if account.disabled:
            await self._stop(known, account, attempt, Reason.CREDENTIALS_INVALID)
            raise _credentials_invalid()
        rehashed = judgement.new_hash
        if account.second_factor:
            return await self._challenge(known, account, attempt, rehashed)
        try:
            tokens = await self._issue_tokens(_order(account, attempt, _PASSWORD, self._work.now()))
        except MeshError as error:
            await self._stop(known, account, attempt, error.reason)
            raise
        async with self._work.begin() as tx:
            await self._buckets.give_back(tx, known.limits)
            if rehashed:
                await self._accounts.set_password_hash(tx, account, rehashed)
            await self._record(tx, account, attempt, known.sources, known.known_devices, tokens, _PASSWORD)
        return tokens

    async def _challenge(self, known: _Known, account: Account, attempt: Attempt, rehashed: str | None) -> MfaChallenge:
        """Asks for the second factor."""
        async with self._work.begin() as tx:
            await self._buckets.give_back(tx, known.limits)
            if rehashed:
                await self._accounts.set_password_hash(tx, account, rehashed)
            waiting = Challenge(
                user_id=account.user_id,
                client_id=attempt.client_id,
                device=attempt.device,
                scopes=attempt.scopes,
                installation_known=known.installation_known,
            )
            token, expire_time = await self._factors.challenge(tx, waiting, self._work.now())
            tx.record(events.mfa_challenged(account, attempt.client_id))
        challenge = MfaChallenge(challenge=token, methods=["totp", "recovery_code"])
        challenge.expire_time.FromDatetime(expire_time)
        return challenge

    async def _wait(self, known: _Known, demand: Demand, attempt: Attempt) -> MfaChallenge:
        """Passes on what the provider asks for."""
        waiting = WaitingSignIn(known.email, demand.state, attempt.client_id, attempt.device, tuple(attempt.scopes))
        async with self._work.begin() as tx:
            await self._buckets.give_back(tx, known.limits)
            token, expire_time = await self._demands.add(tx, waiting, self._work.now())
            if known.account:
                tx.record(events.mfa_challenged(known.account, attempt.client_id))
        challenge = MfaChallenge(challenge=token, methods=demand.methods)
        challenge.expire_time.FromDatetime(expire_time)
        return challenge

    async def _satisfy(self, answer: MfaAnswer) -> token_set_pb2.TokenSet | None:
        """Starts the session of a sign-in that waits for the provider. None where it is not one of those."""
        async with self._work.begin() as tx:
            waiting = await self._demands.attempt(tx, answer.challenge, self._work.now())
        if waiting is None:
            return None
        found = await self._provider.satisfy(
            waiting.email, waiting.state, DemandAnswer(answer.totp, answer.new_password)
        )
        async with self._work.begin() as tx:
            if found is None:
                await self._denials.count(tx, Reason.CODE_INVALID, answer.address)
                if account := await self._accounts.by_email(tx, waiting.email):
                    tx.record(events.mfa_failed(account, waiting.client_id))
                tx.refuse(mfa.code_invalid("totp"))
            account, amr = found
            if not await self._demands.spend(tx, answer.challenge) or account.disabled:
                tx.refuse(mfa.challenge_void())
        attempt = Attempt(
            email=account.email,
            password="",
            client_id=waiting.client_id,
            device=waiting.device,
            scopes=waiting.scopes,
            address=answer.address,
            user_agent=answer.user_agent,
        )
        return await self.start(account, attempt, amr)

    async def _accept(self, answer: MfaAnswer) -> tuple[Account, Challenge]:
        """Judges a second factor, and uses it and the challenge up."""
        now = self._work.now()
        async with self._work.begin() as tx:
            challenge = await self._factors.attempt(tx, answer.challenge, now)
            account = await self._accounts.by_id(tx, challenge.user_id) if challenge else None
            if challenge is None or account is None or account.disabled:
                await self._denials.count(tx, Reason.CODE_INVALID, answer.address)
                tx.refuse(mfa.challenge_void())
            if answer.recovery_code:
                right = await self._factors.spend_recovery_code(tx, account.user_id, answer.recovery_code)
            else:
                right = await self._check_totp(tx, challenge, answer.totp, now)
            if not right:
                tx.record(events.mfa_failed(account, challenge.client_id))
                if not challenge.installation_known:
                    device = _name(challenge.device)
                    await notify(
                        tx,
                        email=account.email,
                        kind="sign_in_stopped",
                        about=account.email,
                        now=now,
                        device=device,
                    )
                tx.refuse(mfa.code_invalid("recovery_code" if answer.recovery_code else "totp"))
            await self._factors.spend(tx, answer.challenge)
            if answer.recovery_code:
                tx.record(events.recovery_code_used(account))
                tx.message(email=account.email, kind="recovery_code_used")
            return account, challenge

    async def _check_totp(self, tx: UnitOfWork, challenge: Challenge, typed: str, now: datetime) -> bool:
        box = self._factors.box
        if box is None:
            raise Unavailable(Reason.KEYS_UNAVAILABLE, "MFA_SECRETS is not set: use a recovery code")
        installation = challenge.device.instance_id.lower() if challenge.installation_known else ""
        limits = self._throttle.mfa(challenge.user_id, installation)
        taken = await self._buckets.take(tx, limits, now)
        if isinstance(taken, timedelta):
            tx.refuse(throttle.refusal(taken))
        if not await self._factors.check_totp(tx, challenge.user_id, typed, now, box, enabled=True):
            return False
        await self._buckets.give_back(tx, limits)
        return True

    async def _start(self, account: Account, attempt: Attempt, amr: Sequence[str]) -> token_set_pb2.TokenSet:
        try:
            tokens = await self._issue_tokens(_order(account, attempt, amr, self._work.now()))
        except MeshError as error:
            async with self._work.begin() as tx:
                tx.record(
                    events.sign_in_failed(
                        error.reason, account.user_id, account.email, attempt.client_id, password_is_right=True
                    )
                )
            raise
        sources, _ = _sources(account.email, attempt)
        async with self._work.begin() as tx:
            known_devices = bool(await self._accounts.known_devices(tx, sources))
            await self._record(tx, account, attempt, sources, known_devices, tokens, amr)
        return tokens

    async def _refuse(self, known: _Known, judgement: Judgement, attempt: Attempt) -> NoReturn:
        """Writes a wrong password, or one of a sign-up.

        Both count: anyone may sign up at any address, and would guess its password for nothing by signing in with
        their own in between.
        """
        account, now = known.account, self._work.now()
        async with self._work.begin() as tx:
            sign_up = await self._sign_ups.by_password(tx, known.email, judgement.sign_up_hash, now)
            if sign_up:
                subject = account.user_id if account else sign_up.user_id
                tx.record(
                    events.sign_in_failed(
                        Reason.EMAIL_UNVERIFIED, subject, known.email, attempt.client_id, password_is_right=True
                    )
                )
                await notify(tx, email=known.email, kind="sign_in_unverified", about=known.email, now=now)
            elif account:
                tx.record(
                    events.sign_in_failed(
                        Reason.CREDENTIALS_INVALID,
                        account.user_id,
                        known.email,
                        attempt.client_id,
                        password_is_right=False,
                    )
                )
            else:
                await self._denials.count(tx, Reason.CREDENTIALS_INVALID, attempt.address)
            if (
                account
                and known.slowed
                and await notify(tx, email=account.email, kind="lockout", about=account.email, now=now)
            ):
                tx.record(events.sign_in_throttled(account, attempt.client_id))
            tx.refuse(
                FailedPrecondition(
                    Reason.EMAIL_UNVERIFIED, "the address is not verified yet: use the code that was sent to it"
                )
                if sign_up
                else _credentials_invalid()
            )

    async def _stop(self, known: _Known, account: Account, attempt: Attempt, reason: Reason) -> None:
        """Writes that a right password came to nothing, and tells the person.

        No one is told of an attempt from an installation that has signed in before.
        """
        about, now = (known.sources[0].hex() if known.sources else account.email), self._work.now()
        async with self._work.begin() as tx:
            if reason is not Reason.CREDENTIALS_INVALID:
                # It was not a guess. Where the answer is that of a wrong password, its count must be, too.
                await self._buckets.give_back(tx, known.limits)
            tx.record(
                events.sign_in_failed(reason, account.user_id, account.email, attempt.client_id, password_is_right=True)
            )
            if not known.installation_known:
                device = _name(attempt.device)
                await notify(tx, email=account.email, kind="sign_in_stopped", about=about, now=now, device=device)

    async def _record(
        self,
        tx: UnitOfWork,
        account: Account,
        attempt: Attempt,
        sources: Sequence[bytes],
        known_devices: bool,
        tokens: token_set_pb2.TokenSet,
        amr: Sequence[str],
    ) -> None:
        """Writes that a session was started, and tells the person where it is from a new device."""
        if sources and not known_devices and await self._accounts.was_used(tx, account.user_id):
            about, device = sources[0].hex(), _name(attempt.device)
            await notify(
                tx,
                email=account.email,
                kind="new_device",
                about=about,
                now=self._work.now(),
                device=device,
            )
        await self._accounts.make_familiar(tx, account.user_id, sources, self._work.now())
        tx.record(events.signed_in(account, attempt.client_id, tokens.session, amr))


def _credentials_invalid() -> Unauthenticated:
    return Unauthenticated(Reason.CREDENTIALS_INVALID, "the address or the password is wrong")


def _name(device: token_set_pb2.Device) -> str:
    return (
        f"{device.display_name} ({device.platform})"
        if device.display_name and device.platform
        else device.display_name or device.platform
    )


def _sources(email: str, attempt: Attempt) -> tuple[Sequence[bytes], Sequence[bytes]]:
    """What a success would make known: network and installation; and of them the installation."""
    installation = attempt.device.instance_id.lower()
    by_installation = [throttle.key("instance", email, installation)] if installation else []
    if not attempt.address:
        return by_installation, by_installation
    return [throttle.key("network", email, networks(attempt.address)[0]), *by_installation], by_installation


def _order(
    account: Account, attempt: Attempt, amr: Sequence[str], now: datetime
) -> token_issuer_pb2.IssueTokensRequest:
    order = token_issuer_pb2.IssueTokensRequest(
        subject=str(account.user_id),
        client_id=attempt.client_id,
        device=attempt.device,
        scopes=attempt.scopes,
        amr=amr,
        address=attempt.address,
        user_agent=attempt.user_agent,
    )
    order.auth_time.FromDatetime(now)
    return order
