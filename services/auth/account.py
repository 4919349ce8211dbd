"""What Auth knows of people: accounts, and sign-ups that may become one."""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

SIGN_UP_LIFETIME = timedelta(hours=24)
"""How long a sign-up may wait for its code to be used, and how long its `request_id` is remembered."""


@dataclass(frozen=True, slots=True)
class Account:
    """Someone whose address is verified."""

    user_id: uuid.UUID
    email: str
    password_hash: str
    disabled: bool
    second_factor: bool
    """Whether a second factor is demanded."""


@dataclass(frozen=True, slots=True)
class SignUp:
    """Someone's wish for an account at an address. Its password counts only if the address is proven for it."""

    user_id: uuid.UUID
    """The id that the user will have."""
    request_id: uuid.UUID | None
    email: str
    display_name: str
    password_hash: str
    """With the salt of the address (`Hasher.hash_sign_up_password`)."""
    code_attempts: int
    """Wrong codes that came with its password since its last code was sent."""
    create_time: datetime


@dataclass(frozen=True, slots=True)
class SentCode:
    """A one-time code that was sent to an address."""

    email: str
    digest: bytes
    """Argon2id of its first eight digits."""
    rest: str
    """Its other digits, if there are any."""
    user_id: uuid.UUID
    """The sign-up that it was sent for."""
    expire_time: datetime
