"""Secrets that protect what is stored: the newest protects, the others open what they have protected before.

A rotation is followed without a restart: the sources are read again once a minute.
"""

from collections.abc import Callable, Sequence
from typing import Any

import structlog

from mesh.runtime.periodic import Periodic
from mesh.secrets.source import SecretSource, SecretUnavailableError

SECRET_BYTES = 32
"""The least that a secret holds."""
REREAD_SECONDS = 60.0


class KeyRing(Periodic):
    """Secrets of one purpose, from one source or several."""

    survives = (SecretUnavailableError,)
    log: Any = structlog.get_logger("authmesh.secrets")

    def __init__(self, name: str, sources: Sequence[SecretSource], *, seconds: float = REREAD_SECONDS) -> None:
        """Initializes the instance.

        Args:
            name: What they are for.
            sources: The first one's current version protects.
            seconds: Between two looks at them.
        """
        self.name = name
        self.seconds = seconds
        self._sources = sources
        self._secrets: Sequence[bytes] = ()
        self._listeners: list[Callable[[Sequence[bytes]], None]] = []

    @property
    def secrets(self) -> Sequence[bytes]:
        """The one that protects, and those that open. Empty before the first `step`, and where there are no sources."""
        return self._secrets

    def follow(self, listener: Callable[[Sequence[bytes]], None]) -> None:
        """Calls `listener` with the secrets, now and whenever they are others."""
        self._listeners.append(listener)
        listener(self._secrets)

    async def step(self) -> None:
        """Reads all sources. What was read before stays when one can't be read.

        Raises:
            SecretUnavailableError: one can't be read, or holds too little.
        """
        found = [version for source in self._sources for version in await self._versions(source)]
        secrets = tuple(dict.fromkeys(found))
        if secrets != self._secrets:
            if self._secrets:
                self.log.info("secret rotated", secrets=self.name)
            self._secrets = secrets
            for listener in self._listeners:
                listener(secrets)

    async def _versions(self, source: SecretSource) -> Sequence[bytes]:
        versions = await source.versions()
        if any(len(version) < SECRET_BYTES for version in versions):
            raise SecretUnavailableError(
                f"{source.name}: a secret has at least {SECRET_BYTES} random bytes: head -c {SECRET_BYTES} /dev/urandom"
            )
        return versions
