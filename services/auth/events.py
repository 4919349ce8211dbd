"""The audit events of Auth. The unit of work adds who called, from where, and when."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from authmesh.audit.v1.audit_event_pb2 import OUTCOME_FAILURE, AuditEvent

from mesh.errors import Reason
from mesh.resources.name import CLIENT, SESSION, USER
from services.auth.account import Account, SignUp


def signed_up(sign_up: SignUp) -> AuditEvent:
    """A sign-up was taken, and its code is sent."""
    return AuditEvent(type="auth.signed_up", subject=USER.of(sign_up.user_id), email=sign_up.email)


def signed_up_again(account: Account) -> AuditEvent:
    """A sign-up was taken for an address that has an account."""
    return _failure("auth.signed_up", "ALREADY_EXISTS", account.user_id, email=account.email)


def code_issued(sign_up: SignUp) -> AuditEvent:
    """A one-time code is sent."""
    return AuditEvent(type="auth.code_issued", subject=USER.of(sign_up.user_id), detail={"kind": "verify_email"})


def code_refused(sign_up: SignUp) -> AuditEvent:
    """A wrong or expired code was sent for a sign-up."""
    return _failure("auth.code_refused", Reason.CODE_INVALID, sign_up.user_id)


def email_verified(sign_up: SignUp) -> AuditEvent:
    """The address of a sign-up is proven: it is an account now."""
    user = USER.of(sign_up.user_id)
    return AuditEvent(type="auth.email_verified", actor=user, subject=user, email=sign_up.email)


def reset_code_issued(account: Account) -> AuditEvent:
    """A code for a new password is sent."""
    return AuditEvent(type="auth.code_issued", subject=USER.of(account.user_id), detail={"kind": "reset_password"})


def reset_code_refused(account: Account) -> AuditEvent:
    """A wrong or expired code for a new password was sent, while the account awaits one."""
    return _failure("auth.code_refused", Reason.CODE_INVALID, account.user_id)


def password_reset(account: Account) -> AuditEvent:
    """The password was replaced with a code."""
    user = USER.of(account.user_id)
    return AuditEvent(type="auth.password_reset", actor=user, subject=user, email=account.email)


def password_changed(account: Account) -> AuditEvent:
    """The password was replaced with the old one."""
    return AuditEvent(type="auth.password_changed", subject=USER.of(account.user_id), email=account.email)


def password_refused(account: Account, client_id: str) -> AuditEvent:
    """A wrong password was given for the old one."""
    return sign_in_failed(
        Reason.CREDENTIALS_INVALID, account.user_id, account.email, client_id, password_is_right=False
    )


def mfa_challenged(account: Account, client_id: str) -> AuditEvent:
    """The password was right; a second factor is asked for."""
    return AuditEvent(
        type="auth.mfa_challenged",
        subject=USER.of(account.user_id),
        email=account.email,
        client=CLIENT.of(client_id),
    )


def mfa_enrolled(account: Account) -> AuditEvent:
    """An authenticator app is being set up."""
    return AuditEvent(type="auth.mfa_enrolled", subject=USER.of(account.user_id))


def mfa_enabled(account: Account) -> AuditEvent:
    """The authenticator app is demanded from now on."""
    return AuditEvent(type="auth.mfa_enabled", subject=USER.of(account.user_id))


def mfa_disabled(account: Account) -> AuditEvent:
    """The authenticator app is demanded no more."""
    return AuditEvent(type="auth.mfa_disabled", subject=USER.of(account.user_id))


def mfa_failed(account: Account, client_id: str = "") -> AuditEvent:
    """A second factor was wrong."""
    client = CLIENT.of(client_id) if client_id else ""
    return _failure("auth.mfa_failed", Reason.CODE_INVALID, account.user_id, client=client)


def recovery_codes_replaced(account: Account) -> AuditEvent:
    """New recovery codes were made."""
    return AuditEvent(type="auth.recovery_codes_replaced", subject=USER.of(account.user_id))


def recovery_code_used(account: Account) -> AuditEvent:
    """A recovery code stood in for the authenticator app."""
    user = USER.of(account.user_id)
    return AuditEvent(type="auth.recovery_code_used", actor=user, subject=user)


def signed_in(account: Account, client_id: str, session: str, amr: Sequence[str]) -> AuditEvent:
    """A session was started.

    Args:
        account: Whose.
        client_id: With which client.
        session: Its name.
        amr: How the person proved who they are (RFC 8176).
    """
    user = USER.of(account.user_id)
    return AuditEvent(
        type="auth.signed_in",
        actor=user,
        subject=user,
        session=session,
        client=CLIENT.of(client_id),
        detail={"amr": " ".join(amr)},
    )


def reauthenticated(account: Account, session: UUID, client_id: str, amr: Sequence[str]) -> AuditEvent:
    """The person of a session showed again who they are."""
    user = USER.of(account.user_id)
    return AuditEvent(
        type="auth.reauthenticated",
        actor=user,
        subject=user,
        session=SESSION.of(account.user_id, session),
        client=CLIENT.of(client_id),
        detail={"amr": " ".join(amr)},
    )


def passkey_added(account: Account) -> AuditEvent:
    """A passkey was registered."""
    return AuditEvent(type="auth.passkey_added", subject=USER.of(account.user_id))


def passkey_removed(account: Account) -> AuditEvent:
    """A passkey was deleted."""
    return AuditEvent(type="auth.passkey_removed", subject=USER.of(account.user_id))


def passkey_renamed(user_id: UUID) -> AuditEvent:
    """A passkey was given another name."""
    return AuditEvent(type="auth.passkey_renamed", subject=USER.of(user_id))


def passkey_refused(account: Account, client_id: str) -> AuditEvent:
    """A passkey of an account did not sign in."""
    return _failure("auth.passkey_refused", Reason.CREDENTIALS_INVALID, account.user_id, client=CLIENT.of(client_id))


def passkey_count_regressed(account: Account, before: int, count: int) -> AuditEvent:
    """An authenticator counted fewer uses than before."""
    return AuditEvent(
        type="auth.passkey_count_regressed",
        subject=USER.of(account.user_id),
        detail={"count": str(count), "count_before": str(before)},
    )


def identity_linked(account: Account) -> AuditEvent:
    """An identity of another provider was linked."""
    return AuditEvent(type="auth.identity_linked", subject=USER.of(account.user_id))


def identity_unlinked(account: Account) -> AuditEvent:
    """An identity of another provider was unlinked."""
    return AuditEvent(type="auth.identity_unlinked", subject=USER.of(account.user_id))


def sign_in_failed(reason: Reason, user_id: UUID, email: str, client_id: str, *, password_is_right: bool) -> AuditEvent:
    """A password came to nothing."""
    password = "right" if password_is_right else "wrong"
    return _failure("auth.sign_in_failed", reason, user_id, email=email, client=CLIENT.of(client_id), password=password)


def sign_in_throttled(account: Account, client_id: str) -> AuditEvent:
    """Wrong passwords have used up a limit: further attempts have to wait."""
    return _failure(
        "auth.sign_in_throttled",
        Reason.RATE_LIMITED,
        account.user_id,
        email=account.email,
        client=CLIENT.of(client_id),
    )


def status_changed(user_id: UUID, *, disabled: bool, version: int) -> AuditEvent:
    """User forbade or allowed sign-in."""
    return AuditEvent(
        type="auth.status_changed",
        subject=USER.of(user_id),
        detail={"disabled": str(disabled).lower(), "version": str(version)},
    )


def credentials_deleted(user_id: UUID) -> AuditEvent:
    """Everything that Auth knew of a user was erased."""
    return AuditEvent(type="auth.credentials_deleted", subject=USER.of(user_id))


def anonymous_denials(reason: str, network: str, minute: datetime, count: int) -> AuditEvent:
    """How often anonymous callers from a network were refused within a minute."""
    return AuditEvent(
        type="auth.anonymous_denials",
        outcome=OUTCOME_FAILURE,
        reason=reason,
        address=network,
        detail={"count": str(count), "minute": minute.isoformat()},
    )


def _failure(
    event_type: str, reason: str, user_id: UUID, *, email: str = "", client: str = "", **detail: str
) -> AuditEvent:
    return AuditEvent(
        type=event_type,
        outcome=OUTCOME_FAILURE,
        reason=reason,
        subject=USER.of(user_id),
        email=email,
        client=client,
        detail=detail,
    )
