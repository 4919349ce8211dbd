"""What a service says of its settings in a local mesh. Packages name it by the entry-point group `authmesh.local`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from mesh.operator.errors import OperatorError

GROUP = "authmesh.local"


@dataclass(frozen=True, slots=True)
class UserPool:
    """A user pool of Cognito, and our client of it."""

    pool_id: str
    client_id: str
    secret: Path
    """The file that has the client's secret."""


@dataclass(frozen=True, slots=True)
class LocalPlace:
    """Where a local mesh runs a service."""

    secrets: Path
    """Directory of files that only their owner may read."""
    environment: Mapping[str, str]
    """What its user has chosen."""
    jwks_cache: int
    """Seconds that sidecars and processes keep the JWKS."""
    edge_url: str = "https://localhost:8443"
    """How clients call the edge."""
    user_pool: UserPool | None = None
    """Where Cognito keeps the passwords."""


def _none(_: LocalPlace) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class LocalService:
    """Of one service."""

    outputs: Mapping[str, str] = field(default_factory=dict)
    """Variables that are outputs of the event stack (deploy/aws/events.yaml), by their names in it. The user can't
    choose them: those of another stack would lead into its trail."""
    settings: Callable[[LocalPlace], Mapping[str, str]] = _none
    """Other variables that it needs here."""


@cache
def local_service(node: str) -> LocalService:
    """What a service says; nothing where it has nothing to say.

    Raises:
        OperatorError: its package names something that can't be loaded.
    """
    for entry in entry_points(group=GROUP, name=node):
        try:
            found: LocalService = entry.load()
        except (ImportError, AttributeError) as error:
            raise OperatorError(f"{GROUP} {node} can't be loaded from {entry.value}: {error}") from None
        return found
    return LocalService()
