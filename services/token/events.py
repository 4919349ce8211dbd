"""The audit events of Token. The unit of work adds who called, from where, and when."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from authmesh.audit.v1.audit_event_pb2 import OUTCOME_FAILURE, AuditEvent

from mesh.errors import Reason
from mesh.resources.name import CLIENT, SESSION, USER
from services.token.clients.client import CONTRACT_NAMES, Client
from services.token.clients.keys import client_keys
from services.token.keys.key import KEY, SigningKey
from services.token.keys.signer import public_jwk, thumbprint
from services.token.sessions.lineage import RefreshOutcome
from services.token.sessions.store import Session, StoredRefreshToken

NODE = "nodes/token"
"""The actor of what Token does by itself."""


def issued(session: Session) -> AuditEvent:
    """A session was started, with its first tokens."""
    return AuditEvent(
        type="token.issued",
        actor=USER.of(session.subject),
        subject=USER.of(session.subject),
        session=SESSION.of(session.subject, session.id),
        client=CLIENT.of(session.client_id),
        address=session.address,
        user_agent=session.user_agent,
        detail={"scopes": _words(session.scopes), "amr": " ".join(session.amr)},
    )


def issued_to_client(client_id: str, scopes: Iterable[str], assertion: str) -> AuditEvent:
    """A client got a token of its own. `assertion` is the `jti` of the assertion that it spent."""
    client = CLIENT.of(client_id)
    return AuditEvent(
        type="token.issued", actor=client, client=client, detail={"scopes": _words(scopes), "assertion": assertion}
    )


def client_refused(client_id: str, cause: str, assertion: str) -> AuditEvent:
    """An assertion that a client did sign was refused."""
    return AuditEvent(
        type="token.client_refused",
        reason=Reason.CREDENTIALS_INVALID,
        client=CLIENT.of(client_id),
        detail={"cause": cause, "assertion": assertion},
    )


def refreshed(client_id: str) -> AuditEvent:
    """A refresh token was spent. The statement that spends it adds actor, subject and session."""
    return AuditEvent(type="token.refreshed", client=CLIENT.of(client_id))


def grace_replay(found: StoredRefreshToken) -> AuditEvent:
    """A spent refresh token came again within its grace, and was answered as before."""
    return _of_token("token.grace_replay", found)


def refresh_refused(found: StoredRefreshToken, outcome: RefreshOutcome, reason: Reason) -> AuditEvent:
    """A refresh token that is good was not taken."""
    event = _of_token("token.refresh_refused", found)
    event.reason = reason
    event.detail["verdict"] = outcome.name.lower()
    return event


def reuse_detected(found: StoredRefreshToken) -> AuditEvent:
    """A spent refresh token came again when only a thief, or someone robbed, would send it.

    To be written of each session that ends because of it (`of_session`).
    """
    return AuditEvent(
        type="token.reuse_detected",
        outcome=OUTCOME_FAILURE,
        reason=Reason.REFRESH_REUSED,
        client=CLIENT.of(found.own.client_id),
    )


def revoked(cause: str, client_id: str = "") -> AuditEvent:
    """A session, or one token, was revoked. To be completed by `of_session` where it has one."""
    return AuditEvent(type="token.revoked", client=CLIENT.of(client_id) if client_id else "", detail={"cause": cause})


def of_session(event: AuditEvent, subject: UUID, session: UUID) -> AuditEvent:
    """A copy of an event, about a session of a person."""
    copy = AuditEvent(subject=USER.of(subject), session=SESSION.of(subject, session))
    copy.MergeFrom(event)
    return copy


def grants_changed(subject: UUID, roles: Iterable[str], *, disabled: bool, version: int) -> AuditEvent:
    """User changed a person's roles or status."""
    return AuditEvent(
        type="token.grants_changed",
        subject=USER.of(subject),
        detail={"roles": _words(roles), "disabled": str(disabled).lower(), "version": str(version)},
    )


def subject_revoked(subject: UUID, cause: str, sessions: int) -> AuditEvent:
    """Every session and every token of a person was revoked."""
    return AuditEvent(
        type="token.subject_revoked", subject=USER.of(subject), detail={"cause": cause, "sessions": str(sessions)}
    )


def client_created(client_id: str, client: Client) -> AuditEvent:
    """An administrator made a client."""
    return AuditEvent(type="token.client_created", target=CLIENT.of(client_id), detail=_facts(client))


