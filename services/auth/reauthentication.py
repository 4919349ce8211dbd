"""Showing again who one is, within a session: its next tokens say that the person signed in now, and how.

It is what a call asks for with STEP_UP_REQUIRED. Where an authenticator app is set up the password alone does not do:
who has a session and the password must not get further than at a sign-in.
"""

import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from authmesh.auth.v1.auth_service_pb2 import MfaChallenge
from authmesh.token.v1 import token_issuer_pb2, token_set_pb2
from google.protobuf import empty_pb2

from mesh.errors import NotFound, Reason, field_invalid
from mesh.outbox.work import UnitOfWork, Work
from services.auth import events, throttle
from services.auth.account import Account
from services.auth.identity_provider import IdentityProvider
from services.auth.mfa import Mfa, challenge_void
from services.auth.passkeys.passkeys import note_use, offered
from services.auth.passkeys.relying_party import RelyingParty, ResponseInvalidError
from services.auth.passkeys.store import Passkeys
from services.auth.second_factors import Challenge, SecondFactors, challenge_of_passkey
from services.auth.store import Accounts, Buckets
from services.auth.throttle import Throttle
from services.auth.turns import Turns

Reauthenticate = Callable[[token_issuer_pb2.ReauthenticateRequest], Awaitable[empty_pb2.Empty]]
"""Notes it at the session, in Token; raises `MeshError` as Token refuses."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose session it is."""

    user_id: uuid.UUID
    session: uuid.UUID
    client_id: str
    address: str
    """As the edge saw it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What someone sends to answer a challenge: one of the factors, and the others are empty."""

    challenge: str
    password: str = ""
    totp: str = ""
    passkey: str = ""
    """`AuthenticationResponseJSON`."""


class Reauthentication:
    """Asks the people of sessions who they are."""

    def __init__(
        self,
        work: Work,
        provider: IdentityProvider,
        throttle: Throttle,
        turns: Turns,
        factors: SecondFactors,
        mfa: Mfa,
        party: RelyingParty | None,
        reauthenticate: Reauthenticate,
    ) -> None:
        self._work = work
        self._provider = provider
        self._throttle = throttle
        self._turns = turns
        self._factors = factors
        self._mfa = mfa
        self._party = party
        self._passkeys = Passkeys()
        self._reauthenticate = reauthenticate
        self._accounts = Accounts()
        self._buckets = Buckets()

    async def begin(self, caller: Caller) -> MfaChallenge:
        """A challenge for this session, with the methods that would do.

        Raises:
            NotFound: USER_NOT_FOUND, the account was deleted.
        """
        async with self._work.begin() as tx:
            account = await self._account(tx, caller)
            waiting = Challenge(
                user_id=account.user_id,
                client_id=caller.client_id,
                device=token_set_pb2.Device(),
                scopes=(),
                installation_known=True,
                session=caller.session,
            )
            token, expire_time = await self._factors.challenge(tx, waiting, self._work.now())
            passkeys = await self._passkeys.of_user(tx, account.user_id) if self._party else []
            tx.record(events.mfa_challenged(account, caller.client_id))
        challenge = MfaChallenge(challenge=token, methods=["totp" if account.second_factor else "password"])
        if self._party and passkeys:
            challenge.methods.append("passkey")
            challenge.passkey_request_options_json = self._party.request_options(
                challenge_of_passkey(token), [passkey.credential.data for passkey in passkeys]
            )
        challenge.expire_time.FromDatetime(expire_time)
        return challenge

    async def finish(self, caller: Caller, answer: Answer) -> None:
        """Takes the answer, and has Token note it at the session.

        Raises:
            InvalidArgument: CODE_INVALID `totp` or `challenge`; FIELD_INVALID `password` or `passkey_credential_json`.
            NotFound: USER_NOT_FOUND, the account was deleted; SESSION_NOT_FOUND, the session has ended.
            ResourceExhausted: RATE_LIMITED (too many wrong answers), OVERLOADED.
            MeshError: Unavailable when Token can't be reached. The answer is used up then.
        """
        if answer.passkey:
            amr = await self._take_passkey(caller, answer)
        elif answer.totp:
            amr = await self._take_totp(caller, answer)
        else:
            amr = await self._take_password(caller, answer)
        order = token_issuer_pb2.ReauthenticateRequest(
            subject=str(caller.user_id), session=str(caller.session), amr=amr
        )
        order.auth_time.FromDatetime(self._work.now())
        await self._reauthenticate(order)

    async def _take_totp(self, caller: Caller, answer: Answer) -> Sequence[str]:
        async with self._work.begin() as tx:
            account = await self._attempt(tx, caller, answer)
            await self._mfa.prove(tx, account, answer.totp, enabled=True)
            return await self._spend(tx, caller, account, answer, ("otp",))

    async def _take_passkey(self, caller: Caller, answer: Answer) -> Sequence[str]:
        party = offered(self._party)
        try:
            assertion = party.read(answer.passkey)
        except ResponseInvalidError as error:
            raise field_invalid("passkey_credential_json", str(error)) from None
        async with self._work.begin() as tx:
            account = await self._attempt(tx, caller, answer)
            passkey = await self._passkeys.by_credential(tx, assertion.credential_id, lock=True)
            if passkey is None or passkey.user_id != account.user_id or assertion.user_handle != passkey.user_handle:
                tx.refuse(field_invalid("passkey_credential_json", "is not a passkey of this account"))
            try:
                data = party.verify(challenge_of_passkey(answer.challenge), assertion, passkey.credential)
            except ResponseInvalidError as error:
                tx.record(events.passkey_refused(account, caller.client_id))
                tx.refuse(field_invalid("passkey_credential_json", str(error)))
            amr = await note_use(tx, account, passkey, data, self._work.now())
            return await self._spend(tx, caller, account, answer, amr)

    async def _take_password(self, caller: Caller, answer: Answer) -> Sequence[str]:
        limits = self._throttle.change(caller.user_id)
        async with self._turns.take(caller.address):
            async with self._work.begin() as tx:
                account = await self._attempt(tx, caller, answer)
                if account.second_factor:
                    tx.refuse(field_invalid("password", "does not do for this account: send totp"))
                taken = await self._buckets.take(tx, limits, self._work.now())
                if isinstance(taken, timedelta):
                    tx.refuse(throttle.refusal(taken))
            is_right = await self._provider.is_password(account, answer.password)
            async with self._work.begin() as tx:
                if not is_right:
                    tx.record(events.password_refused(account, caller.client_id))
                    tx.refuse(field_invalid("password", "is not the password of this account"))
                await self._buckets.give_back(tx, limits)
                return await self._spend(tx, caller, account, answer, ("pwd",))

    async def _attempt(self, tx: UnitOfWork, caller: Caller, answer: Answer) -> Account:
        account = await self._account(tx, caller)
        challenge = await self._factors.attempt(tx, answer.challenge, self._work.now(), session=caller.session)
        if challenge is None or challenge.user_id != caller.user_id:
            tx.refuse(challenge_void())
        return account

    async def _spend(
        self, tx: UnitOfWork, caller: Caller, account: Account, answer: Answer, amr: Sequence[str]
    ) -> Sequence[str]:
        if not await self._factors.spend(tx, answer.challenge):
            # Another answer was faster.
            raise challenge_void()
        tx.record(events.reauthenticated(account, caller.session, caller.client_id, amr))
        return amr

    async def _account(self, tx: UnitOfWork, caller: Caller) -> Account:
        account = await self._accounts.by_id(tx, caller.user_id)
        if account is None:
            raise NotFound(Reason.USER_NOT_FOUND, "the account was deleted")
        return account
