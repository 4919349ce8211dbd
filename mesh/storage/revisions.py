"""Which revision the migrations of a package lead to, read without running them."""

import ast
import importlib.util
from collections.abc import Sequence
from pathlib import Path


def newest_revision(package: str) -> str | None:
    """The revision that the migrations of a package lead to.

    It is read without running them: Alembic and SQLAlchemy take half a second to import.
    """
    revisions: dict[str, str | None] = {}
    for script in sorted((versions(package) or Path()).glob("*.py")):
        values = dict(_constants(ast.parse(script.read_text())))
        if revision := values.get("revision"):
            revisions[revision] = values.get("down_revision")
    heads = revisions.keys() - set(revisions.values())
    return heads.pop() if len(heads) == 1 else None


def _constants(module: ast.Module) -> Sequence[tuple[str, str | None]]:
    found = []
    for statement in module.body:
        targets: Sequence[ast.expr]
        if isinstance(statement, ast.Assign):
            targets, value = statement.targets, statement.value
        elif isinstance(statement, ast.AnnAssign):
            targets, value = [statement.target], statement.value or ast.Constant(None)
        else:
            continue
        if isinstance(value, ast.Constant) and (value.value is None or isinstance(value.value, str)):
            found += [(target.id, value.value) for target in targets if isinstance(target, ast.Name)]
    return found


def versions(package: str) -> Path | None:
    """The folder of a package's migrations; None where it has none. The package is not imported."""
    spec = importlib.util.find_spec(package)
    for location in (spec.submodule_search_locations or []) if spec else []:
        versions = Path(location) / "migrations" / "versions"
        if versions.is_dir():
            return versions
    return None
