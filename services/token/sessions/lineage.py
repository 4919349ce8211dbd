"""What a refresh token that could not be spent means: a race, a lost answer, a mistake or a theft. Rules only, no I/O.

A session has one line of refresh tokens, never siblings. A spent token gets the same answer again within its grace, for
the same installation; a grandparent, or a parent after its grace, means that two parties hold the line (RFC 9700,
section 4.14.2). The grace of an answer that could not be signed begins when it was given at last: an honest retry must
never look like theft. See docs/design.md.
"""

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto

RACE = timedelta(seconds=2)
"""Callers this close behind the rotation raced with it: nothing is remarkable about them."""
GRACE_WITHOUT_INSTANCE = timedelta(seconds=10)
"""The longest grace of a session that named no installation: anyone's retry looks like the owner's."""
REPLAYS = 3
"""Later repetitions that one parent gets answered."""
REPLAYED_GENERATIONS = 3
"""Generations in a row with such repetitions that are a pattern, and no longer bad luck."""


class RefreshOutcome(Enum):
    """What the presented token is."""

    UNKNOWN = auto()
    OTHER_CLIENT = auto()
    OTHER_INSTANCE = auto()
    SESSION_OVER = auto()
    EXPIRED = auto()
    SCOPE_MISSING = auto()
    RACE = auto()
    """Answer with the successor."""
    REPLAY = auto()
    """Answer with the successor, and write it down."""
    REUSE = auto()
    """Two parties hold the line: end it."""
    SPENDABLE = auto()
    """Nothing is wrong with it."""


@dataclass(frozen=True, slots=True)
class RefreshAttempt:
    """What a client sent."""

    client_id: str
    instance_id: uuid.UUID | None
    scopes: frozenset[str]
    """Asked for; empty for all of the session's."""
    client_scopes: Collection[str]
    """All that the client may ask for by now."""
    grace: timedelta
    """The client's."""
    time: datetime


@dataclass(frozen=True, slots=True)
class Lineage:
    """A refresh token with its session and its successor, as they are stored."""

    client_id: str
    instance_id: uuid.UUID | None
    session_scopes: Collection[str]
    session_is_over: bool
    expire_time: datetime
    rotate_time: datetime | None
    """When it was spent first."""
    replays: int
    """Later repetitions so far."""
    replayed_ancestors: int
    """How many generations right before this one had any."""
    successor_is_spent: bool
    unanswered: bool = False
    """It was spent, and then the key was out of reach: its holder still waits for the answer."""

    def is_live(self, time: datetime) -> bool:
        """Whether its session's installation could spend it now."""
        return not self.session_is_over and self.rotate_time is None and self.expire_time > time


def evaluate(lineage: Lineage | None, presented: RefreshAttempt) -> RefreshOutcome:
    """What a token is that the atomic rotation did not take."""
    if lineage is None:
        return RefreshOutcome.UNKNOWN
    if lineage.client_id != presented.client_id:
        return RefreshOutcome.OTHER_CLIENT
    if lineage.instance_id is not None and lineage.instance_id != presented.instance_id:
        # The family lives: else anyone who once saw a token could sign its owner out.
        return RefreshOutcome.OTHER_INSTANCE
    if lineage.session_is_over:
        return RefreshOutcome.SESSION_OVER
    if lineage.rotate_time is None and lineage.expire_time <= presented.time:
        return RefreshOutcome.EXPIRED
    if lineage.rotate_time is not None and not _is_graced(lineage, lineage.rotate_time, presented):
        return RefreshOutcome.REUSE
    if not presented.scopes <= set(lineage.session_scopes).intersection(presented.client_scopes):
        return RefreshOutcome.SCOPE_MISSING
    if lineage.rotate_time is None:
        return RefreshOutcome.SPENDABLE
    if lineage.unanswered or presented.time - lineage.rotate_time <= RACE:
        return RefreshOutcome.RACE
    if lineage.replays >= REPLAYS or lineage.replayed_ancestors + 1 >= REPLAYED_GENERATIONS:
        return RefreshOutcome.REUSE
    return RefreshOutcome.REPLAY


def _is_graced(lineage: Lineage, rotate_time: datetime, presented: RefreshAttempt) -> bool:
    grace = presented.grace if lineage.instance_id is not None else min(presented.grace, GRACE_WITHOUT_INSTANCE)
    return not lineage.successor_is_spent and (lineage.unanswered or presented.time - rotate_time <= grace)
