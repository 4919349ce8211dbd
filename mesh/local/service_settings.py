"""Which settings of the services somebody may choose for a local mesh: all that `ProcessSettings` and its subclasses
have, by their variables, but those that follow from where things are on this machine.
"""

import ast
import importlib.util
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from mesh.local.errors import LocalMeshError

OF_THE_MACHINE = frozenset(
    (
        "NODE",
        "TRUST_DOMAIN",
        "SOCKET",
        "EGRESS",
        "ISSUER",
        "AUDIENCE",
        "EVENT_BUS",
        "MESSAGES_TOPIC_ARN",
        "ENVIRONMENT",
        "AWS_REGION",
    )
)
"""Every process has them, and so may a shell, for other programs: not read, without a word."""
OF_THE_STACK = frozenset(("NOTICES_QUEUE_URL", "AUDIT_QUEUE_URL", "AUDIT_BUCKET", "AUDIT_CHECKPOINT_KEY"))
"""What deploy/aws/events.yaml makes. Of another stack they would lead into its trail: refused."""
OF_THE_MESH = frozenset(("DATABASE_URL", "REDIS_URL", "AWS_ENDPOINT_URL", "JWKS_CACHE_SECONDS", "RATE_LIMIT_FACTOR"))
"""Chosen for all processes at once: see `mesh.local.options`."""


def chosen(node: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The settings of a service that the environment has. Empty is unset."""
    return {
        name: environment[name]
        for name in sorted(_variables(node) - OF_THE_MACHINE - OF_THE_STACK - OF_THE_MESH)
        if environment.get(name)
    }


def refuse_others(nodes: Iterable[str], environment: Mapping[str, str]) -> None:
    """Raises:
    LocalMeshError: the environment has a setting that can't be chosen here; it is named.
    """
    known = frozenset[str]().union(*map(_variables, nodes))
    if wrong := sorted(name for name in known & OF_THE_STACK if environment.get(name)):
        raise LocalMeshError(f"{wrong[0]} can't be chosen for a local mesh, which makes its own event stack: unset it")


@cache
def _variables(node: str) -> frozenset[str]:
    """Variables that a service reads. Its module is parsed and not imported: that would take longer than all else
    here.
    """
    return _fields("mesh.settings") | _fields(f"services.{node}.settings")


def _fields(module: str) -> frozenset[str]:
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return frozenset()
    if spec is None or spec.origin is None:
        return frozenset()
    classes = [
        statement
        for statement in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body
        if isinstance(statement, ast.ClassDef)
    ]
    return frozenset(
        statement.target.id.upper()
        for found in classes
        if found.name.endswith("Settings")
        for statement in found.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    )
