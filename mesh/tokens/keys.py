"""The keys that tokens may be signed with: the issuer's JWKS (RFC 7517), kept in memory and read again on a clock."""

import asyncio
import contextvars
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError

from mesh.errors import MeshError, Reason, Unavailable
from mesh.runtime.backoff import Backoff
from mesh.runtime.interruption import Interruption
from mesh.runtime.part import Part
from mesh.tokens.claims import ClaimsError, decode_object

JWKS_LIMIT = 64 * 1024
"""Bytes of a key set. Ours has a handful of keys."""
REFRESH_SECONDS = 60.0
"""How often the set is read again: as old as a key that is gone may be trusted, the same as in the sidecars."""
REFETCH_SECONDS = 5.0
"""How often unknown key ids may cause a read: a flood of forged ones causes no storm."""
_BACKOFF_SECONDS = (0.1, 2.0)
ANY_ALGORITHM = frozenset({"ES256", "RS256"})

_ALGORITHMS: Mapping[str, ECAlgorithm | RSAAlgorithm] = {
    "ES256": ECAlgorithm(ECAlgorithm.SHA256, SECP256R1),
    "RS256": RSAAlgorithm(RSAAlgorithm.SHA256),
}
_RSA_BITS = (2048, 4096)
# Primes whose residues give away a modulus made by the broken generator of CVE-2017-15361 (ROCA): there it is a power
# of 65537.
_ROCA_RESIDUES = {
    prime: {pow(65537, exponent, prime) for exponent in range(prime)}
    for prime in (11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157)
}
_log = structlog.get_logger("authmesh.keys")


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key with the one algorithm that it is used with."""

    key_id: str
    algorithm: str
    public_key: Any

    def verifies(self, signed: bytes, signature: bytes) -> bool:
        """Whether `signature` (raw r||s for ES256, RFC 7518 section 3.4) is this key's over `signed`."""
        return _ALGORITHMS[self.algorithm].verify(signed, self.public_key, signature)


class JwksError(ValueError):
    """The key set is not one that this mesh accepts.

    None of it is used: a set that was tampered with is not good in part.
    """


def parse_jwks(document: bytes, algorithms: frozenset[str] = frozenset({"ES256"})) -> dict[str, VerificationKey]:
    """The keys of a JWKS by their `kid`.

    Args:
        document: The JSON.
        algorithms: What the deployment signs with, out of ES256 and RS256.

    Raises:
        JwksError: a key has no id or algorithm, an id is there twice, or a key is private, symmetric, weak or of
            another use.
    """
    if len(document) > JWKS_LIMIT:
        raise JwksError(f"more than {JWKS_LIMIT} bytes")
    try:
        members = decode_object(document).get("keys")
    except ClaimsError as error:
        raise JwksError(str(error)) from error
    if not isinstance(members, list) or not members:
        raise JwksError("no keys")
    keys: dict[str, VerificationKey] = {}
    for member in members:
        key = _parse_key(member, algorithms)
        if key.key_id in keys:
            raise JwksError("a key id is there twice")
        keys[key.key_id] = key
    return keys


def _parse_key(member: object, algorithms: frozenset[str]) -> VerificationKey:
    if not isinstance(member, dict):
        raise JwksError("a key is not an object")
    key_id, algorithm = member.get("kid"), member.get("alg")
    if not isinstance(key_id, str) or not key_id:
        raise JwksError("a key has no kid")
    if not isinstance(algorithm, str) or algorithm not in algorithms or algorithm not in _ALGORITHMS:
        raise JwksError(f"key {key_id[:64]!r} has no algorithm of this deployment")
    if "d" in member or "k" in member:
        raise JwksError(f"key {key_id[:64]!r} is secret")
    if member.get("use", "sig") != "sig" or member.get("key_ops", ["verify"]) != ["verify"]:
        raise JwksError(f"key {key_id[:64]!r} is not for signatures")
    try:
        public_key = _ALGORITHMS[algorithm].from_jwk(member)
    except (InvalidKeyError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise JwksError(f"key {key_id[:64]!r} is not a key") from error
    if not _is_strong(public_key):
        raise JwksError(f"key {key_id[:64]!r} is weak or of another kind")
    return VerificationKey(key_id, algorithm, public_key)


def _is_strong(key: object) -> bool:
    if isinstance(key, EllipticCurvePublicKey):
        return isinstance(key.curve, SECP256R1)
    if not isinstance(key, RSAPublicKey):
        return False
    shortest, longest = _RSA_BITS
    numbers = key.public_numbers()
    return shortest <= key.key_size <= longest and numbers.e == 65537 and not _is_roca(numbers.n)


def _is_roca(modulus: int) -> bool:
    return all(modulus % prime in residues for prime, residues in _ROCA_RESIDUES.items())


class KeySet(Part):
    """The issuer's keys. The last good set stays when the issuer is out of reach or answers nonsense."""

    name = "keys"

    def __init__(
        self,
        fetch: Callable[[], Awaitable[bytes]],
        *,
        algorithms: frozenset[str] = frozenset({"ES256"}),
        refresh_seconds: float = REFRESH_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Initializes the instance.

        Args:
            fetch: Reads the JWKS; raises `MeshError` when it can't.
            algorithms: What the deployment signs with.
            refresh_seconds: How often the set is read again.
            clock: Monotonic seconds.
        """
        self._fetch = fetch
        self._algorithms = algorithms
        self._refresh_seconds = refresh_seconds
        self._clock = clock
        self._keys: Mapping[str, VerificationKey] = {}
        self._asked_at = -REFETCH_SECONDS
        self._current = False
        self._reading: asyncio.Task[None] | None = None
        self._interruption = Interruption(_log, "keys not read", clock=clock)

    @property
    def loaded(self) -> bool:
        """Whether a set was ever read."""
        return bool(self._keys)

    @property
    def ready(self) -> bool | None:
        """Whether tokens can be verified."""
        return self.loaded

    def find(self, key_id: str) -> VerificationKey | None:
        """The key of that id, if it is known."""
        return self._keys.get(key_id)

    async def learn(self, key_id: str) -> None:
        """Reads the set again because of a key id that no one knows, unless that was done just now.

        A key still unknown afterwards does not exist.

        Raises:
            Unavailable: KEYS_UNAVAILABLE: the issuer could not be asked, so no one can tell.
        """
        if self._reading is None and self._clock() - self._asked_at >= REFETCH_SECONDS:
            self._asked_at = self._clock()
            # In a context of its own: it is everyone's read, and must not end with the deadline of the call that
            # happened to start it.
            self._reading = asyncio.create_task(self.refresh(), context=contextvars.Context())
        if reading := self._reading:
            # Shielded: one caller that gives up must not take the answer from the others.
            await asyncio.shield(reading)
        if key_id not in self._keys and not self._current:
            raise Unavailable(
                Reason.KEYS_UNAVAILABLE, "the issuer's keys are out of reach: keep the token and try again"
            )

    async def refresh(self) -> None:
        """Reads the set. When that fails the last good one stays."""
        try:
            self._keys = parse_jwks(await self._fetch(), self._algorithms)
            self._current = True
            self._interruption.ended()
        except (MeshError, JwksError) as error:
            self._current = False
            self._interruption.failed(error=str(error))
        finally:
            self._reading = None

    async def run(self) -> None:
        """Keeps the set fresh."""
        backoff = Backoff(*_BACKOFF_SECONDS)
        while True:
            await self.refresh()
            if self._current:
                backoff.succeeded()
            await asyncio.sleep(self._refresh_seconds if self._current else backoff.failed())
