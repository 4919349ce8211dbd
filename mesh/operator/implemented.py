"""Which RPCs of the contract the installed services implement; the others answer NOT_IMPLEMENTED.

Read from their code without importing it: it is asked when someone mistyped a name.
"""

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from mesh.contract import Contract, Rpc

_SUFFIX = "Servicer"


def implemented(contract: Contract, package: str = "services") -> tuple[Rpc, ...]:
    """The RPCs that a servicer in the package overrides.

    All where the package is not installed, as in a client's environment.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return tuple(contract.rpcs.values())
    sources = (
        file.read_text(encoding="utf-8")
        for location in spec.submodule_search_locations
        for file in Path(location).rglob("*.py")
    )
    found = {method for source in sources if f"{_SUFFIX})" in source for method in _overridden(source)}
    return tuple(rpc for rpc in contract.rpcs.values() if (rpc.service.rpartition(".")[2], rpc.name) in found)


def _overridden(source: str) -> Iterator[tuple[str, str]]:
    """Service and method of each method that a subclass of a generated servicer has."""
    for statement in ast.parse(source).body:
        if not isinstance(statement, ast.ClassDef):
            continue
        for base in map(ast.unparse, statement.bases):
            if base.endswith(_SUFFIX):
                service = base.rpartition(".")[2].removesuffix(_SUFFIX)
                yield from (
                    (service, item.name)
                    for item in statement.body
                    if isinstance(item, ast.AsyncFunctionDef | ast.FunctionDef)
                )
