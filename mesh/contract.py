"""The contract as data.

Every RPC with its access rule, HTTP mapping and audit events, read from the descriptor set that `make gen` writes.

Interceptors, Envoy configuration, `authmesh call` and the tables in the docs are all derived from here, so they cannot
disagree.
"""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from authmesh.options.v1 import access_pb2, audit_pb2, limit_pb2
from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory


@dataclass(frozen=True, slots=True)
class HttpBinding:
    """One JSON form of an RPC (google.api.http)."""

    method: str
    """`GET`, `POST`, `PATCH`, `PUT` or `DELETE`."""
    template: str
    """Path template: `/v1/{name=users/*}`."""
    body: str
    """`*`, the name of the request field that the body is, or empty."""


@dataclass(frozen=True, slots=True)
class Rate:
    """How often one caller may call a method (`authmesh.options.v1.Rate`)."""

    requests: int
    """What may be called on end, after a rest."""
    seconds: float
    """How long it takes until as much may be called again."""

    def __str__(self) -> str:
        return f"{self.requests} times in {self.seconds:g} s"

    @property
    def per_second(self) -> float:
        """What may be called in the long run."""
        return self.requests / self.seconds

    def times(self, factor: float) -> "Rate":
        """The same, `factor` times as high."""
        return Rate(max(1, round(self.requests * factor)), self.seconds)


READING = Rate(300, 30.0)
"""Of a method with a token that declares NO_SIDE_EFFECTS and no rate."""
CHANGING = Rate(60, 30.0)
"""Of a method with a token that may change something and declares no rate."""
STREAMS = 10
"""Open streams of one caller, of a method that declares no number."""


@dataclass(frozen=True, slots=True)
class Rpc:
    """One method of the contract."""

    path: str
    """As HTTP/2 carries it: `/authmesh.token.v1.TokenService/RefreshToken`."""
    service: str
    """Full name: `authmesh.token.v1.TokenService`."""
    name: str
    input_type: str
    """Full name of the request message."""
    output_type: str
    """Full name of the response message."""
    server_streaming: bool
    client_streaming: bool
    access: access_pb2.AccessRule
    kind: str
    """Of access: `public`, `internal` or `authenticated`; empty without a rule."""
    rate: Rate | None
    """How often one caller may call it; None where there is no token that says who calls."""
    streams: int
    """How many streams of it one caller may have open."""
    cost: limit_pb2.Cost
    """The most that one call makes the mesh do."""
    audit: tuple[str, ...]
    """Audit events that the method may write, in dotted form."""
    changes_state: bool
    """Whether it may leave anything changed: it does not declare NO_SIDE_EFFECTS. Then it names at least one audit
    event."""
    idempotent: bool
    """Whether it declares an `idempotency_level`: only then may the mesh retry it."""
    http: tuple[HttpBinding, ...]
    """Its JSON forms; empty for internal methods."""


