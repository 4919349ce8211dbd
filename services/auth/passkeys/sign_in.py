"""Signing in with a passkey: no address, no password, and nothing that tells who has an account.

A passkey that verified its person is two factors in one, so no authenticator app is asked for.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from authmesh.token.v1 import token_issuer_pb2, token_set_pb2

from mesh.errors import Reason, Unauthenticated, field_invalid
from mesh.outbox.work import UnitOfWork, Work
from services.auth import events, throttle
from services.auth.account import Account
from services.auth.address import networks
from services.auth.denials import AnonymousDenials
from services.auth.passkeys.ceremony import LIFETIME, Ceremony
from services.auth.passkeys.passkeys import ceremony_void, note_use, offered
from services.auth.passkeys.relying_party import Assertion, RelyingParty, ResponseInvalidError
from services.auth.passkeys.store import Passkeys
from services.auth.sign_in import Attempt, Authenticator, RequestCheck
from services.auth.store import Accounts, Buckets, Spent
from services.auth.throttle import Throttle


class PasskeyAuthenticator:
    """Signs people in who present a passkey."""

    def __init__(
        self,
        work: Work,
        party: RelyingParty | None,
        denials: AnonymousDenials,
        throttle: Throttle,
        check_request: RequestCheck,
        sign_ins: Authenticator,
    ) -> None:
        """Initializes the instance.

        Args:
            work: Of Auth.
            party: We, as authenticators know us. None: no passkeys are offered.
            denials: Counts refusals of anonymous callers.
            throttle: Limits them.
            check_request: Has Token judge client, installation and scopes.
            sign_ins: Starts the session.
        """
        self._work = work
        self._party = party
        self._denials = denials
        self._throttle = throttle
        self._check_request = check_request
        self._sign_ins = sign_ins
        self._accounts = Accounts()
        self._passkeys = Passkeys()
        self._spent = Spent()
        self._buckets = Buckets()

    async def begin(
        self, client_id: str, device: token_set_pb2.Device, scopes: Sequence[str]
    ) -> tuple[str, str, datetime]:
        """Begins a sign-in. Writes nothing: anyone may begin as many as they like.

        Returns:
            What `finish` takes, the options for the browser as JSON, and until when.

        Raises:
            InvalidArgument: FIELD_INVALID, as Token judges client, installation and scopes.
            Unimplemented: NOT_IMPLEMENTED, this deployment offers no passkeys.
        """
        party = offered(self._party)
        await self._check_request(
            token_issuer_pb2.CheckSignInRequest(client_id=client_id, device=device, scopes=scopes)
        )
        async with self._work.begin() as tx:
            key = await self._passkeys.secret(tx)
        ceremony = Ceremony(self._work.now() + LIFETIME, client_id=client_id, device=device, scopes=scopes)
        return ceremony.seal(key), party.request_options(ceremony.challenge), ceremony.expire_time

    async def finish(self, carried: str, response_json: str, address: str, user_agent: str) -> token_set_pb2.TokenSet:
        """Starts a session for the holder of a passkey.

        Raises:
            InvalidArgument: CODE_INVALID `ceremony`; FIELD_INVALID `credential`: malformed, or not for this ceremony.
            ResourceExhausted: RATE_LIMITED (too many refusals from this network).
            Unauthenticated: CREDENTIALS_INVALID: no such passkey, or its account may not sign in.
            Unimplemented: NOT_IMPLEMENTED.
            MeshError: what else Token refuses with, and Unavailable when Token can't be reached.
        """
        party = offered(self._party)
        try:
            assertion = party.read(response_json)
        except ResponseInvalidError as error:
            raise field_invalid("credential", str(error)) from None
        limits = self._throttle.presented(networks(address))
        now = self._work.now()
        async with self._work.begin() as tx:
            taken = await self._buckets.take(tx, limits, now)
            if isinstance(taken, timedelta):
                await self._denials.count(tx, Reason.RATE_LIMITED, address)
                tx.refuse(throttle.refusal(taken))
            ceremony = Ceremony.open(await self._passkeys.secret(tx), carried, now)
            if ceremony is None or ceremony.session:
                await self._denials.count(tx, Reason.CODE_INVALID, address)
                tx.refuse(ceremony_void())
            account, amr = await self._accept(tx, party, assertion, ceremony, address)
            await self._buckets.give_back(tx, limits)
        attempt = Attempt(
            email=account.email,
            password="",
            client_id=ceremony.client_id,
            device=ceremony.device,
            scopes=ceremony.scopes,
            address=address,
            user_agent=user_agent,
        )
        return await self._sign_ins.start(account, attempt, amr)

    async def _accept(
        self, tx: UnitOfWork, party: RelyingParty, assertion: Assertion, ceremony: Ceremony, address: str
    ) -> tuple[Account, Sequence[str]]:
        """Judges what was presented, and uses the ceremony up."""
        passkey = await self._passkeys.by_credential(tx, assertion.credential_id, lock=True)
        account = await self._accounts.by_id(tx, passkey.user_id) if passkey else None
        if passkey is None or account is None or assertion.user_handle != passkey.user_handle:
            await self._denials.count(tx, Reason.CREDENTIALS_INVALID, address)
            tx.refuse(_unknown())
        try:
            data = party.verify(ceremony.challenge, assertion, passkey.credential)
        except ResponseInvalidError as error:
            tx.record(events.passkey_refused(account, ceremony.client_id))
            tx.refuse(field_invalid("credential", str(error)))
        if not await self._spent.spend(tx, ceremony.digest, ceremony.expire_time):
            tx.refuse(ceremony_void())
        if account.disabled:
            tx.record(events.passkey_refused(account, ceremony.client_id))
            tx.refuse(_unknown())
        return account, await note_use(tx, account, passkey, data, self._work.now())


def _unknown() -> Unauthenticated:
    return Unauthenticated(
        Reason.CREDENTIALS_INVALID, "no account signs in with this passkey: use another one, or the password"
    )
