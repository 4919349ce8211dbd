"""How often something may be tried: token buckets, so chosen that a stranger can't turn one against a person.

Each bucket is filled again at a steady rate and holds so many tries. An attempt takes one from every bucket that it
counts under, or from none: while one of them is empty it is refused, and a refused attempt costs nothing. Nothing here
depends on whether an address has an account. The table of all limits, with what a refused caller sees, is in
docs/security.md; a test holds it against this module.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from mesh.errors import Reason, ResourceExhausted


@dataclass(frozen=True, slots=True)
class Limit:
    """A token bucket."""

    burst: int
    """Tries that a full bucket holds."""
    interval: timedelta
    """How long one try takes to come back."""

    def widened(self, doublings: int, factor: int = 1) -> "Limit":
        """The bucket of a network that holds others.

        Twice as large for each width, so that no narrower one can use it up.
        """
        scale = 2**doublings * factor
        return Limit(self.burst * scale, self.interval / scale)


Limits = Mapping[bytes, Limit]
"""Buckets that an attempt takes from, by their keys."""

SIGN_IN_BY_INSTALLATION = Limit(20, timedelta(minutes=15))
"""Wrong passwords for one address from an installation that has signed in to it before. It counts under nothing
else."""
SIGN_IN_BY_NETWORK = Limit(20, timedelta(minutes=15))
"""Wrong passwords for one address from one network."""
SIGN_IN_BY_ADDRESS = Limit(100, timedelta(minutes=1))
"""Wrong passwords for one address from anywhere: one network, however wide, empties its own bucket before this one."""
CODE_BY_NETWORK = Limit(10, timedelta(minutes=5))
"""Wrong codes for one address from one network."""
CODE_BY_ADDRESS = Limit(50, timedelta(minutes=5))
"""Wrong codes for one address from anywhere."""
GUESSES_BY_NETWORK = Limit(100, timedelta(seconds=10))
"""Wrong passwords and codes from one network, for whatever addresses."""
RESEND_BY_NETWORK = Limit(5, timedelta(minutes=5))
"""Requests for another code for one address from one network."""
RESET_BY_NETWORK = Limit(5, timedelta(minutes=5))
"""Requests for a reset code for one address from one network."""
RESET_CODE_BY_NETWORK = Limit(10, timedelta(minutes=5))
"""Wrong reset codes for one address from one network. None from anywhere: a code can't be guessed, and strangers would
use it up."""
CHANGE_BY_ACCOUNT = Limit(20, timedelta(minutes=15))
"""Wrong passwords of a person who is signed in and wants a new one."""
MFA_BY_ACCOUNT = Limit(10, timedelta(minutes=10))
"""Wrong codes of an authenticator app, behind a right password. From an installation that has signed in to the account
before they count apart, so that no one else's are in its way. Recovery codes are never limited: they can't be
guessed."""
MAIL_BY_NETWORK = Limit(60, timedelta(minutes=1))
"""Sign-ups and requests for another code from one network, for whatever addresses."""
CODES_BY_MAIL = Limit(10, timedelta(minutes=15))
"""Codes mailed to one address. Beyond it a sign-up is taken and not mailed; the code in the last message is good for
it, so this must be quicker than a code's lifetime."""
REMINDERS_BY_MAIL = Limit(3, timedelta(hours=8))
"""Messages to one address that say that it has an account already."""
NOTICE = Limit(1, timedelta(hours=24))
"""Notices of one kind about the same thing: however often they are caused, one is sent a day."""


def key(name: str, *parts: str) -> bytes:
    """The key of a bucket: a digest, so that the table lists no addresses in the clear."""
    digest = hashlib.sha256()
    for part in (name, *parts):
        digest.update(len(part).to_bytes(4) + part.encode())
    return digest.digest()


