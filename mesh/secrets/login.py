"""How a client of a server proves itself: a user name and a password, as they are now.

A password that was rotated is not known to a process before it reads it again. So it is read again when the server has
refused it, and every version that may be right is tried before anyone is told that the server can't be reached.
"""

import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from mesh.secrets.source import SecretSource, SecretUnavailableError, secret_sources

REREAD_SECONDS = 1.0
"""How old what was read may be for another connection: many are made at once."""
Result = TypeVar("Result")
_log = structlog.get_logger("authmesh.secrets")


@dataclass(frozen=True, slots=True)
class Login:
    """A user name and a password."""

    username: str | None
    password: str | None = field(repr=False)

    @classmethod
    def parse(cls, secret: bytes) -> "Login":
        """What a secret holds.

        Either the JSON object that AWS keeps for databases, of which `username` and `password` are read, or nothing but
        the password.

        Raises:
            ValueError: it is not text, or an object without a password.
        """
        text = secret.decode().strip()
        if not text.startswith("{"):
            return cls(None, text)
        document = json.loads(text)
        password, username = document.get("password"), document.get("username")
        if not isinstance(password, str) or not isinstance(username, str | None):
            raise ValueError("the secret has no password")
        return cls(username, password)


class Logins:
    """The logins of one server that may be right, best first."""

    def __init__(self, *sources: SecretSource, clock: Callable[[], float] = time.monotonic) -> None:
        """Initializes the instance.

        Args:
            sources: Where they are kept.
            clock: Monotonic seconds.
        """
        self._sources = sources
        self._clock = clock
        self._known: Sequence[Login] = ()
        self._read_at = float("-inf")

    @classmethod
    def of(cls, references: str) -> "Logins | None":
        """Of the setting that says where they are; None where it is empty."""
        sources = secret_sources(references)
        return cls(*sources) if sources else None

    async def enter(self, connect: Callable[[Login], Awaitable[Result]], refusal: type[Exception]) -> Result:
        """What `connect` makes with the first login that the server lets in.

        When it refuses all that are known, they are read again: one may have been rotated a moment ago.

        Args:
            connect: Connects with a login.
            refusal: What it raises when the server doesn't let it in.

        Raises:
            SecretUnavailableError: no login was ever read.
            Exception: of `refusal`, the server lets none in; others as `connect` raises them.
        """
        tried: list[Login] = []
        problem: Exception | None = None
        while untried := [login for login in await self._candidates(anew=bool(tried)) if login not in tried]:
            for login in untried:
                try:
                    return await connect(login)
                except refusal as error:
                    tried.append(login)
                    problem = error
        assert problem is not None, "there is always a login"
        raise problem

    async def current(self) -> Login | None:
        """The first one. None while it was never read."""
        try:
            return (await self._candidates())[0]
        except SecretUnavailableError:
            return None

    async def _candidates(self, *, anew: bool = False) -> Sequence[Login]:
        if not anew and self._clock() - self._read_at < REREAD_SECONDS:
            return self._known
        try:
            versions = [version for source in self._sources for version in await source.versions()]
            self._known = [Login.parse(version) for version in versions]
        except (SecretUnavailableError, ValueError) as error:
            # A parser's message may repeat what it read.
            cause = str(error) if isinstance(error, SecretUnavailableError) else "it is not what a login looks like"
            if not self._known:
                raise SecretUnavailableError(cause) from None
            _log.warning("secret can't be read: going on with what was read before", cause=cause)
        self._read_at = self._clock()
        return self._known
