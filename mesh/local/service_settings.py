"""Which settings of the services someone may choose for a local mesh.

All that their settings classes have, by their variables, but those that follow from where things are on this machine.
"""

import ast
import importlib.util
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from mesh.operator.errors import OperatorError
from mesh.operator.local_service import local_service

OF_THE_MACHINE = frozenset(
    (
        "NODE",
        "TRUST_DOMAIN",
        "SPIFFE_PATH",
        "SOCKET",
        "EGRESS",
        "METRICS",
        "ISSUER",
        "AUDIENCE",
        "EVENT_BUS",
        "MESSAGES_TOPIC_ARN",
        "ENVIRONMENT",
        "AWS_REGION",
        "DATABASE_SECRET",
        "REDIS_SECRET",
    )
)
"""Every process has them, and so may a shell, for other programs: not read, without a word."""
OF_THE_MESH = frozenset(("DATABASE_URL", "REDIS_URL", "AWS_ENDPOINT_URL", "JWKS_CACHE_SECONDS", "RATE_LIMIT_FACTOR"))
"""Chosen for all processes at once: see `mesh.local.options`."""


def chosen(node: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The settings of a service that the environment has. Empty is unset."""
    return {
        name: environment[name]
        for name in sorted(_variables(node) - OF_THE_MACHINE - local_service(node).outputs.keys() - OF_THE_MESH)
        if environment.get(name)
    }


def refuse_others(nodes: Iterable[str], environment: Mapping[str, str]) -> None:
    """Refuses settings that can't be chosen for a local mesh.

    Raises:
        OperatorError: the environment has a setting that can't be chosen here; it is named.
    """
    # Of another stack they would lead into its trail.
    made_here = {name for node in nodes for name in local_service(node).outputs}
    if wrong := sorted(name for name in made_here if environment.get(name)):
        raise OperatorError(f"{wrong[0]} can't be chosen for a local mesh, which makes its own event stack: unset it")


@cache
def _variables(node: str) -> frozenset[str]:
    """Variables that a service reads: those of its settings class and of the layers that it is made of.

    The modules are parsed and not imported: that would take longer than all else here.
    """
    layers, own = _classes("mesh.settings"), _classes(f"services.{node}.settings")
    wanted, found = list(own or ["ProcessSettings"]), frozenset[str]()
    while wanted:
        bases, fields = (own | layers).get(wanted.pop(), ((), frozenset()))
        wanted += bases
        found |= fields
    return found


def _classes(module: str) -> dict[str, tuple[tuple[str, ...], frozenset[str]]]:
    """The classes of settings in a module: the names of their bases, and the variables of their own."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return {}
    if spec is None or spec.origin is None:
        return {}
    return {
        statement.name: (
            tuple(base.id for base in statement.bases if isinstance(base, ast.Name)),
            frozenset(
                field.target.id.upper()
                for field in statement.body
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
            ),
        )
        for statement in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body
        if isinstance(statement, ast.ClassDef) and statement.name.endswith("Settings")
    }
