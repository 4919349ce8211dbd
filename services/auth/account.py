"""What Auth knows of people: accounts, and sign-ups that may become one."""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

SIGN_UP_LIFETIME = timedelta(hours=24)
"""How long a sign-up may wait for its code to be used, and how long its `request_id` is remembered."""


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody whose address is verified."""

    user_id: uuid.UUID
    email: str
    password_hash: str
    disabled: bool


@dataclass(frozen=True, slots=True)
class SignUp:
    """Somebody's wish for an account at an address. Its password counts only if its own code is used."""

    user_id: uuid.UUID
    """The id that the user will have."""
    request_id: uuid.UUID | None
    email: str
    display_name: str
    password_hash: str
    code_hash: bytes | None
    """Argon2id of the code; None where none was sent, because the address had an account."""
    code_expire_time: datetime
    code_attempts: int
    """Wrong codes tried since this one was sent."""
    create_time: datetime
