"""How often somebody may try: delays that grow, and that a stranger can't turn into a lockout.

Attempts are counted twice: by address and network the caller came from, and by address alone. The first stops one stranger and leaves the owner,
who comes from elsewhere, untouched. The second slows many strangers down; its delay is short, and an owner who has signed in from a network or an
installation before is exempt from it. An attempt that is refused here is not counted, so that repeating it can't prolong the delay. Nothing here
depends on whether the address has an account.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from mesh.errors import Reason, ResourceExhausted

_DOUBLINGS = 20


@dataclass(frozen=True, slots=True)
class Policy:
    """How many attempts are free, and what the further ones cost."""

    free: int
    """Attempts before the first delay."""
    first_delay: timedelta
    """The first delay; each further attempt doubles it."""
    longest_delay: timedelta
    forget_after: timedelta
    """Rest after which the count begins anew."""


@dataclass(frozen=True, slots=True)
class Limit:
    """The two policies of one kind of attempt."""

    name: str
    by_network: Policy
    by_address: Policy


SIGN_IN = Limit(
    "sign_in",
    by_network=Policy(free=10, first_delay=timedelta(seconds=1), longest_delay=timedelta(minutes=15), forget_after=timedelta(hours=24)),
    by_address=Policy(free=50, first_delay=timedelta(seconds=1), longest_delay=timedelta(seconds=30), forget_after=timedelta(hours=24)),
)
"""Wrong passwords; a right one clears the first count. NIST SP 800-63B 3.2.2 wants at most 100 in a row."""

MAIL = Limit(
    "mail",
    by_network=Policy(free=5, first_delay=timedelta(minutes=1), longest_delay=timedelta(hours=1), forget_after=timedelta(hours=24)),
    by_address=Policy(free=20, first_delay=timedelta(minutes=1), longest_delay=timedelta(minutes=5), forget_after=timedelta(hours=24)),
)
"""Messages to an address, so that sign-up is no mail bomb."""

NOTICE = Policy(free=1, first_delay=timedelta(hours=24), longest_delay=timedelta(hours=24), forget_after=timedelta(hours=24))
"""Notices of one kind about the same thing: whoever causes them again and again sends one a day."""


@dataclass(frozen=True, slots=True)
class Attempts:
    """What was counted under one key."""

    count: int
    last_time: datetime
    blocked_until: datetime | None


def key(name: str, *parts: str) -> bytes:
    """The key that attempts are stored under: a digest, so that the table lists no addresses in the clear."""
    digest = hashlib.sha256()
    for part in (name, *parts):
        digest.update(len(part).to_bytes(4) + part.encode())
    return digest.digest()


def policies(limit: Limit, email: str, network: str, *, familiar: bool) -> dict[bytes, Policy]:
    """What an attempt counts under. Every one by network; by address alone only where the caller is not familiar."""
    counted = {key(limit.name, email, network): limit.by_network}
    return counted if familiar else {**counted, key(limit.name, email): limit.by_address}


def admit(counted: Mapping[bytes, Attempts | None], rules: Mapping[bytes, Policy], now: datetime) -> dict[bytes, Attempts] | timedelta:
    """Either the counts with this attempt added to each, or how long to wait."""
    wait = max((item.blocked_until - now for item in counted.values() if item and item.blocked_until), default=timedelta())
    if wait > timedelta():
        return wait
    return {name: _add(counted.get(name), policy, now) for name, policy in rules.items()}


def begins_to_slow(admitted: Mapping[bytes, Attempts], rules: Mapping[bytes, Policy]) -> bool:
    """Whether the attempt after these counts is the first that has to wait."""
    return any(item.count == rules[name].free for name, item in admitted.items())


def refusal(wait: timedelta) -> ResourceExhausted:
    """The answer to an attempt that comes too early."""
    return ResourceExhausted(Reason.RATE_LIMITED, "too many attempts: wait, then try again", retry_after=wait)


def _add(before: Attempts | None, policy: Policy, now: datetime) -> Attempts:
    count = 1 if before is None or now - before.last_time > policy.forget_after else before.count + 1
    if count < policy.free:
        return Attempts(count, now, None)
    delay = min(policy.first_delay * 2 ** min(count - policy.free, _DOUBLINGS), policy.longest_delay)
    return Attempts(count, now, now + delay)
