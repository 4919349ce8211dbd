"""Where a node runs and what its tokens look like.

Everything that is not in mesh.yaml because it differs from machine to machine.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple


class Address(NamedTuple):
    """A TCP address."""

    host: str
    """An IP address, or a DNS name with one record for each replica."""
    port: int


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What sidecars demand of access tokens. The process checks the rest (type, lifetime, revocation)."""

    issuer: str
    audience: str
    jwks_cache: int
    """Seconds after which a sidecar fetches the JWKS again: how long it still admits a token whose key was revoked."""


@dataclass(frozen=True, slots=True)
class Placement:
    """One Envoy's files, sockets and addresses. Paths of sockets are at most 107 bytes."""

    config: Path
    """Directory that the rendered files are written to."""
    certificates: Path
    """Mesh identity: tls.crt (URI SAN `spiffe://<trust domain>/<name>`), tls.key, ca.crt. Read again when a file is
    moved into it."""
    admin_socket: Path
    """Envoy's admin interface, mode 0600."""
    access_log: Path
    """JSON lines."""
    nodes: Mapping[str, Address]
    """The ingress of every node of the mesh, as others dial it."""
    reload: bool = False
    """Whether a running Envoy takes up listeners, clusters and routes that were written anew (LDS, CDS and RDS by
    file). Each file that it watches costs an inotify instance, of which Linux gives a user 128 by default: where Envoy
    is restarted on a change anyway, everything goes into the bootstrap. Certificates are watched in any case."""
    ingress: Address | None = None
    """Nodes: where this sidecar's ingress listens."""
    service_socket: Path | None = None
    """Nodes: the process's socket."""
    egress_socket: Path | None = None
    """Nodes: where the process dials other services, mode 0600."""
    listener: Address | None = None
    """Gateway: the public listener."""
    additional_addresses: tuple[Address, ...] = ()
    """Gateway: where else the public listener listens."""
    public_certificates: Path | None = None
    """Gateway: tls.crt and tls.key that clients see."""
    cors_origins: tuple[str, ...] = field(default=())
    """Gateway: origins beside those of mesh.yaml."""
    openapi: Path | None = None
    """Gateway: the OpenAPI document of its JSON form, served to everyone at `/openapi.json`. For development."""
    observed: Address | None = None
    """Where this Envoy and the process behind it are looked at, in plain HTTP: by a kubelet at `/started` and `/ready`,
    and by a scraper of metrics at `/metrics` and `/metrics/envoy`. For the machine itself, or a network that only
    those two reach."""
    metrics_socket: Path | None = None
    """Nodes: where the process serves its metrics."""
    collector: Address | None = None
    """Where spans go, by OTLP/HTTP. None: calls get a trace id, which logs and events share, and no spans."""
    trace_percent: float | None = None
    """Gateway: percent of calls that are traced; mesh.yaml's when None."""
    rate_limit_factor: int = 1
    """Gateway: multiplies every rate limit of mesh.yaml, for load tests."""
