"""The revoked tokens that have not expired yet, as sets in memory."""

import heapq
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from mesh.tokens.claims import Claims
from mesh.tokens.verifier import LEEWAY_SECONDS

FORGOTTEN_AT_ONCE = 5000
"""Expired entries that are forgotten on end: some milliseconds, in which the process does nothing else."""


class RevocationKind(IntEnum):
    """By what a revocation refuses; the numbers are those of `authmesh.token.v1.Revocation.Kind`."""

    TOKEN = 1
    SESSION = 2
    SUBJECT = 3
    CLIENT = 4
    KEY = 5


@dataclass(frozen=True, slots=True)
class Revocation:
    """One entry of the revocation log."""

    sequence: int
    """Contiguous, from 1."""
    kind: RevocationKind
    value: str
    """The claim that it refuses: a jti, sid, sub, client_id or kid. Deny lists go by ids, never by a token's hash:
    ECDSA signatures are malleable."""
    not_before: int
    """For subjects and clients: a token with a later `iat` (Unix seconds) is good again. 0 otherwise."""
    expires_at: int
    """When every token that it refuses has expired, Unix seconds."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that is revoked and has not expired, at one moment, or a piece of it."""

    epoch: str
    """Changes when the log was restored from a backup: sequences of another epoch mean nothing."""
    sequence: int
    """The highest one that the whole snapshot contains."""
    revocations: tuple[Revocation, ...]


class RevocationSet:
    """What this process refuses.

    Entries are only ever added, and forgotten when they have expired: repeats and late arrivals do no harm.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Initializes the instance.

        Args:
            clock: Unix seconds.
        """
        self._clock = clock
        # kind -> value -> (not before, expiry). Kinds that know no time refuse everything: their `not_before` is
        # infinite.
        self._entries: dict[RevocationKind, dict[str, tuple[float, int]]] = {kind: {} for kind in RevocationKind}
        # Many expire in the same second: a heap of seconds, and what expires in each.
        self._seconds: list[int] = []
        self._expiring: dict[int, list[tuple[RevocationKind, str]]] = {}

    def __len__(self) -> int:
        return sum(len(entries) for entries in self._entries.values())

    @property
    def sizes(self) -> Mapping[str, int]:
        """Entries by kind: `session`, `subject` and so on."""
        return {kind.name.lower(): len(entries) for kind, entries in self._entries.items()}

    def add(self, revocations: Iterable[Revocation]) -> None:
        """Refuses these, too, and forgets what has expired."""
        for revocation in revocations:
            timed = revocation.kind in (RevocationKind.SUBJECT, RevocationKind.CLIENT)
            not_before = revocation.not_before if timed else float("inf")
            known = self._entries[revocation.kind].get(revocation.value, (0, 0))
            merged = (max(known[0], not_before), max(known[1], revocation.expires_at))
            if merged != known:
                self._entries[revocation.kind][revocation.value] = merged
                self._expire_at(merged[1], (revocation.kind, revocation.value))
        self.forget()

    def refuses(self, claims: Claims) -> bool:
        """Whether a token with these claims is revoked."""
        entries = self._entries
        if claims.token_id in entries[RevocationKind.TOKEN] or claims.session in entries[RevocationKind.SESSION]:
            return True
        if claims.key_id in entries[RevocationKind.KEY]:
            return True
        subject = entries[RevocationKind.SUBJECT].get(claims.subject)
        client = entries[RevocationKind.CLIENT].get(claims.client_id)
        return (subject is not None and claims.issued_at <= subject[0]) or (
            client is not None and claims.issued_at <= client[0]
        )

    def refuses_key(self, key_id: str) -> bool:
        """Whether everything that a key has signed is revoked."""
        return key_id in self._entries[RevocationKind.KEY]

    def forget(self) -> None:
        """Forgets what has expired, `FORGOTTEN_AT_ONCE` entries at the most."""
        # A verifier whose clock is behind still admits what has expired by ours.
        expired_before = self._clock() - LEEWAY_SECONDS
        left = FORGOTTEN_AT_ONCE
        while self._seconds and self._seconds[0] < expired_before:
            expiring = self._expiring[self._seconds[0]]
            while expiring:
                if not left:
                    return
                left -= 1
                kind, value = expiring.pop()
                known = self._entries[kind].get(value)
                # One that was prolonged is listed again, at its longer time.
                if known is not None and known[1] < expired_before:
                    del self._entries[kind][value]
            del self._expiring[heapq.heappop(self._seconds)]

    def _expire_at(self, second: int, entry: tuple[RevocationKind, str]) -> None:
        expiring = self._expiring.get(second)
        if expiring is None:
            expiring = self._expiring[second] = []
            heapq.heappush(self._seconds, second)
        expiring.append(entry)
