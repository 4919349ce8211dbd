"""Opaque page tokens: where a list goes on, valid for that list only.

They are bound to the list, not signed: a client that makes one up chooses where its own list begins, no more.
"""

import base64
import binascii
import hashlib

from mesh.errors import field_invalid

_TAG_BYTES = 8


def encode(list_name: str, key: str) -> str:
    """A token for the place behind `key`.

    Args:
        list_name: Which list, of whom, under which filters: a token is refused by every other one.
            `resources/{caller}`.
        key: The sort key of the last item that was given out.
    """
    return base64.urlsafe_b64encode(_tag(list_name) + key.encode()).rstrip(b"=").decode()


def decode(list_name: str, token: str, *, field: str = "page_token") -> str:
    """The key that `encode` was given. What it says is still to be checked: a client can make tokens.

    Raises:
        InvalidArgument: FIELD_INVALID `field`: not one of ours, or one of another list.
    """
    try:
        content = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        key = content[_TAG_BYTES:].decode()
    except (binascii.Error, ValueError):
        content, key = b"", ""
    if content[:_TAG_BYTES] != _tag(list_name):
        raise field_invalid(field, "is not a token of this list")
    return key


def _tag(list_name: str) -> bytes:
    return hashlib.sha256(list_name.encode()).digest()[:_TAG_BYTES]
