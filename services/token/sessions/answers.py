"""Domain values as messages of the contract."""

import uuid
from datetime import datetime, timedelta

from authmesh.token.v1 import token_service_pb2, token_set_pb2

from mesh.resources.name import SESSION
from services.token.keys.access_token import ClientGrant
from services.token.sessions.sign_in import Issued
from services.token.sessions.store import Session


def token_set(issued: Issued, now: datetime) -> token_set_pb2.TokenSet:
    """What a client holds."""
    grant = issued.grant
    answer = token_set_pb2.TokenSet(
        access_token=issued.access_token,
        token_type="Bearer",
        refresh_token=issued.refresh_token,
        session=SESSION.of(grant.subject, grant.session_id),
        scopes=sorted(grant.scopes),
    )
    _set_expiry(answer, grant.expire_time, now)
    answer.refresh_expire_time.FromDatetime(grant.refresh_expire_time)
    return answer


def client_token_set(access_token: str, grant: ClientGrant, now: datetime) -> token_set_pb2.TokenSet:
    """What a client holds for itself: no session, and nothing to refresh."""
    answer = token_set_pb2.TokenSet(access_token=access_token, token_type="Bearer", scopes=sorted(grant.scopes))
    _set_expiry(answer, grant.expire_time, now)
    return answer


def _set_expiry(answer: token_set_pb2.TokenSet, expire_time: datetime, now: datetime) -> None:
    answer.expire_time.FromDatetime(expire_time)
    # An answer that is given again, for a lost one, has less left.
    answer.expires_in.FromTimedelta(max(expire_time - now, timedelta(0)))


def session_message(session: Session, current: uuid.UUID | None) -> token_service_pb2.Session:
    """A session as its owner sees it. `current` is the caller's own."""
    answer = token_service_pb2.Session(
        name=SESSION.of(session.subject, session.id),
        client_id=session.client_id,
        device=token_set_pb2.Device(
            instance_id=str(session.instance_id or ""), display_name=session.display_name, platform=session.platform
        ),
        address=session.address,
        user_agent=session.user_agent,
        scopes=sorted(session.scopes),
        current=session.id == current,
    )
    answer.create_time.FromDatetime(session.create_time)
    answer.last_used_time.FromDatetime(session.last_used_time)
    answer.expire_time.FromDatetime(session.expire_time)
    return answer
