"""Setting up a second factor, and removing it. At sign-in `sign_in` asks for it."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import BytesIO

from authmesh.token.v1 import token_issuer_pb2

from mesh.errors import FailedPrecondition, FieldViolation, InvalidArgument, NotFound, Reason, Unimplemented
from mesh.outbox.work import UnitOfWork, Work
from services.auth import events, throttle, totp
from services.auth.account import Account
from services.auth.second_factors import SecondFactors
from services.auth.secret_box import SecretBox
from services.auth.store import Accounts, Buckets
from services.auth.throttle import Throttle

REVOKE_SUBJECT = "/authmesh.token.v1.TokenIssuer/RevokeSubject"


@dataclass(frozen=True, slots=True)
class Enrollment:
    """What an authenticator app is set up with. Shown once."""

    uri: str
    qr_svg: str


class Mfa:
    """The second factors of people who are signed in."""

    def __init__(self, work: Work, factors: SecondFactors, throttle: Throttle, *, issuer_name: str) -> None:
        """Initializes the instance.

        Args:
            work: Of Auth.
            factors: Where they are kept.
            throttle: Limits wrong codes.
            issuer_name: Whose account it is, as an authenticator app shows it.
        """
        self._work = work
        self._factors = factors
        self._throttle = throttle
        self._issuer_name = issuer_name
        self._accounts = Accounts()
        self._buckets = Buckets()

    async def enroll(self, user_id: uuid.UUID) -> Enrollment:
        """Begins to set up an app. It is not demanded before `confirm`; another call begins anew.

        Raises:
            FailedPrecondition: MFA_ENABLED, an app is demanded already.
            NotFound: USER_NOT_FOUND, the account was deleted.
            Unimplemented: NOT_IMPLEMENTED, this deployment offers no apps.
        """
        box = self._box()
        async with self._work.begin() as tx:
            account = await self._account(tx, user_id)
            secret = await self._factors.enroll(tx, user_id, box)
            if secret is None:
                raise FailedPrecondition(
                    Reason.MFA_ENABLED, "an authenticator app is set up: turn it off first (DisableTotp)"
                )
            tx.record(events.mfa_enrolled(account))
        uri = totp.provisioning_uri(secret, issuer=self._issuer_name, account=account.email)
        return Enrollment(uri, _qr(uri))

    async def confirm(self, user_id: uuid.UUID, session: uuid.UUID, typed: str) -> Sequence[str]:
        """Shows that the app works, and has it demanded from now on. Sessions that began without it end.

        Args:
            user_id: Whose.
            session: The caller's, which goes on.
            typed: A code of the app.

        Returns:
            Recovery codes, which can't be shown again.

        Raises:
            FailedPrecondition: MFA_NOT_ENROLLED, no app is being set up.
            InvalidArgument: CODE_INVALID.
            ResourceExhausted: RATE_LIMITED (too many wrong codes).
        """
        async with self._work.begin() as tx:
            account = await self._account(tx, user_id)
            await self.prove(tx, account, typed, enabled=False)
            await self._factors.enable(tx, user_id, self._work.now())
            codes = await self._factors.replace_recovery_codes(tx, user_id)
            tx.record(events.mfa_enabled(account))
            tx.message(email=account.email, kind="mfa_enabled")
            tx.command(
                REVOKE_SUBJECT,
                token_issuer_pb2.RevokeSubjectRequest(
                    subject=str(user_id), request_id=str(uuid.uuid4()), keep_session=str(session)
                ),
            )
        return codes

    async def disable(self, user_id: uuid.UUID, typed: str) -> None:
        """Demands the app no more, and voids the recovery codes.

        Raises:
            FailedPrecondition: MFA_NOT_ENROLLED.
            InvalidArgument: CODE_INVALID.
            ResourceExhausted: RATE_LIMITED (too many wrong codes).
        """
        async with self._work.begin() as tx:
            account = await self._account(tx, user_id)
            await self.prove(tx, account, typed, enabled=True)
            await self._remove(tx, account, self._work.now())

    async def regenerate_recovery_codes(self, user_id: uuid.UUID) -> Sequence[str]:
        """New recovery codes in place of the earlier ones.

        Raises:
            FailedPrecondition: MFA_NOT_ENROLLED.
        """
        async with self._work.begin() as tx:
            account = await self._account(tx, user_id)
            if not account.second_factor:
                raise _not_enrolled()
            codes = await self._factors.replace_recovery_codes(tx, user_id)
            tx.record(events.recovery_codes_replaced(account))
            tx.message(email=account.email, kind="recovery_codes_replaced")
        return codes

    async def reset(self, user_id: uuid.UUID, before: datetime) -> None:
        """Removes a person's second factor without one: on the word of an operator.

        Args:
            user_id: Whose.
            before: One that was set up later stays: a command that comes late, or twice, is not about it.
        """
        async with self._work.begin() as tx:
            account = await self._accounts.by_id(tx, user_id)
            if account:
                await self._remove(tx, account, before)

    async def _remove(self, tx: UnitOfWork, account: Account, before: datetime) -> None:
        if await self._factors.remove(tx, account.user_id, before):
            tx.record(events.mfa_disabled(account))
            tx.message(email=account.email, kind="mfa_disabled")

    async def prove(self, tx: UnitOfWork, account: Account, typed: str, *, enabled: bool) -> None:
        """Takes a code of the app in a transaction, and uses it up; refuses it where it is wrong.

        Args:
            tx: The transaction.
            account: Whose app.
            typed: The code.
            enabled: Whether the app is demanded already, or still being set up.

        Raises:
            FailedPrecondition: MFA_NOT_ENROLLED.
            InvalidArgument: CODE_INVALID.
            ResourceExhausted: RATE_LIMITED.
        """
        box, now, limits = self._box(), self._work.now(), self._throttle.mfa(account.user_id)
        taken = await self._buckets.take(tx, limits, now)
        if isinstance(taken, timedelta):
            tx.refuse(throttle.refusal(taken))
        right = await self._factors.check_totp(tx, account.user_id, typed, now, box, enabled=enabled)
        if right is None:
            raise _not_enrolled()
        if not right:
            tx.record(events.mfa_failed(account))
            tx.refuse(code_invalid("totp"))
        await self._buckets.give_back(tx, limits)

    async def _account(self, tx: UnitOfWork, user_id: uuid.UUID) -> Account:
        account = await self._accounts.by_id(tx, user_id)
        if account is None:
            raise NotFound(Reason.USER_NOT_FOUND, "the account was deleted")
        return account

    def _box(self) -> SecretBox:
        if self._factors.box is None:
            raise Unimplemented(
                Reason.NOT_IMPLEMENTED, "this deployment offers no authenticator apps: MFA_SECRETS is not set"
            )
        return self._factors.box


def code_invalid(field: str) -> InvalidArgument:
    """The answer to a second factor that is wrong, or was used before.

    Args:
        field: Of the request.
    """
    message = "the code is wrong, has expired or was used before: send the next one"
    return InvalidArgument(Reason.CODE_INVALID, message, violations=(FieldViolation(field, message),))


def challenge_void() -> InvalidArgument:
    """The answer to a challenge that is unknown, expired, answered, or was answered wrongly too often."""
    message = "the challenge is void: sign in again"
    return InvalidArgument(Reason.CODE_INVALID, message, violations=(FieldViolation("challenge", message),))


def _not_enrolled() -> FailedPrecondition:
    return FailedPrecondition(Reason.MFA_NOT_ENROLLED, "set up an authenticator app first (EnrollTotp)")


def _qr(uri: str) -> str:
    # Some milliseconds to import, for those who set up an app.
    import segno

    image = BytesIO()
    segno.make(uri, micro=False).save(image, kind="svg", scale=4, xmldecl=False)
    return image.getvalue().decode()