@dataclass(frozen=True, slots=True)
class Throttle:
    """Which buckets an attempt takes from."""

    factor: int = field(default=1)
    """Multiplies what one network may do to all addresses together: where everyone comes from one address, as in tests
    of the whole mesh."""

    def sign_in(self, email: str, networks: Iterable[str]) -> dict[bytes, Limit]:
        """Of a password, from an installation that is not known."""
        return {
            key("sign_in", email): SIGN_IN_BY_ADDRESS,
            **_nested("sign_in", SIGN_IN_BY_NETWORK, networks, email),
            **self._guess(networks),
        }

    def known_sign_in(self, email: str, installation: str) -> dict[bytes, Limit]:
        """Of a password, from an installation that is known.

        Counted apart, so that no one else's attempts are in its way.
        """
        return {key("sign_in installation", email, installation): SIGN_IN_BY_INSTALLATION}

    def code(self, email: str, networks: Iterable[str]) -> dict[bytes, Limit]:
        """Of a one-time code."""
        return {
            key("code", email): CODE_BY_ADDRESS,
            **_nested("code", CODE_BY_NETWORK, networks, email),
            **self._guess(networks),
        }

    def sign_up(self, networks: Iterable[str]) -> dict[bytes, Limit]:
        """Of a sign-up. Not by address: a stranger's sign-ups would be in the way of its owner's."""
        return _nested("mail", MAIL_BY_NETWORK, networks, factor=self.factor)

    def resend(self, email: str, networks: Iterable[str]) -> dict[bytes, Limit]:
        """Of a request for another code."""
        return {**_nested("resend", RESEND_BY_NETWORK, networks, email), **self.sign_up(networks)}

    def reset(self, email: str, networks: Iterable[str]) -> dict[bytes, Limit]:
        """Of a request for a reset code."""
        return {**_nested("reset", RESET_BY_NETWORK, networks, email), **self.sign_up(networks)}

    def reset_code(self, email: str, networks: Iterable[str]) -> dict[bytes, Limit]:
        """Of a reset code."""
        return {**_nested("reset code", RESET_CODE_BY_NETWORK, networks, email), **self._guess(networks)}

    def change(self, user_id: UUID) -> dict[bytes, Limit]:
        """Of the old password, by a person who is signed in."""
        return {key("change", str(user_id)): CHANGE_BY_ACCOUNT}

    def presented(self, networks: Iterable[str]) -> dict[bytes, Limit]:
        """Of a passkey or an ID token. A signature can't be guessed: what is limited is what checking it costs."""
        return self._guess(networks)

    def mfa(self, user_id: UUID, known_installation: str = "") -> dict[bytes, Limit]:
        """Of a code of an authenticator app.

        Args:
            user_id: Whose.
            known_installation: The one that it is sent from, where that has signed in before.
        """
        return {key("mfa", str(user_id), known_installation): MFA_BY_ACCOUNT}

    def _guess(self, networks: Iterable[str]) -> dict[bytes, Limit]:
        return _nested("guess", GUESSES_BY_NETWORK, networks, factor=self.factor)


def _nested(name: str, narrowest: Limit, networks: Iterable[str], *parts: str, factor: int = 1) -> dict[bytes, Limit]:
    """A bucket for each of the networks that lie in one another, given from the widest to the narrowest."""
    return {
        key(f"{name} network", *parts, network): narrowest.widened(width, factor)
        for width, network in enumerate(reversed(tuple(networks)))
    }


def take(limits: Limits, full: Mapping[bytes, datetime], now: datetime) -> dict[bytes, datetime] | timedelta:
    """Takes a try from every bucket.

    Args:
        limits: The buckets.
        full: When each is full, if nothing is taken from it. That says how much is in it now (the generic cell rate
            algorithm).
        now: The time.

    Returns:
        When each is full then; or, where one of them is empty, how long until all have a try.
    """
    taken = {name: max(full.get(name, now), now) + limit.interval for name, limit in limits.items()}
    wait = max(
        (taken[name] - now - limit.burst * limit.interval for name, limit in limits.items()), default=timedelta()
    )
    return wait if wait > timedelta() else taken


def has_emptied(taken: Mapping[bytes, datetime], limits: Limits, now: datetime) -> bool:
    """Whether one of the buckets has no try left after these were taken."""
    return any(taken[name] - now > (limit.burst - 1) * limit.interval for name, limit in limits.items())


def left(full: datetime, limit: Limit, now: datetime) -> int:
    """How many tries a bucket holds that is full again at a time."""
    return limit.burst - max(-((now - full) // limit.interval), 0)


def refusal(wait: timedelta) -> ResourceExhausted:
    """The answer to an attempt that comes too early."""
    return ResourceExhausted(Reason.RATE_LIMITED, "too many attempts: wait, then try again", retry_after=wait)
