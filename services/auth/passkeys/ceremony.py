"""What must be known from the first call of a ceremony to the second, carried by the client.

Anyone may begin to sign in: a row for each would be theirs to pile up. So the client keeps it, with our signature (an
HMAC), and only a ceremony that was finished is written down, so that it is finished once.
"""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from authmesh.token.v1 import token_set_pb2

LIFETIME = timedelta(minutes=5)
_TAG_BYTES = 32


@dataclass(frozen=True, slots=True)
class Ceremony:
    """A ceremony that was begun."""

    expire_time: datetime
    challenge: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    session: str = ""
    """Of the person who registers, by its resource name. Empty at a sign-in."""
    user_handle: bytes = b""
    """Of the person who registers."""
    client_id: str = ""
    """Which client signs in."""
    device: token_set_pb2.Device = field(default_factory=token_set_pb2.Device)
    scopes: Sequence[str] = ()

    def seal(self, key: bytes) -> str:
        """The ceremony as a client carries it."""
        content = json.dumps(
            {
                "session": self.session,
                "handle": base64.b64encode(self.user_handle).decode(),
                "expires": int(self.expire_time.timestamp()),
                "challenge": base64.b64encode(self.challenge).decode(),
                "client": self.client_id,
                "device": base64.b64encode(self.device.SerializeToString()).decode(),
                "scopes": list(self.scopes),
            },
            separators=(",", ":"),
        ).encode()
        return base64.urlsafe_b64encode(_tag(key, content) + content).rstrip(b"=").decode()

    @classmethod
    def open(cls, key: bytes, text: str, now: datetime) -> "Ceremony | None":
        """The ceremony that a client carries. None where it is not ours, or has expired."""
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        tag, content = raw[:_TAG_BYTES], raw[_TAG_BYTES:]
        if not hmac.compare_digest(tag, _tag(key, content)):
            return None
        # Ours from here on.
        found = json.loads(content)
        expire_time = datetime.fromtimestamp(found["expires"], UTC)
        if expire_time <= now:
            return None
        return cls(
            expire_time=expire_time,
            session=found["session"],
            user_handle=base64.b64decode(found["handle"]),
            challenge=base64.b64decode(found["challenge"]),
            client_id=found["client"],
            device=token_set_pb2.Device.FromString(base64.b64decode(found["device"])),
            scopes=found["scopes"],
        )

    @property
    def digest(self) -> bytes:
        """What is remembered of one that was finished."""
        return hashlib.sha256(self.challenge).digest()


def _tag(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, content, "sha256")
