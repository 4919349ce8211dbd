"""Signing in: the password, then the tokens. Unknown address, wrong password and forbidden account are one answer after
the same work.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NoReturn

from authmesh.token.v1 import token_issuer_pb2, token_set_pb2
from google.protobuf import empty_pb2

from mesh.errors import FailedPrecondition, MeshError, Reason, Unauthenticated
from mesh.outbox.work import Work
from services.auth import events, throttle
from services.auth.account import Account
from services.auth.address import networks, normalise
from services.auth.constant_time import ConstantTime
from services.auth.denials import AnonymousDenials
from services.auth.hasher import Hasher, PasswordCheck
from services.auth.notifications import notify
from services.auth.store import Accounts, Buckets, SignUps
from services.auth.throttle import Throttle
from services.auth.turns import Turns

RequestCheck = Callable[[token_issuer_pb2.CheckSignInRequest], Awaitable[empty_pb2.Empty]]
"""Has Token judge client, installation and scopes; raises `MeshError` as Token refuses."""
TokenIssuer = Callable[[token_issuer_pb2.IssueTokensRequest], Awaitable[token_set_pb2.TokenSet]]
"""Starts a session in Token; raises `MeshError` as Token refuses."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What somebody sends to sign in, and where from."""

    email: str
    password: str
    client_id: str
    device: token_set_pb2.Device
    scopes: Sequence[str]
    address: str
    user_agent: str


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
        hasher: Hasher,
        denials: AnonymousDenials,
        constant_time: ConstantTime,
        throttle: Throttle,
        turns: Turns,
        check_request: RequestCheck,
        issue_tokens: TokenIssuer,
    ) -> None:
        self._work = work
        self._hasher = hasher
        self._denials = denials
        self._answer_time = constant_time
        self._throttle = throttle
        self._turns = turns
        self._check_request = check_request
        self._issue_tokens = issue_tokens
        self._accounts = Accounts()
        self._sign_ups = SignUps()
        self._buckets = Buckets()
        self._conclusions: set[asyncio.Task[token_set_pb2.TokenSet]] = set()

    async def sign_in(self, attempt: Attempt) -> token_set_pb2.TokenSet:
        """Starts a session for whoever knows the password of a verified account.

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
                stored, refused = (
                    (known.account.password_hash, known.account.disabled) if known.account else (None, True)
                )
                check = await self._hasher.check_password(stored, attempt.password, known.salt, refused=refused)
            # A caller who leaves now, or whose time is up, would otherwise leave no trace of a right password.
            conclusion = asyncio.ensure_future(self._conclude(known, check, attempt))
            self._conclusions.add(conclusion)
            conclusion.add_done_callback(self._forget)
            return await asyncio.shield(conclusion)

    def _forget(self, conclusion: "asyncio.Task[token_set_pb2.TokenSet]") -> None:
        self._conclusions.discard(conclusion)
        if not conclusion.cancelled():
            # Told to the caller, if there is one.
            conclusion.exception()

    async def _admit(self, email: str, attempt: Attempt) -> _Known:
        """Counts the attempt before it is judged, so that a hundred at once are a hundred; and reads what there is to
        judge it by.
        """
        now = self._work.now()
        around, installation = networks(attempt.address), attempt.device.instance_id.lower()
        by_installation = [throttle.key("instance", email, installation)] if installation else []
        sources = [throttle.key("network", email, around[0]), *by_installation] if attempt.address else by_installation
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

    async def _conclude(self, known: _Known, check: PasswordCheck, attempt: Attempt) -> token_set_pb2.TokenSet:
        account = known.account
        if account is None or not check.right:
            await self._refuse(known, check, attempt)
        if account.disabled:
            await self._stop(known, account, attempt, Reason.CREDENTIALS_INVALID)
            raise _credentials_invalid()
        try:
            tokens = await self._issue_tokens(_order(account, attempt, self._work.now()))
        except MeshError as error:
            await self._stop(known, account, attempt, error.reason)
            raise
        await self._record(known, account, attempt, tokens)
        return tokens

    async def _refuse(self, known: _Known, check: PasswordCheck, attempt: Attempt) -> NoReturn:
        """Writes a wrong password, or one of a sign-up. Both count: anybody may sign up at any address, and would guess
        its password for nothing by signing in with their own in between.
        """
        account, now = known.account, self._work.now()
        async with self._work.begin() as tx:
            sign_up = await self._sign_ups.by_password(tx, known.email, check.sign_up_hash, now)
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
        """Writes that a right password came to nothing, and tells the person, unless it was one of their own
        installations.
        """
        about, now = (known.sources[0].hex() if known.sources else account.email), self._work.now()
        async with self._work.begin() as tx:
            if reason is not Reason.CREDENTIALS_INVALID:
                # It was no guess. Where the answer is that of a wrong password, its count must be, too.
                await self._buckets.give_back(tx, known.limits)
            tx.record(
                events.sign_in_failed(reason, account.user_id, account.email, attempt.client_id, password_is_right=True)
            )
            if not known.installation_known:
                device = _name(attempt.device)
                await notify(tx, email=account.email, kind="sign_in_stopped", about=about, now=now, device=device)

    async def _record(self, known: _Known, account: Account, attempt: Attempt, tokens: token_set_pb2.TokenSet) -> None:
        rehashed = await self._rehash(account, attempt)
        async with self._work.begin() as tx:
            await self._buckets.give_back(tx, known.limits)
            if known.sources and not known.known_devices and await self._accounts.was_used(tx, account.user_id):
                about, device = known.sources[0].hex(), _name(attempt.device)
                await notify(
                    tx,
                    email=account.email,
                    kind="new_device",
                    about=about,
                    now=self._work.now(),
                    device=device,
                )
            await self._accounts.make_familiar(tx, account.user_id, known.sources, self._work.now())
            if rehashed:
                await self._accounts.set_password_hash(tx, account, rehashed)
            tx.record(events.signed_in(account, attempt.client_id, tokens.session))

    async def _rehash(self, account: Account, attempt: Attempt) -> str | None:
        """The password's hash by today's parameters, if it was made by others."""
        return (
            await self._hasher.hash_password(attempt.password)
            if self._hasher.is_outdated(account.password_hash)
            else None
        )


def _credentials_invalid() -> Unauthenticated:
    return Unauthenticated(Reason.CREDENTIALS_INVALID, "the address or the password is wrong")


def _name(device: token_set_pb2.Device) -> str:
    return (
        f"{device.display_name} ({device.platform})"
        if device.display_name and device.platform
        else device.display_name or device.platform
    )


def _order(account: Account, attempt: Attempt, now: datetime) -> token_issuer_pb2.IssueTokensRequest:
    order = token_issuer_pb2.IssueTokensRequest(
        subject=str(account.user_id),
        client_id=attempt.client_id,
        device=attempt.device,
        scopes=attempt.scopes,
        amr=["pwd"],
        address=attempt.address,
        user_agent=attempt.user_agent,
    )
    order.auth_time.FromDatetime(now)
    return order
