"""What the person who starts a local mesh may choose, by environment variables."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from mesh.local.edge_address import LOCALHOST, edge_host
from mesh.model.mesh import parse_origin
from mesh.operator.errors import OperatorError

DEFAULT_EDGE_PORT = 8443
LOCAL, COGNITO = "local", "cognito"
DEFAULT_JWKS_CACHE = 60
"""Seconds."""
REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")


@dataclass(frozen=True, slots=True)
class Options:
    """Read once, at the start."""

    edge_port: int = DEFAULT_EDGE_PORT
    """0: any that is free, the same at the next start."""
    identity: str = LOCAL
    """Who keeps the passwords: `local`, or `cognito`: a user pool of these AWS APIs."""
    edge_host: str = LOCALHOST
    """How clients call the edge. Another one than localhost makes it listen in the network."""
    cors_origins: tuple[str, ...] = ()
    """Web pages of these origins may call, besides those of mesh.yaml."""
    redis_url: str | None = None
    """Use this Redis or Valkey instead of starting one."""
    database_url: str | None = None
    """Use this PostgreSQL server: address of a role that may make roles and databases."""
    aws_endpoint_url: str | None = None
    """Use these AWS APIs."""
    mesh_file: Path | None = None
    """Of a service of one's own, to be run with the others (`mesh.model.addition`)."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """All variables: credentials for those AWS APIs, settings of services (`mesh.local.service_settings`)."""
    rate_limit_factor: int = 1
    """Multiplies the rate limits of the edge and of the contract, for tests and load."""
    jwks_cache: int = DEFAULT_JWKS_CACHE
    """Seconds that sidecars and processes keep the JWKS, for drills of key rotation."""
    trace_percent: float = 100
    """Percent of the calls that are traced."""
    reload: bool = True
    """Whether Envoys watch their files, for `authmesh mesh apply`."""

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> "Options":
        """What the variables say that are called as its fields are. Empty is unset.

        Raises:
            OperatorError: a variable makes no sense; it is named.
        """
        return cls(
            edge_port=_port(environment.get("EDGE_PORT") or str(DEFAULT_EDGE_PORT)),
            identity=_identity(environment.get("IDENTITY") or LOCAL),
            edge_host=edge_host(environment.get("EDGE_HOST") or LOCALHOST),
            cors_origins=_origins(environment.get("CORS_ORIGINS") or ""),
            redis_url=_url(environment, "REDIS_URL", REDIS_SCHEMES),
            database_url=_url(environment, "DATABASE_URL", ("postgresql",)),
            aws_endpoint_url=_url(environment, "AWS_ENDPOINT_URL", ("http", "https")),
            mesh_file=Path(environment["MESH"]).absolute() if environment.get("MESH") else None,
            environment=dict(environment),
            rate_limit_factor=_number(environment, "RATE_LIMIT_FACTOR", 1, 10_000),
            jwks_cache=_number(environment, "JWKS_CACHE_SECONDS", DEFAULT_JWKS_CACHE, 3600),
            trace_percent=_percent(environment, "TRACE_PERCENT", 100),
            reload=_yes(environment, "RELOAD"),
        )


def _identity(text: str) -> str:
    if text not in (LOCAL, COGNITO):
        raise OperatorError(f"IDENTITY={text} is not known: use {LOCAL} or {COGNITO}")
    return text


def _percent(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name) or str(default)
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,6})?", text) or float(text) > 100:
        raise OperatorError(f"{name}={text} is not a percentage: use a number from 0 to 100")
    return float(text)


def _yes(environment: Mapping[str, str], name: str) -> bool:
    text = environment.get(name) or "yes"
    if text not in ("yes", "no"):
        raise OperatorError(f"{name}={text} is not known: use yes or no")
    return text == "yes"


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise OperatorError(f"EDGE_PORT={text} is not a port: use a number from 1 to 65535, or 0 for a free one")
    return int(text)


def _origins(text: str) -> tuple[str, ...]:
    try:
        return tuple(parse_origin(origin.strip()) for origin in text.split(",") if origin.strip())
    except ValueError as error:
        raise OperatorError(f"CORS_ORIGINS: {error}") from None


def _number(environment: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= most:
        raise OperatorError(f"{name}={text} is not valid: use a number from 1 to {most}")
    return int(text)


def _url(environment: Mapping[str, str], name: str, schemes: tuple[str, ...]) -> str | None:
    text = environment.get(name) or None
    if text is not None and urlsplit(text).scheme not in schemes:
        # The address itself stays out of it: there may be a password in it.
        raise OperatorError(f"{name} must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    return text
