"""A signing key, the states of its life, and what is to be done next. Rules only, no I/O."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto

from mesh.resources.name import NamePattern
from services.token.keys.schedule import MAX_VIEW_AGE, RotationSchedule
from services.token.keys.signer import Algorithm

KEY = NamePattern("keys")


class State(Enum):
    """Where a key is in its life."""

    PUBLISHED = auto()
    """In the JWKS, so that verifiers learn it; signs nothing yet."""
    ACTIVE = auto()
    """Signs."""
    RETIRING = auto()
    """Signs no more. In the JWKS until its last token has expired."""
    GONE = auto()
    """Verifies nothing any more."""
    REVOKED = auto()
    """Whatever it signed is refused."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key as it is stored."""

    key_id: str
    """`kid`: its thumbprint (RFC 7638)."""
    algorithm: Algorithm
    public_jwk: Mapping[str, str]
    """The required members."""
    custody: str
    """Name of the custody that has its private part."""
    material: bytes | None
    """What the custody needs to sign with it: the protected private key, or a name. None when that was erased, because
    it will never sign again."""
    publish_time: datetime
    ordered: bool = False
    """Whether it is to take over as soon as that is safe, not at the end of the period."""
    active_time: datetime | None = None
    retire_time: datetime | None = None
    gone_time: datetime | None = None
    """When it leaves the JWKS, or, revoked, is forgotten."""
    revoke_time: datetime | None = None

    def state(self, time: datetime) -> State:
        """Where it is in its life."""
        if self.revoke_time:
            return State.REVOKED
        if self.gone_time and self.gone_time <= time:
            return State.GONE
        if self.retire_time:
            return State.RETIRING
        return State.ACTIVE if self.active_time else State.PUBLISHED


class Transition(Enum):
    """What moves the keys on."""

    CREATE = auto()
    """Make and publish the key that comes next."""
    ACTIVATE = auto()
    """Have it sign; the one before retires."""
    ERASE = auto()
    """Destroy a private key that will never sign again."""
    REMOVE = auto()
    """Forget a key that verifies nothing any more."""


@dataclass(frozen=True, slots=True)
class Step:
    """One act, and the key that it is for; none for CREATE."""

    act: Transition
    key: SigningKey | None = None


def in_state(keys: Sequence[SigningKey], state: State, time: datetime) -> SigningKey | None:
    """The key in that state. There is one at the most that is published, and one that is active."""
    return next((key for key in keys if key.state(time) is state), None)


def activation_time(published: SigningKey, active: SigningKey | None, pace: RotationSchedule) -> datetime:
    """When the published key takes over. Without an active key it is late already."""
    if active is None or active.active_time is None:
        return published.publish_time
    seen = published.publish_time + pace.lead
    return seen if published.ordered else max(seen, active.active_time + pace.period)


def next_step(keys: Sequence[SigningKey], pace: RotationSchedule, time: datetime) -> Step | None:
    """What is due, the most urgent first.

    Tokens must be signed, then there must be a key to take over, and then comes the housekeeping.
    """
    active, published = in_state(keys, State.ACTIVE, time), in_state(keys, State.PUBLISHED, time)
    if published is None:
        return Step(Transition.CREATE)
    if activation_time(published, active, pace) <= time:
        return Step(Transition.ACTIVATE, published)
    for key in keys:
        # A replica whose view is old may be signing with it still.
        if key.material is not None and (
            key.revoke_time or (key.retire_time and key.retire_time + 2 * MAX_VIEW_AGE <= time)
        ):
            return Step(Transition.ERASE, key)
    for key in keys:
        if key.material is None and key.gone_time and key.gone_time <= time:
            return Step(Transition.REMOVE, key)
    return None


def jwks(keys: Sequence[SigningKey], time: datetime) -> bytes:
    """The JWK set (RFC 7517) of what verifies now: published, active and retiring keys."""
    verifying = [key for key in keys if key.state(time) in (State.PUBLISHED, State.ACTIVE, State.RETIRING)]
    members = [{**key.public_jwk, "kid": key.key_id, "alg": key.algorithm, "use": "sig"} for key in verifying]
    return json.dumps({"keys": members}, separators=(",", ":")).encode()
