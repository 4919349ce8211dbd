"""The interceptor stage that admits callers.

Tokens verified once and remembered; expiry, revocation and policy looked at on every call.
"""

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Protocol, Self

import structlog
from grpc import aio

from mesh.contract import Rpc
from mesh.errors import MeshError, PermissionDenied, Reason, Unauthenticated, Unavailable
from mesh.rpc.call import Call, Handler
from mesh.rpc.endable import Endable
from mesh.rpc.limits import Limits
from mesh.runtime.part import Part
from mesh.settings import ProcessSettings
from mesh.telemetry.metrics import TOKENS_VERIFIED
from mesh.tokens.claims import Claims
from mesh.tokens.feed import RevocationFeed
from mesh.tokens.issuer import fetch_jwks, fetch_snapshot
from mesh.tokens.keys import KeySet
from mesh.tokens.metrics import TokenMetrics
from mesh.tokens.policy import Policy
from mesh.tokens.revocations import RevocationSet
from mesh.tokens.verifier import UnknownKey, Verifier

CACHED_TOKENS = 10_000
"""Verified tokens remembered, about 1 KB each."""
SWEEP_SECONDS = 0.25
"""How often open streams are looked at: one ends within 1 s of its token's death."""
REPORT_SECONDS = 60.0
"""How often the figures are logged."""

_log = structlog.get_logger("authmesh.tokens")
_FROM_MEMORY, _ANEW = TOKENS_VERIFIED.labels("yes"), TOKENS_VERIFIED.labels("no")


class DenialRecord(Protocol):
    """Keeps record of the authenticated callers whom the policy refused (`mesh.tokens.denials`)."""

    async def denied(self, call: Call, denial: MeshError) -> None:
        """Told before the refusal is sent."""


@dataclass(slots=True, eq=False)
class _Watched:
    stream: Endable
    claims: Claims
    max_staleness: float


