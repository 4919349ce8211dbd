"""What every service process reads from its environment, once, at boot. No one else reads the environment."""

import sys
from enum import StrEnum
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    AnyHttpUrl,
    AnyUrl,
    BeforeValidator,
    Field,
    SecretStr,
    UrlConstraints,
    ValidationError,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from mesh.secrets.login import Logins
from mesh.secrets.source import secret_sources
from mesh.spiffe import PATH, PATH_PATTERN, TRUST_DOMAIN, TRUST_DOMAIN_PATTERN, SpiffeIds
from mesh.storage.redis_address import RedisAddress

SOCKET_PATH_LIMIT = 107
"""Bytes in a unix socket's path on Linux (sun_path less the final NUL)."""

SocketPath = Annotated[str, Field(min_length=1, max_length=SOCKET_PATH_LIMIT)]


def _secret_references(references: str) -> str:
    secret_sources(references)
    return references


SecretReferences = Annotated[str, AfterValidator(_secret_references)]
"""Where secrets are: absolute paths of files and ARNs of AWS Secrets Manager, comma-separated (`mesh.secrets`)."""


def _redis_address(url: SecretStr) -> SecretStr:
    RedisAddress.parse(url.get_secret_value())
    return url


class Environment(StrEnum):
    """Where the process runs: reflection is served in development only."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class Settings(BaseSettings):
    """A layer of settings. A service's settings are a subclass of the layers that it needs, with fields of its own.

    Each field is the environment variable of its name in upper case.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    @classmethod
    def load(cls) -> Self:
        """Reads the environment.

        Raises:
            SystemExit: with one line per variable that is missing or wrong. Values are not repeated: they may be
                secrets.
        """
        try:
            return cls()
        except ValidationError as error:
            wrong = [
                f"{'.'.join(map(str, item['loc'])).upper()}: {item['msg']}"
                for item in error.errors(include_input=False, include_url=False)
            ]
            sys.exit("\n".join(f"authmesh: environment variable {line}" for line in wrong))


class ProcessSettings(Settings):
    """What every process of the mesh has, whatever it serves."""

    node: str = Field(pattern="^[a-z][a-z0-9-]*$")
    """This process's name in mesh.yaml."""
    trust_domain: str = Field(default=TRUST_DOMAIN, pattern=TRUST_DOMAIN_PATTERN)
    """SPIFFE trust domain of the mesh, as mesh.yaml has it: callers of another one are no one."""
    spiffe_path: str = Field(default=PATH, pattern=PATH_PATTERN)
    """Path of SPIFFE ids, with `{node}` for the caller's name, as mesh.yaml has it."""
    socket: SocketPath
    """Unix socket to serve on. Only the sidecar dials it."""
    egress: SocketPath
    """Unix socket of the sidecar's egress listener: the way to every backend."""
    metrics: SocketPath | None = None
    """Unix socket to serve metrics on (docs/metrics.md). Only the sidecar dials it. Unset: none are served."""
    otel_exporter_otlp_traces_endpoint: AnyHttpUrl | None = None
    """Where spans of traced calls go, by OTLP/HTTP: `http://collector:4318/v1/traces`. Unset: none are made."""
    redis_url: Annotated[SecretStr, AfterValidator(_redis_address)]
    """Address of Valkey or Redis: `redis://`, `rediss://`, `unix://`, `redis+sentinel://` or `redis+cluster://`
    (`mesh.storage.redis_address`)."""
    redis_secret: SecretReferences = ""
    """Where its password is, or user name and password as `{"username": …, "password": …}`. They take the place of
    those in REDIS_URL, and are read again for each connection."""
    issuer: Annotated[AnyUrl, UrlConstraints(allowed_schemes=["https"], preserve_empty_path=True)]
    """`iss` of every access token (RFC 9068)."""
    audience: str = Field(min_length=1)
    """`aud` of every access token: one for the mesh."""
    token_algorithms: str = Field(default="ES256", pattern="^(ES256|RS256)(,(ES256|RS256))?$")
    """`alg` that access tokens may be signed with: one, or both with a comma while a deployment changes from one to the
    other."""
    jwks_cache_seconds: float = Field(default=60, gt=0)
    """How often the keys of access tokens are read again: as old as a key that is gone may be trusted. The same as in
    the sidecars."""
    mfa_roles: str = Field(default="", pattern="^([a-z][a-z0-9_-]*(,[a-z][a-z0-9_-]*)*)?$")
    """Roles, comma-separated, that need a second factor: without one a session has none of their scopes. The same for
    all services."""
    environment: Environment = Environment.PRODUCTION
    log_level: Annotated[str, BeforeValidator(str.lower)] = Field(
        default="info", pattern="^(debug|info|warning|error)$"
    )
    max_concurrent_calls: int = Field(default=200, ge=1)
    """Calls in flight before further ones are shed with OVERLOADED."""
    rate_limit_factor: int = Field(default=1, ge=1)
    """Multiplies the rates of the contract, and what one network may do to all addresses together. Above 1 in tests and
    for load from one place.
    """
    drain_seconds: float = Field(default=5, ge=0)
    """How long calls in flight may take after SIGTERM."""

    def redis_logins(self) -> Logins | None:
        """What takes the place of the password in `redis_url`."""
        return Logins.of(self.redis_secret)

    @property
    def spiffe_ids(self) -> SpiffeIds:
        """The identities of callers."""
        return SpiffeIds(self.trust_domain, self.spiffe_path)

    @property
    def roles_with_mfa(self) -> frozenset[str]:
        """`mfa_roles`, one by one."""
        return frozenset(filter(None, self.mfa_roles.split(",")))

    @property
    def accepted_algorithms(self) -> frozenset[str]:
        """`token_algorithms`, one by one."""
        return frozenset(self.token_algorithms.split(","))


class DatabaseSettings(Settings):
    """Of a service with a database of its own."""

    database_url: SecretStr
    """`postgresql://role:password@host/database` of the runtime role."""
    database_secret: SecretReferences = ""
    """Where its password is, or user name and password as `{"username": …, "password": …}`. They take the place of
    those in DATABASE_URL, and are read again for each connection: they may be rotated at any time."""


class AwsSettings(Settings):
    """Of a service that calls AWS."""

    aws_region: str = Field(min_length=1)
    aws_endpoint_url: str | None = None
    """Set where the AWS APIs are emulated; unset in AWS."""


class EventSettings(AwsSettings):
    """Of a service that writes audit events."""

    event_bus: str = Field(min_length=1)
    """Name of the EventBridge bus for audit events."""


class MessageSettings(AwsSettings):
    """Of a service that writes to people."""

    messages_topic_arn: str = Field(pattern="^arn:")
    """SNS topic for messages to people."""
