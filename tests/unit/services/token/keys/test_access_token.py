"""What access tokens say."""

import base64
import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.token.keys.access_token import AccessGrant, AccessTokenWriter, ClientGrant
from tests.kit.signing import OneKey

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
GRANT = AccessGrant(
    subject=uuid.uuid4(), session_id=uuid.uuid4(), client_id="demo", scopes=frozenset({"user:read", "resource:read"}),
    roles=frozenset({"admin"}),
    token_id=uuid.uuid4(), issue_time=NOW, expire_time=NOW + timedelta(minutes=10), auth_time=NOW, amr=("pwd",),
    refresh_expire_time=NOW,
)  # fmt: skip
CLIENT_GRANT = ClientGrant("backend", frozenset({"token:introspect"}), uuid.uuid4(), NOW, NOW + timedelta(minutes=10))


@pytest.fixture
def writer() -> AccessTokenWriter:
    return AccessTokenWriter(OneKey(), "https://issuer.test", "authmesh")


def payload(token: str) -> dict[str, Any]:
    segment = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    return claims


async def test_a_token_has_the_scopes_and_roles_of_its_grant(writer: AccessTokenWriter) -> None:
    claims = payload(await writer.write(GRANT))
    assert (claims["scope"], claims["roles"]) == ("resource:read user:read", ["admin"])


async def test_without_roles_or_scopes_there_is_no_such_claim(writer: AccessTokenWriter) -> None:
    # Authlib's validator of RFC 9068 tokens refuses an empty one of either.
    assert "roles" not in payload(await writer.write(replace(GRANT, roles=frozenset())))
    assert "scope" not in payload(await writer.write(replace(GRANT, scopes=frozenset())))
    own = payload(await writer.write_client(CLIENT_GRANT))
    assert own["scope"] == "token:introspect"
    assert "roles" not in own
    assert "scope" not in payload(await writer.write_client(replace(CLIENT_GRANT, scopes=frozenset())))
