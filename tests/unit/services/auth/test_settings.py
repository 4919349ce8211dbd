"""What Auth refuses at its start."""

import pytest
from pydantic import ValidationError

from services.auth.settings import AuthSettings

NEEDED = {
    "node": "auth",
    "socket": "/run/auth.sock",
    "egress": "/run/egress.sock",
    "aws_region": "eu-central-1",
    "database_url": "postgresql:///auth",
    "redis_url": "redis://localhost",
    "issuer": "https://auth.example.com",
    "audience": "authmesh",
    "event_bus": "bus",
    "messages_topic_arn": "arn:aws:sns:eu-central-1:123456789012:messages",
}


def settings(rp_id: str, origins: str = "") -> AuthSettings:
    return AuthSettings(**NEEDED, passkey_rp_id=rp_id, passkey_origins=origins)  # type: ignore[arg-type]


@pytest.mark.parametrize(("rp_id", "origins", "allowed"), [
    ("", "", ()),
    ("example.com", "", ("https://example.com",)),
    ("example.com", "https://app.example.com, https://example.com:8443",
     ("https://app.example.com", "https://example.com:8443")),
    ("localhost", "http://localhost:5173", ("http://localhost:5173",)),
    ("example.com", "https://example.com,android:apk-key-hash:q0",
     ("https://example.com", "android:apk-key-hash:q0")),
])  # fmt: skip
def test_origins_of_the_domain_may_use_passkeys(rp_id: str, origins: str, allowed: tuple[str, ...]) -> None:
    assert settings(rp_id, origins).origins_of_passkeys == allowed


@pytest.mark.parametrize(("rp_id", "origins"), [
    ("example.com", "https://example.org"), ("example.com", "https://evilexample.com"),
    ("example.com", "http://example.com"), ("example.com", "https://example.com/"), ("example.com", "example.com"),
    ("example.com", "https://a@example.com"), ("", "https://example.com"), ("https://example.com", ""),
    ("Example.com", ""), ("example..com", ""),
])  # fmt: skip
def test_what_is_not_an_origin_of_the_domain_is_refused(rp_id: str, origins: str) -> None:
    with pytest.raises(ValidationError, match=r"(?i)passkey_"):
        settings(rp_id, origins)
