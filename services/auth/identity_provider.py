"""Who keeps passwords and proves addresses: this deployment itself, or a user pool of Cognito.

The rest of Auth knows people by their accounts and doesn't know which of the two it is. What both have in common is
beside this port: throttling, second factors, passkeys, sessions, notices and the audit trail.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.auth.account import Account
from services.auth.hasher import Hasher
from services.auth.passwords import Passwords
from services.auth.sign_up import Application, Registration


@dataclass(frozen=True, slots=True)
class Demand:
    """What the provider itself asks for behind a right password, before it says who someone is."""

    methods: Sequence[str]
    """Ways to answer, as MfaChallenge has them."""
    state: bytes
    """The provider's, to go on with."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of a password."""

    account: Account | None
    """Whose it is, where it is right; else the account of the address, if there is one."""
    right: bool
    sign_up_hash: str = ""
    """Its hash with the salt of the address, to look for a sign-up by; empty where that is not needed."""
    new_hash: str | None = None
    """In place of the account's, which was made with other parameters than today's."""
    demand: Demand | None = None
    """Something is asked for first: `right` says nothing then."""


@dataclass(frozen=True, slots=True)
class DemandAnswer:
    """How someone answers a demand of the provider. One of them is given."""

    totp: str = ""
    new_password: str = ""


class IdentityProvider(Protocol):
    """The port. Each method raises what the contract has for its RPC, and `Unavailable` when the provider is."""

    async def sign_up(self, application: Application, address: str) -> None:
        """Takes a sign-up, and has a code sent."""

    async def resend_code(self, email: str, address: str) -> None:
        """Has another code sent."""

    async def verify_email(self, email: str, code: str, address: str, password: str = "") -> None:
        """Proves an address by its code."""

    async def request_reset(self, email: str, address: str) -> None:
        """Has a code for a new password sent."""

    async def reset(self, email: str, code: str, password: str, address: str) -> None:
        """Sets a new password with a code, and ends every session."""

    async def change(
        self, user_id: uuid.UUID, current: str, password: str, *, session: uuid.UUID, client_id: str, address: str
    ) -> None:
        """Sets a new password with the one until now, and ends every other session."""

    async def judge(self, email: str, account: Account | None, password: str, salt: bytes) -> Judgement:
        """Judges the password of a sign-in.

        Args:
            email: As `normalise` makes it.
            account: The account of the address, if there is one.
            password: As typed.
            salt: Of the address.
        """

    async def satisfy(self, email: str, state: bytes, answer: DemandAnswer) -> tuple[Account, Sequence[str]] | None:
        """Answers what the provider asked for.

        Returns who it is, and how they have shown it (RFC 8176); None where the answer is wrong.
        """

    async def is_password(self, account: Account, password: str) -> bool:
        """Whether it is the password of someone who is known already."""

    async def delete(self, user_id: uuid.UUID) -> None:
        """Has the provider forget someone. May be repeated."""


class LocalIdentityProvider:
    """This deployment: Argon2 hashes in Auth's database, and codes of its own."""

    def __init__(self, registration: Registration, passwords: Passwords, hasher: Hasher) -> None:
        self.sign_up = registration.sign_up
        self.resend_code = registration.resend_code
        self.verify_email = registration.verify_email
        self.request_reset = passwords.request_reset
        self.reset = passwords.reset
        self.change = passwords.change
        self._hasher = hasher

    async def judge(self, email: str, account: Account | None, password: str, salt: bytes) -> Judgement:
        """See `IdentityProvider.judge`: the same work, whatever there is to compare with."""
        stored, refused = (account.password_hash, account.disabled) if account else (None, True)
        check = await self._hasher.check_password(stored, password, salt, refused=refused)
        outdated = account and check.right and not refused and self._hasher.is_outdated(account.password_hash)
        new_hash = await self._hasher.hash_password(password) if outdated else None
        return Judgement(account, check.right, check.sign_up_hash, new_hash)

    async def satisfy(self, email: str, state: bytes, answer: DemandAnswer) -> tuple[Account, Sequence[str]] | None:
        """There is never anything to answer."""
        return None

    async def is_password(self, account: Account, password: str) -> bool:
        """See `IdentityProvider.is_password`."""
        return await self._hasher.is_right(account.password_hash, password)

    async def delete(self, user_id: uuid.UUID) -> None:
        """The account is all that there is."""
