"""Signing in: the password, then the tokens. Unknown address, wrong password and forbidden account are one answer after the same work."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from authmesh.audit.v1 import audit_event_pb2
from authmesh.token.v1 import token_issuer_pb2, token_set_pb2

from mesh.database import Database, Transaction
from mesh.errors import FailedPrecondition, MeshError, Reason, ResourceExhausted, Unauthenticated
from mesh.outbox import Outbox
from services.auth import throttle
from services.auth.account import Account, SignUp
from services.auth.address import block, normalise
from services.auth.answer_time import AnswerTime
from services.auth.denials import AnonymousDenials
from services.auth.hasher import Hasher
from services.auth.notices import notify
from services.auth.store import Accounts, AttemptCounts, SignUps

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
    account: Account | None
    sign_up: SignUp | None
    sources: Sequence[bytes]
    """What a success would make familiar."""
    familiar: bool
    """Whether one of them is already."""
    slowed: bool
    """Whether further attempts have to wait, and this one did not."""
    by_network: bytes
    """The count of the caller's network."""
    counted: Sequence[bytes]
    """Every count that the attempt was added to, in the order of locking."""


class SignInDesk:
    """Checks passwords and has Token start sessions."""

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        hasher: Hasher,
        denials: AnonymousDenials,
        answer_time: AnswerTime,
        issue_tokens: TokenIssuer,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._hasher = hasher
        self._denials = denials
        self._answer_time = answer_time
        self._issue_tokens = issue_tokens
        self._clock = clock
        self._accounts = Accounts()
        self._sign_ups = SignUps()
        self._attempts = AttemptCounts()

    async def sign_in(self, attempt: Attempt) -> token_set_pb2.TokenSet:
        """Starts a session for whoever knows the password of a verified account.

        Raises:
            Unauthenticated: CREDENTIALS_INVALID.
            FailedPrecondition: EMAIL_UNVERIFIED, for the right password of a sign-up.
            ResourceExhausted: RATE_LIMITED, OVERLOADED.
            MeshError: what Token refuses with, and Unavailable when Token can't be reached.
        """
        email = normalise(attempt.email)
        async with self._answer_time.level(success=False):
            known = await self._admit(email, attempt)
            account = await self._authenticate(known, attempt)
            try:
                tokens = await self._issue_tokens(_order(account, attempt, self._clock()))
            except Unauthenticated:
                # Disabled, and Token heard of it first.
                await self._refuse(known, account, attempt)
                raise
            except MeshError:
                # The password was right; what went wrong is no guess.
                await self._release(known)
                raise
            await self._record(known, account, attempt, tokens)
            return tokens

    async def _admit(self, email: str, attempt: Attempt) -> _Known:
        """Counts the attempt before it is judged, so that a hundred at once are a hundred; and reads what there is to judge it by."""
        now = self._clock()
        async with self._database.transaction() as tx:
            sources = _sources(email, attempt)
            familiar = await self._accounts.is_familiar(tx, sources)
            rules = throttle.policies(throttle.SIGN_IN, email, block(attempt.address), familiar=familiar)
            admitted = throttle.admit(await self._attempts.lock(tx, rules, now), rules, now)
            if isinstance(admitted, dict):
                await self._attempts.save(tx, admitted)
                return _Known(
                    account=await self._accounts.by_email(tx, email),
                    sign_up=await self._sign_ups.newest(tx, email, now),
                    sources=sources,
                    familiar=familiar,
                    slowed=throttle.begins_to_slow(admitted, rules),
                    by_network=throttle.key(throttle.SIGN_IN.name, email, block(attempt.address)),
                    counted=sorted(rules),
                )
            await self._denials.count(tx, Reason.RATE_LIMITED, attempt.address)
        raise throttle.refusal(admitted)

    async def _authenticate(self, known: _Known, attempt: Attempt) -> Account:
        account, sign_up = known.account, known.sign_up
        try:
            password_right = await self._hasher.is_right(account.password_hash if account else None, attempt.password)
        except ResourceExhausted:
            # Nothing was compared. Only here: a shed second hash would tell that the first one said no.
            await self._take_back(known)
            raise
        # A refusal costs two hashes, whatever there is to compare with; a sign-in that works costs one.
        if not password_right and await self._hasher.is_right(sign_up.password_hash if sign_up else None, attempt.password):
            # Not cleared: anybody may sign up at any address, and would begin anew to guess its password by signing in with their own in between.
            await self._take_back(known)
            raise FailedPrecondition(Reason.EMAIL_UNVERIFIED, "the address is not verified yet: use the code that was sent to it")
        if account is None or not password_right or account.disabled:
            await self._refuse(known, account, attempt)
            raise Unauthenticated(Reason.CREDENTIALS_INVALID, "the address or the password is wrong")
        return account

    async def _take_back(self, known: _Known) -> None:
        async with self._database.transaction() as tx:
            for key in known.counted:
                await self._attempts.take_back(tx, key)

    async def _release(self, known: _Known) -> None:
        async with self._database.transaction() as tx:
            await self._forgive(tx, known)

    async def _forgive(self, tx: Transaction, known: _Known) -> None:
        """A right password is no guess: the count of its network ends, and its address gets the attempt back."""
        for key in known.counted:
            await (self._attempts.clear(tx, key) if key == known.by_network else self._attempts.take_back(tx, key))

    async def _refuse(self, known: _Known, account: Account | None, attempt: Attempt) -> None:
        async with self._database.transaction() as tx:
            if account is None:
                await self._denials.count(tx, Reason.CREDENTIALS_INVALID, attempt.address)
                return
            await self._outbox.record(tx, _failed("auth.sign_in_failed", Reason.CREDENTIALS_INVALID, account, attempt))
            if known.slowed:
                await self._outbox.record(tx, _failed("auth.sign_in_throttled", Reason.RATE_LIMITED, account, attempt))
                await notify(tx, self._outbox, email=account.email, kind="lockout", about=account.email, now=self._clock())

    async def _record(self, known: _Known, account: Account, attempt: Attempt, tokens: token_set_pb2.TokenSet) -> None:
        rehashed = await self._rehash(account, attempt)
        async with self._database.transaction() as tx:
            await self._forgive(tx, known)
            if known.sources and not known.familiar and await self._accounts.was_used(tx, account.user_id):
                about, device = known.sources[0].hex(), _name(attempt.device)
                await notify(tx, self._outbox, email=account.email, kind="new_device", about=about, now=self._clock(), device=device)
            await self._accounts.make_familiar(tx, account.user_id, known.sources, self._clock())
            if rehashed:
                await self._accounts.set_password_hash(tx, account, rehashed)
            await self._outbox.record(tx, _signed_in(account, attempt, tokens))

    async def _rehash(self, account: Account, attempt: Attempt) -> str | None:
        """The password's hash by today's parameters, if it was made by others. Left for next time when there is no room now."""
        if not self._hasher.is_outdated(account.password_hash):
            return None
        try:
            return await self._hasher.hash_password(attempt.password)
        except ResourceExhausted:
            return None


