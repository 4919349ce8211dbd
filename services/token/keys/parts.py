"""Signing keys, put together."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from mesh.outbox.work import Work
from mesh.runtime.part import Part
from mesh.tokens.revocations import RevocationSet
from services.token.keys.admin import KeyAdmin
from services.token.keys.cache import KeyCache
from services.token.keys.deployment import Deployment
from services.token.keys.rotator import KeyRotator
from services.token.keys.schedule import KeyPolicy
from services.token.keys.service import KeyService
from services.token.keys.signer import Algorithm
from services.token.keys.store import KeyStore
from services.token.revocation.log import RevocationLog


@dataclass(frozen=True, slots=True)
class Keys:
    """What the rest of Token needs of them."""

    cache: KeyCache
    """Signs, and has the JWKS."""
    service: KeyService
    parts: tuple[Part, ...]


@asynccontextmanager
async def open_keys(
    work: Work,
    deployment: Deployment,
    policy: KeyPolicy,
    algorithm: Algorithm,
    log: RevocationLog,
    revocations: RevocationSet,
    clock: Callable[[], datetime],
) -> AsyncIterator[Keys]:
    """The keys of a deployment, with the connections that their managers need."""
    store = KeyStore(work.database)
    async with deployment.open() as custodies:
        cache = KeyCache(store, custodies, is_revoked=revocations.refuses_key, clock=clock)
        rotator = KeyRotator(
            work, store, custodies, policy, algorithm=algorithm, first=deployment.first, changed=cache.refresh
        )
        admin = KeyAdmin(work, store, log, policy.pace, changed=cache.refresh)
        yield Keys(cache, KeyService(admin, clock=clock), (cache, rotator))