def client_created_from_file(client_id: str, client: Client) -> AuditEvent:
    """A client of the file was taken over into the database."""
    return AuditEvent(
        type="token.client_created",
        actor="operator",
        client=CLIENT.of(client_id),
        detail=_facts(client) | {"origin": "file"},
    )


def client_updated(
    client_id: str, before: Client, after: Client, *, ended: int | None, tokens_are_revoked: bool
) -> AuditEvent:
    """A client was changed.

    Args:
        client_id: Which one.
        before: As it was.
        after: As it is.
        ended: How many sessions ended with it; None where none had to.
        tokens_are_revoked: Whether its own tokens are refused.
    """
    then, now = _facts(before), _facts(after)
    fields = [name for name in now if then[name] != now[name]]
    detail = {"fields": " ".join(fields)}
    for name in fields:
        detail |= {name: now[name], f"{name}_before": then[name]}
    if ended is not None:
        detail["sessions"] = str(ended)
    if tokens_are_revoked:
        detail["tokens"] = "revoked"
    return AuditEvent(type="token.client_updated", target=CLIENT.of(client_id), detail=detail)


def client_deleted(client_id: str, ended: int) -> AuditEvent:
    """A client was removed. `ended` is how many sessions ended with it."""
    return AuditEvent(type="token.client_deleted", target=CLIENT.of(client_id), detail={"sessions": str(ended)})


def client_denied(client_id: str) -> AuditEvent:
    """An administrator would have given a client more than they have."""
    return AuditEvent(type="access.denied", reason=Reason.SCOPE_MISSING, target=CLIENT.of(client_id))


def key_created(key: SigningKey, *, imported: bool) -> AuditEvent:
    """A key was published that will sign."""
    return _of_key("token.key_created", key, actor=NODE, imported=str(imported).lower())


def key_rotated(key: SigningKey, due: datetime) -> AuditEvent:
    """An administrator ordered that a key take over as soon as that is safe."""
    return _of_key("token.key_rotated", key, due=due.isoformat(timespec="seconds"))


def key_activated(key: SigningKey, cause: str, actor: str = "") -> AuditEvent:
    """A key signs from now on."""
    return _of_key("token.key_activated", key, actor=actor, cause=cause)


def key_retired(key: SigningKey) -> AuditEvent:
    """A key signs no more."""
    return _of_key("token.key_retired", key, actor=NODE)


def key_removed(key: SigningKey) -> AuditEvent:
    """A key was forgotten."""
    return _of_key("token.key_removed", key, actor=NODE)


def reauthenticated(subject: UUID, session: UUID, client_id: str, amr: Iterable[str]) -> AuditEvent:
    """The person of a session showed again who they are."""
    return AuditEvent(
        type="token.reauthenticated",
        subject=USER.of(subject),
        session=SESSION.of(subject, session),
        client=CLIENT.of(client_id),
        detail={"amr": " ".join(amr)},
    )


def key_revoked(key: SigningKey, state: str) -> AuditEvent:
    """Whatever a key has signed is refused. `state` is the one that it was in."""
    return _of_key("token.key_revoked", key, state=state)


def _words(values: Iterable[str]) -> str:
    return " ".join(sorted(values))


def _of_token(event_type: str, found: StoredRefreshToken) -> AuditEvent:
    return AuditEvent(
        type=event_type,
        subject=USER.of(found.subject),
        session=SESSION.of(found.subject, found.session_id),
        client=CLIENT.of(found.own.client_id),
    )


def _of_key(event_type: str, key: SigningKey, actor: str = "", **detail: str) -> AuditEvent:
    return AuditEvent(
        type=event_type,
        target=KEY.of(key.key_id),
        actor=actor,
        detail={"algorithm": key.algorithm, "custody": key.custody} | detail,
    )


def _facts(client: Client) -> dict[str, str]:
    """A client's fields, by their names in the contract.

    None is secret: of keys, each one's `kid` and thumbprint (RFC 7638).
    """
    told: dict[str, str] = {}
    for name in Client.model_fields:
        value = getattr(client, name)
        if name == "jwks":
            keys = client_keys(value).values()
            value = _words(f"{key.key_id}={thumbprint(public_jwk(key.public_key))}" for key in keys)
        elif name in CONTRACT_NAMES:
            value = f"{value}s"
        elif isinstance(value, frozenset):
            value = _words(value)
        told[CONTRACT_NAMES.get(name, name)] = str(value).lower() if isinstance(value, bool) else str(value)
    return told