def _signed_in(account: Account, attempt: Attempt, tokens: token_set_pb2.TokenSet) -> audit_event_pb2.AuditEvent:
    user, client = f"users/{account.user_id}", f"clients/{attempt.client_id}"
    return audit_event_pb2.AuditEvent(type="auth.signed_in", actor=user, subject=user, session=tokens.session, client=client, detail={"amr": "pwd"})


def _failed(event_type: str, reason: Reason, account: Account, attempt: Attempt) -> audit_event_pb2.AuditEvent:
    return audit_event_pb2.AuditEvent(
        type=event_type,
        outcome=audit_event_pb2.OUTCOME_FAILURE,
        reason=reason,
        subject=f"users/{account.user_id}",
        client=f"clients/{attempt.client_id}",
        email=account.email,
    )


def _name(device: token_set_pb2.Device) -> str:
    return f"{device.display_name} ({device.platform})" if device.display_name and device.platform else device.display_name or device.platform


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


def _sources(email: str, attempt: Attempt) -> list[bytes]:
    """What makes a caller familiar: the network, and the installation, whose id nobody else knows."""
    network, instance = block(attempt.address), attempt.device.instance_id
    sources = [throttle.key("network", email, network)] if network else []
    return [*sources, throttle.key("instance", email, instance.lower())] if instance else sources