class Authentication(Part):
    """The stage.

    No network I/O for a token whose key is known: what changes comes in through its parts.
    """

    name = "token_checks"

    def __init__(
        self,
        verifier: Verifier,
        keys: KeySet,
        revocations: RevocationSet,
        feed: RevocationFeed,
        policy: Policy,
        limits: Limits,
        *,
        denials: DenialRecord | None = None,
        cached_tokens: int = CACHED_TOKENS,
    ) -> None:
        """Initializes the instance.

        Args:
            verifier: Says what a token claims.
            keys: The keys that the verifier knows.
            revocations: What is refused.
            feed: Keeps `revocations` fresh and knows how fresh.
            policy: Holds claims against access rules.
            limits: Bounds what one caller takes.
            denials: Writes policy's refusals down.
            cached_tokens: How many verified tokens to remember.
        """
        self._verifier = verifier
        self._keys = keys
        self._revocations = revocations
        self._feed = feed
        self._policy = policy
        self._limits = limits
        self._denials = denials
        self._cached_tokens = cached_tokens
        # SHA-256 of the exact token -> its claims, never a decision. The least recently used goes first.
        self._verified: OrderedDict[bytes, Claims] = OrderedDict()
        self._streams: set[_Watched] = set()
        self._hits = self._misses = 0

    @classmethod
    def for_mesh(cls, channel: aio.Channel, settings: ProcessSettings, denials: DenialRecord | None = None) -> Self:
        """The stage of a service that asks Token for keys and snapshots through its sidecar.

        Its `parts` run with those of the process.
        """
        revocations = RevocationSet()
        keys = KeySet(
            lambda: fetch_jwks(channel),
            algorithms=settings.accepted_algorithms,
            refresh_seconds=settings.jwks_cache_seconds,
        )
        feed = RevocationFeed(
            settings.redis_url.get_secret_value(),
            lambda: fetch_snapshot(channel),
            revocations,
            logins=settings.redis_logins(),
        )
        verifier = Verifier(keys, str(settings.issuer), settings.audience)
        policy = Policy(mfa_roles=settings.roles_with_mfa)
        return cls(verifier, keys, revocations, feed, policy, Limits.for_process(settings), denials=denials)

    @property
    def parts(self) -> tuple[Part, ...]:
        """Its parts, for `mesh.rpc.server.serve`."""
        return (self._keys, self._feed, self)

    async def run(self) -> None:
        """Ends the streams whose tokens have died, and logs the figures."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._end_dead_streams())
            group.create_task(self._report())

    def __call__(self, rpc: Rpc, proceed: Handler) -> Handler:
        """The stage.

        Raises:
            Unauthenticated: TOKEN_MISSING, TOKEN_INVALID, TOKEN_EXPIRED or TOKEN_REVOKED; the last two also in the
                middle of a stream.
            ResourceExhausted: RATE_LIMITED or OVERLOADED, the caller takes more than the method's limit or than is
                fair.
            PermissionDenied: CALLER_NOT_ALLOWED, SCOPE_MISSING, ROLE_MISSING or STEP_UP_REQUIRED.
            Unavailable: REVOCATION_STALE or KEYS_UNAVAILABLE: no one can tell now.
        """
        match rpc.kind:
            case "public":
                return proceed
            case "internal":
                return self._internal(proceed)
            case "authenticated":
                return self._authenticated(rpc, proceed)
            case _:
                return _refuse

    def _internal(self, proceed: Handler) -> Handler:
        async def admit(call: Call) -> Any:
            self._policy.admit_node(call)
            return await proceed(call)

        return admit

    def _authenticated(self, rpc: Rpc, proceed: Handler) -> Handler:
        max_staleness = self._policy.token_rule(rpc).max_staleness
        served = self._watched(proceed, max_staleness) if rpc.server_streaming else proceed

        async def authorize(call: Call) -> Any:
            assert call.claims is not None
            try:
                self._policy.admit_bearer(call, call.claims)
            except PermissionDenied as denial:
                if self._denials:
                    await self._denials.denied(call, denial)
                raise
            return await served(call)

        # Before the access rule: a refusal of the policy costs too, an event each time.
        limited = self._limits(rpc, authorize)

        async def authenticate(call: Call) -> Any:
            call.claims = await self.verify(bearer_token(call))
            if error := self._staleness_error(max_staleness):
                raise error
            return await limited(call)

        return authenticate

    async def verify(self, token: str) -> Claims:
        """The claims of a token that is good now by everything this process knows.

        For code that handles tokens as data, too (introspection).

        Raises:
            Unauthenticated: TOKEN_INVALID, TOKEN_EXPIRED or TOKEN_REVOKED.
            Unavailable: KEYS_UNAVAILABLE.
        """
        try:
            return self._verify(token)
        except UnknownKey as unknown:
            await self._keys.learn(unknown.key_id)
            return self._verify(token)

    def _verify(self, token: str) -> Claims:
        digest = hashlib.sha256(token.encode()).digest()
        claims = self._verified.get(digest)
        if claims is None or self._verifier.has_expired(claims) or self._keys.find(claims.key_id) is None:
            self._misses += 1
            _ANEW.inc()
            self._verified.pop(digest, None)
            claims = self._verifier.verify(token)
            self._verified[digest] = claims
            if len(self._verified) > self._cached_tokens:
                self._verified.popitem(last=False)
        else:
            self._hits += 1
            _FROM_MEMORY.inc()
            self._verified.move_to_end(digest)
        if self._revocations.refuses(claims):
            raise _revoked()
        return claims

    def take_figures(self) -> TokenMetrics:
        """What happened since this was asked last."""
        figures = TokenMetrics(
            cache_hits=self._hits,
            cache_misses=self._misses,
            cached_tokens=len(self._verified),
            streams=len(self._streams),
            revocations=self._revocations.sizes,
            sequence=self._feed.sequence,
            staleness=self._feed.staleness(),
            deliveries=self._feed.take_deliveries(),
        )
        self._hits = self._misses = 0
        return figures

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            _log.info("token checks", **self.take_figures().line())

    def _staleness_error(self, max_staleness: float) -> Unavailable | None:
        if self._feed.staleness() <= max_staleness:
            return None
        return Unavailable(
            Reason.REVOCATION_STALE, "the list of revoked tokens is out of date: keep the token and try again"
        )

    def _watched(self, proceed: Handler, max_staleness: float) -> Handler:
        """Ends a stream when its token dies."""

        async def watch(call: Call) -> Any:
            assert call.claims is not None
            with Endable() as stream:
                watched = _Watched(stream, call.claims, max_staleness)
                self._streams.add(watched)
                try:
                    return await proceed(call)
                finally:
                    self._streams.discard(watched)

        return watch

    async def _end_dead_streams(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            for watched in self._streams:
                if cause := self._cause_of_death(watched):
                    watched.stream.end(cause)

    def _cause_of_death(self, watched: _Watched) -> MeshError | None:
        if self._revocations.refuses(watched.claims):
            return _revoked()
        # Without the leeway: it is there for clocks that differ when a token is shown, and here nothing is shown.
        if self._verifier.has_expired(watched.claims, leeway=0):
            return Unauthenticated(
                Reason.TOKEN_EXPIRED, "the access token of this stream has expired: refresh it and resume"
            )
        return self._staleness_error(watched.max_staleness)


def bearer_token(call: Call) -> str:
    """The token in the metadata: `authorization: Bearer <token>`, exactly once (RFC 6750, section 2.1).

    The scheme may be written in any case (RFC 9110, section 11.1).

    Raises:
        Unauthenticated: TOKEN_MISSING, or TOKEN_INVALID when there is more than one.
    """
    values = call.values("authorization")
    if len(values) > 1:
        raise Unauthenticated(Reason.TOKEN_INVALID, "more than one authorization")
    scheme, _, token = values[0].partition(" ") if values else ("", "", "")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated(Reason.TOKEN_MISSING, "this method requires `authorization: Bearer <access token>`")
    return token


async def _refuse(_: Call) -> Any:
    raise PermissionDenied(Reason.CALLER_NOT_ALLOWED, "this method has no access rule")


def _revoked() -> Unauthenticated:
    return Unauthenticated(Reason.TOKEN_REVOKED, "the access token was revoked: sign in again")