class Contract:
    """All RPCs, by path and by service. Immutable."""

    def __init__(self, descriptors: bytes, descriptor_file: Path) -> None:
        self.descriptors = descriptors
        self.descriptor_file = descriptor_file
        """The descriptor set on disk, for Envoy's transcoder."""
        rpcs: dict[str, Rpc] = {}
        services: dict[str, tuple[Rpc, ...]] = {}
        for file in self._files.file:
            for service in file.service:
                full_name = f"{file.package}.{service.name}"
                services[full_name] = tuple(_rpc(full_name, method) for method in service.method)
                rpcs |= {rpc.path: rpc for rpc in services[full_name]}
        self.rpcs: Mapping[str, Rpc] = MappingProxyType(rpcs)
        self.services: Mapping[str, tuple[Rpc, ...]] = MappingProxyType(services)

    @classmethod
    def load(cls) -> "Contract":
        """Reads the descriptor set that is installed with the generated code.

        Raises:
            FileNotFoundError: the generated code is not installed; `make gen` writes it.
        """
        package = importlib.util.find_spec("authmesh")
        for folder in (package.submodule_search_locations or []) if package else []:
            file = Path(folder) / "contract.binpb"
            if file.exists():
                return cls(file.read_bytes(), file)
        raise FileNotFoundError("authmesh/contract.binpb is missing: run `make gen`")

    @classmethod
    def read(cls, file: Path) -> "Contract":
        """The contract of a service of one's own: a descriptor set that `protoc --include_imports` wrote.

        Raises:
            OSError: the file can't be read.
            DecodeError: it is not a descriptor set.
        """
        return cls(file.read_bytes(), file)

    def joined(self, other: "Contract", file: Path) -> "Contract":
        """Both contracts as one, whose descriptor set is written to `file`. Of files that both have, ours stand.

        Raises:
            OSError: the file can't be written.
        """
        files = descriptor_pb2.FileDescriptorSet.FromString(self.descriptors)
        known = {found.name for found in files.file}
        theirs = descriptor_pb2.FileDescriptorSet.FromString(other.descriptors).file
        files.file.extend(found for found in theirs if found.name not in known)
        file.write_bytes(descriptors := files.SerializeToString())
        return Contract(descriptors, file)

    @cached_property
    def _files(self) -> descriptor_pb2.FileDescriptorSet:
        return descriptor_pb2.FileDescriptorSet.FromString(self.descriptors)

    @cached_property
    def without_comments(self) -> bytes:
        """The descriptor set for programs: less than a quarter of it is left."""
        files = descriptor_pb2.FileDescriptorSet.FromString(self.descriptors)
        for file in files.file:
            file.ClearField("source_code_info")
        return files.SerializeToString(deterministic=True)

    @cached_property
    def _pool(self) -> descriptor_pool.DescriptorPool:
        pool = descriptor_pool.DescriptorPool()
        for file in self._files.file:
            pool.Add(file)
        return pool

    def message_type(self, full_name: str) -> type[message.Message]:
        """The class of a message, made from the descriptors: for code that handles any RPC without knowing it.

        Raises:
            KeyError: no such message.
        """
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(full_name))


def _rpc(service: str, method: descriptor_pb2.MethodDescriptorProto) -> Rpc:
    levels = descriptor_pb2.MethodOptions
    access = method.options.Extensions[access_pb2.access]
    limit = method.options.Extensions[limit_pb2.limit]
    changes_state = method.options.idempotency_level != levels.NO_SIDE_EFFECTS
    return Rpc(
        path=f"/{service}/{method.name}",
        service=service,
        name=method.name,
        input_type=method.input_type.removeprefix("."),
        output_type=method.output_type.removeprefix("."),
        server_streaming=method.server_streaming,
        client_streaming=method.client_streaming,
        access=access,
        kind=access.WhichOneof("kind") or "",
        rate=_rate(limit, changes_state) if access.HasField("authenticated") else None,
        streams=limit.streams or STREAMS,
        cost=limit.cost,
        audit=tuple(method.options.Extensions[audit_pb2.audit].events),
        changes_state=changes_state,
        idempotent=method.options.idempotency_level in (levels.IDEMPOTENT, levels.NO_SIDE_EFFECTS),
        http=_bindings(method.options.Extensions[annotations_pb2.http]),
    )


def _rate(limit: limit_pb2.Limit, changes_state: bool) -> Rate:
    if limit.HasField("rate"):
        return Rate(limit.rate.requests, limit.rate.interval.ToTimedelta().total_seconds())
    return CHANGING if changes_state else READING


def _bindings(rule: http_pb2.HttpRule) -> tuple[HttpBinding, ...]:
    kind = rule.WhichOneof("pattern")
    if kind is None:
        return ()
    own = HttpBinding(method=kind.upper(), template=getattr(rule, kind), body=rule.body)
    return (own, *(binding for more in rule.additional_bindings for binding in _bindings(more)))
