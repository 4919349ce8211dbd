"""Registering passkeys, and looking after them."""

import secrets
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime

from fido2.webauthn import AuthenticatorData

from mesh.errors import (
    AlreadyExists,
    FieldViolation,
    InvalidArgument,
    NotFound,
    Reason,
    Unimplemented,
    field_invalid,
    quota_exceeded,
)
from mesh.outbox.work import UnitOfWork, Work
from mesh.resources.name import SESSION
from services.auth import events
from services.auth.account import Account
from services.auth.passkeys.ceremony import LIFETIME, Ceremony
from services.auth.passkeys.relying_party import RelyingParty, ResponseInvalidError
from services.auth.passkeys.store import Passkey, Passkeys
from services.auth.store import Accounts, Spent

MOST = 20
"""Passkeys of one person."""
HANDLE_BYTES = 32


class PasskeyRegistry:
    """The passkeys of people who are signed in."""

    def __init__(
        self,
        work: Work,
        party: RelyingParty | None,
        *,
        new_id: Callable[[], uuid.UUID],
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """Initializes the instance.

        Args:
            work: Of Auth.
            party: We, as authenticators know us. None: no passkeys are offered.
            new_id: Makes ids.
            random_bytes: Of the system, or a test's.
        """
        self._work = work
        self._party = party
        self._new_id = new_id
        self._random_bytes = random_bytes
        self._accounts = Accounts()
        self._passkeys = Passkeys()
        self._spent = Spent()

    async def begin(self, user_id: uuid.UUID, session: uuid.UUID) -> tuple[str, str, datetime]:
        """Begins to register a passkey.

        Returns:
            What `finish` takes, the options for the browser as JSON, and until when.

        Raises:
            NotFound: USER_NOT_FOUND, the account was deleted.
            ResourceExhausted: QUOTA_EXCEEDED.
            Unimplemented: NOT_IMPLEMENTED, this deployment offers no passkeys.
        """
        party = offered(self._party)
        async with self._work.begin() as tx:
            account = await self._account(tx, user_id)
            known = await self._passkeys.of_user(tx, user_id)
            key = await self._passkeys.secret(tx)
        _demand_room(known)
        ceremony = Ceremony(
            self._work.now() + LIFETIME,
            session=SESSION.of(user_id, session),
            # One person has one handle: an authenticator keeps one passkey for each.
            user_handle=known[0].user_handle if known else self._random_bytes(HANDLE_BYTES),
        )
        options = party.creation_options(
            ceremony.challenge, ceremony.user_handle, account.email, [passkey.credential.data for passkey in known]
        )
        return ceremony.seal(key), options, ceremony.expire_time

    async def finish(
        self, user_id: uuid.UUID, session: uuid.UUID, carried: str, response_json: str, display_name: str
    ) -> Passkey:
        """Registers the passkey that the authenticator has made.

        Raises:
            InvalidArgument: CODE_INVALID `ceremony`; FIELD_INVALID `credential`.
            AlreadyExists: PASSKEY_ALREADY_EXISTS: it is registered already.
            NotFound: USER_NOT_FOUND, the account was deleted.
            ResourceExhausted: QUOTA_EXCEEDED.
            Unimplemented: NOT_IMPLEMENTED.
        """
        party = offered(self._party)
        now = self._work.now()
        async with self._work.begin() as tx:
            account = await self._account(tx, user_id)
            known = await self._passkeys.of_user(tx, user_id, lock=True)
            key = await self._passkeys.secret(tx)
            ceremony = Ceremony.open(key, carried, now)
            if ceremony is None or ceremony.session != SESSION.of(user_id, session):
                raise ceremony_void()
            try:
                credential = party.register(ceremony.challenge, response_json)
            except ResponseInvalidError as error:
                raise field_invalid("credential", str(error)) from None
            _demand_room(known)
            passkey = Passkey(
                id=self._new_id(),
                user_id=user_id,
                credential=credential,
                user_handle=ceremony.user_handle,
                display_name=display_name,
                create_time=now,
                last_used_time=None,
            )
            if not await self._spent.spend(tx, ceremony.digest, ceremony.expire_time):
                raise ceremony_void()
            if not await self._passkeys.add(tx, passkey):
                raise AlreadyExists(Reason.PASSKEY_ALREADY_EXISTS, "this passkey is registered already")
            tx.record(events.passkey_added(account))
            tx.message(email=account.email, kind="passkey_added")
        return passkey

    async def of_user(self, user_id: uuid.UUID) -> Sequence[Passkey]:
        """A person's passkeys, oldest first."""
        async with self._work.begin() as tx:
            return await self._passkeys.of_user(tx, user_id)

    async def rename(self, user_id: uuid.UUID, passkey_id: uuid.UUID, display_name: str) -> Passkey:
        """Gives a passkey another name.

        Raises:
            NotFound: PASSKEY_NOT_FOUND.
        """
        async with self._work.begin() as tx:
            passkey = await self._passkeys.rename(tx, user_id, passkey_id, display_name)
            if passkey is None:
                raise _not_found()
            tx.record(events.passkey_renamed(user_id))
        return passkey

    async def delete(self, user_id: uuid.UUID, passkey_id: uuid.UUID) -> None:
        """Deletes a passkey. The password signs in as before.

        Raises:
            NotFound: PASSKEY_NOT_FOUND.
        """
        async with self._work.begin() as tx:
            account = await self._account(tx, user_id)
            if await self._passkeys.delete(tx, user_id, passkey_id) is None:
                raise _not_found()
            tx.record(events.passkey_removed(account))
            tx.message(email=account.email, kind="passkey_removed")

    async def _account(self, tx: UnitOfWork, user_id: uuid.UUID) -> Account:
        account = await self._accounts.by_id(tx, user_id)
        if account is None:
            raise NotFound(Reason.USER_NOT_FOUND, "the account was deleted")
        return account


def offered(party: RelyingParty | None) -> RelyingParty:
    """The relying party.

    Raises:
        Unimplemented: NOT_IMPLEMENTED, there is none.
    """
    if party is None:
        raise Unimplemented(Reason.NOT_IMPLEMENTED, "this deployment offers no passkeys: PASSKEY_RP_ID is not set")
    return party


def ceremony_void() -> InvalidArgument:
    """The refusal of a ceremony that has expired, was finished, or is someone else's: CODE_INVALID."""
    violation = FieldViolation("ceremony", "has expired or was used before: begin again")
    return InvalidArgument(Reason.CODE_INVALID, f"ceremony {violation.description}", violations=(violation,))


def _demand_room(known: Sequence[Passkey]) -> None:
    if len(known) >= MOST:
        raise quota_exceeded(f"you have {MOST} passkeys, and more are not possible: delete one first")


def _not_found() -> NotFound:
    return NotFound(Reason.PASSKEY_NOT_FOUND, "the passkey does not exist")


async def note_use(
    tx: UnitOfWork, account: Account, passkey: Passkey, data: AuthenticatorData, now: datetime
) -> Sequence[str]:
    """Writes that a passkey was used.

    Args:
        tx: The transaction, in which the passkey is locked.
        account: Whose it is.
        passkey: As it was.
        data: What the authenticator says, verified.
        now: The time.

    Returns:
        What the use shows, as `amr` (RFC 8176): a key in hardware, or one that may be elsewhere, and the person's
        presence.
    """
    known = passkey.credential
    # WebAuthn level 3, section 6.1.1. Authenticators that don't count stay at 0.
    if (known.sign_count > 0 or data.counter > 0) and data.counter <= known.sign_count:
        # A copy of the key may be about; or an authenticator counts badly. Not a refusal: the person would be locked
        # out by the copy.
        tx.record(events.passkey_count_regressed(account, known.sign_count, data.counter))
    await Passkeys().note_use(tx, passkey, sign_count=data.counter, backed_up=data.is_backed_up(), now=now)
    return ("swk" if known.backup_eligible else "hwk", "user")
