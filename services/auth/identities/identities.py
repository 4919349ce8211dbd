"""Linking identities of other providers, and signing in with them.

An identity is linked by someone who is signed in, and by `iss` and `sub` alone: an address never links anything, for
a provider's word about an address is not the person's.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from authmesh.token.v1 import token_issuer_pb2, token_set_pb2

from mesh.errors import (
    AlreadyExists,
    FailedPrecondition,
    NotFound,
    Reason,
    Unauthenticated,
    Unimplemented,
    field_invalid,
    quota_exceeded,
)
from mesh.outbox.work import UnitOfWork, Work
from mesh.tokens.claims import ClaimsError
from mesh.tokens.keys import KeySet
from services.auth import events, throttle
from services.auth.account import Account
from services.auth.address import networks
from services.auth.denials import AnonymousDenials
from services.auth.identities.id_token import IdToken, read_id_token
from services.auth.identities.providers import Provider
from services.auth.identities.store import Identities, Identity
from services.auth.sign_in import Attempt, Authenticator, RequestCheck
from services.auth.store import Accounts, Buckets, Spent
from services.auth.throttle import Throttle

MOST = 20
"""Identities of one person."""
FEDERATED = "fed"
"""In `amr`: another provider has signed the person in."""
MULTIPLE = "mfa"
"""In `amr`: with more than one factor (RFC 8176)."""


class _InvalidTokenError(ValueError):
    """The ID token is not good; the message says why."""


@dataclass(frozen=True, slots=True)
class KnownProvider:
    """A provider of the file, and its keys."""

    provider: Provider
    keys: KeySet


@dataclass(frozen=True, slots=True)
class Exchange:
    """What someone sends to sign in with an ID token, and where from."""

    id_token: str
    nonce: str
    client_id: str
    device: token_set_pb2.Device
    address: str
    user_agent: str


class IdentityLinks:
    """Links, unlinks and signs in."""

    def __init__(
        self,
        work: Work,
        providers: Sequence[KnownProvider],
        denials: AnonymousDenials,
        throttle: Throttle,
        check_request: RequestCheck,
        sign_ins: Authenticator,
        *,
        new_id: Callable[[], uuid.UUID],
    ) -> None:
        """Initializes the instance.

        Args:
            work: Of Auth.
            providers: Whose tokens are believed. Empty: no exchange is offered.
            denials: Counts refusals of anonymous callers.
            throttle: Limits them.
            check_request: Has Token judge client, installation and scopes.
            sign_ins: Starts the session.
            new_id: Makes ids.
        """
        self._work = work
        self._providers: Mapping[str, KnownProvider] = {known.provider.issuer: known for known in providers}
        self._denials = denials
        self._throttle = throttle
        self._check_request = check_request
        self._sign_ins = sign_ins
        self._new_id = new_id
        self._accounts = Accounts()
        self._identities = Identities()
        self._spent = Spent()
        self._buckets = Buckets()

    async def exchange(self, exchange: Exchange) -> token_set_pb2.TokenSet:
        """Starts a session for the person whose identity an ID token shows.

        Raises:
            FailedPrecondition: IDENTITY_NOT_LINKED: no account has it. MFA_ENABLED: the account has an authenticator
                app, and the provider doesn't say that a second factor was shown.
            InvalidArgument: FIELD_INVALID, as Token judges client and installation.
            ResourceExhausted: RATE_LIMITED (too many refusals from this network).
            Unauthenticated: CREDENTIALS_INVALID: the token is not good, or the account may not sign in.
            Unimplemented: NOT_IMPLEMENTED, there is no provider.
            MeshError: Unavailable KEYS_UNAVAILABLE when the provider's keys can't be read; what else Token refuses
                with.
        """
        self._demand_providers()
        await self._check_request(
            token_issuer_pb2.CheckSignInRequest(client_id=exchange.client_id, device=exchange.device)
        )
        limits = self._throttle.presented(networks(exchange.address))
        async with self._work.begin() as tx:
            taken = await self._buckets.take(tx, limits, self._work.now())
            if isinstance(taken, timedelta):
                await self._denials.count(tx, Reason.RATE_LIMITED, exchange.address)
                tx.refuse(throttle.refusal(taken))
        try:
            token = await self._verify(exchange.id_token, exchange.nonce)
        except _InvalidTokenError as error:
            async with self._work.begin() as tx:
                await self._denials.count(tx, Reason.CREDENTIALS_INVALID, exchange.address)
            raise Unauthenticated(Reason.CREDENTIALS_INVALID, f"the ID token is not valid: {error}") from None
        async with self._work.begin() as tx:
            await self._buckets.give_back(tx, limits)
            account = await self._accept(tx, token)
        attempt = Attempt(
            email=account.email,
            password="",
            client_id=exchange.client_id,
            device=exchange.device,
            scopes=(),
            address=exchange.address,
            user_agent=exchange.user_agent,
        )
        return await self._sign_ins.start(
            account, attempt, (FEDERATED, MULTIPLE) if token.has_two_factors else (FEDERATED,)
        )

    async def link(self, user_id: uuid.UUID, id_token: str, nonce: str) -> Identity:
        """Links the identity that an ID token shows to someone who is signed in.

        Raises:
            AlreadyExists: IDENTITY_ALREADY_LINKED, to this account or another.
            InvalidArgument: FIELD_INVALID `id_token`.
            NotFound: USER_NOT_FOUND, the account was deleted.
            ResourceExhausted: QUOTA_EXCEEDED.
            Unimplemented: NOT_IMPLEMENTED, there is no provider.
            MeshError: Unavailable KEYS_UNAVAILABLE.
        """
        self._demand_providers()
        try:
            token = await self._verify(id_token, nonce)
        except _InvalidTokenError as error:
            raise field_invalid("id_token", str(error)) from None
        async with self._work.begin() as tx:
            account = await self._account(tx, user_id)
            if len(await self._identities.of_user(tx, user_id, lock=True)) >= MOST:
                raise quota_exceeded(f"you have {MOST} identities, and more are not possible: unlink one first")
            if not await self._spent.spend(tx, token.digest, token.spent_until):
                raise field_invalid("id_token", "was used before")
            identity = Identity(
                id=self._new_id(),
                user_id=user_id,
                issuer=token.issuer,
                subject=token.subject,
                email=token.email,
                create_time=self._work.now(),
                last_used_time=None,
            )
            if not await self._identities.add(tx, identity):
                raise AlreadyExists(Reason.IDENTITY_ALREADY_LINKED, "this identity belongs to an account already")
            tx.record(events.identity_linked(account))
            tx.message(email=account.email, kind="identity_linked")
        return identity

    async def unlink(self, user_id: uuid.UUID, identity_id: uuid.UUID) -> None:
        """Unlinks an identity. The password signs in as before.

        Raises:
            NotFound: IDENTITY_NOT_FOUND; USER_NOT_FOUND, the account was deleted.
        """
        async with self._work.begin() as tx:
            account = await self._account(tx, user_id)
            if not await self._identities.delete(tx, user_id, identity_id):
                raise NotFound(Reason.IDENTITY_NOT_FOUND, "the identity does not exist")
            tx.record(events.identity_unlinked(account))
            tx.message(email=account.email, kind="identity_unlinked")

    async def of_user(self, user_id: uuid.UUID) -> Sequence[Identity]:
        """A person's identities, oldest first."""
        async with self._work.begin() as tx:
            return await self._identities.of_user(tx, user_id)

    async def _verify(self, text: str, nonce: str) -> IdToken:
        """Judges an ID token.

        Raises:
            _InvalidTokenError: it is not good.
            Unavailable: KEYS_UNAVAILABLE.
        """
        try:
            token = read_id_token(text)
        except ClaimsError:
            raise _InvalidTokenError("it can't be read as one") from None
        known = self._providers.get(token.issuer)
        if known is None:
            raise _InvalidTokenError("its issuer is not one of this deployment's providers")
        key = known.keys.find(token.key_id)
        if key is None:
            await known.keys.learn(token.key_id)
            key = known.keys.find(token.key_id)
        if key is None or not token.token.is_signed_by(key):
            raise _InvalidTokenError("it is not signed by its issuer")
        try:
            fault = token.fault(known.provider, nonce, self._work.now().timestamp())
        except ClaimsError:
            fault = "it can't be read as one"
        if fault:
            raise _InvalidTokenError(fault)
        return token

    async def _accept(self, tx: UnitOfWork, token: IdToken) -> Account:
        """The account of a verified token, which is used up."""
        identity = await self._identities.use(tx, token.issuer, token.subject, self._work.now())
        account = await self._accounts.by_id(tx, identity.user_id) if identity else None
        if account is None:
            raise FailedPrecondition(
                Reason.IDENTITY_NOT_LINKED, "no account has this identity: sign in and link it first (LinkIdentity)"
            )
        if not await self._spent.spend(tx, token.digest, token.spent_until):
            raise Unauthenticated(Reason.CREDENTIALS_INVALID, "the ID token is not valid: it was used before")
        if account.disabled:
            raise Unauthenticated(Reason.CREDENTIALS_INVALID, "this account can't sign in")
        if account.second_factor and not token.has_two_factors:
            raise FailedPrecondition(
                Reason.MFA_ENABLED,
                "this account has an authenticator app, and the provider asked for no second factor: "
                "sign in with the password or a passkey",
            )
        return account

    async def _account(self, tx: UnitOfWork, user_id: uuid.UUID) -> Account:
        account = await self._accounts.by_id(tx, user_id)
        if account is None:
            raise NotFound(Reason.USER_NOT_FOUND, "the account was deleted")
        return account

    def _demand_providers(self) -> None:
        if not self._providers:
            raise Unimplemented(
                Reason.NOT_IMPLEMENTED,
                "this deployment believes no other identity provider: IDENTITY_PROVIDERS_FILE is not set",
            )
