"""What services read from their environment, from the outputs of the stacks: files for Kustomize's generators.

An output of which its template says `Value of NAME` is that variable of every process; `Value of NAME of node` of one.
No value is a secret: of secrets the files name the ARN.
"""

import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote

from mesh.cloudformation.stacks import Stack, StackError
from mesh.storage.provisioning import database_name

MIGRATIONS = "migrations"
_VALUE = re.compile(r"Value of ([A-Z][A-Z0-9_]*)(?: of ([a-z][a-z0-9-]*))?")
_REDIS_PORT = 6379


def settings(stacks: Iterable[tuple[Stack, Mapping[str, str]]], nodes: Iterable[str], region: str) -> dict[str, str]:
    """The files, by their paths below the overlay.

    `settings.env` is for all services, `<node>.env` for one, `migrations/migrations.env` for what makes the databases.

    Args:
        stacks: With their outputs.
        nodes: Of mesh.yaml.
        region: Of AWS.

    Raises:
        StackError: an output is missing that the services need; with the stacks that have to be deployed.
    """
    of_all: dict[str, str] = {"AWS_REGION": region}
    of_one: dict[str, dict[str, str]] = {node: {} for node in (*nodes, MIGRATIONS)}
    known: dict[str, str] = {}
    missing: set[str] = set()
    for stack, outputs in stacks:
        known |= outputs
        for name, output in (stack.template.body.get("Outputs") or {}).items():
            found = _VALUE.match(str(output.get("Description", "")))
            if found and name not in outputs:
                missing.add(stack.name)
            elif found:
                target = of_all if found[2] is None else of_one.setdefault(found[2], {})
                target[found[1]] = outputs[name]
    if missing:
        raise StackError(f"not deployed, or by another release: {', '.join(sorted(missing))}: `authmesh aws deploy`")
    server = f"{known['DatabaseAddress']}:{known['DatabasePort']}"
    of_all["REDIS_URL"] = f"rediss://{known['CacheAddress']}:{_REDIS_PORT}"
    migrations = of_one.pop(MIGRATIONS) | {"AWS_REGION": region, "ADMIN_URL": _database(server, "postgres")}
    for node, own in of_one.items():
        if "DATABASE_SECRET" in own:
            own["DATABASE_URL"] = _database(server, database_name(node))
            migrations[f"{node.replace('-', '_').upper()}_DATABASE_SECRET"] = own["DATABASE_SECRET"]
    return {
        "settings.env": _lines(of_all),
        **{f"{node}.env": _lines(own) for node, own in of_one.items()},
        f"{MIGRATIONS}/{MIGRATIONS}.env": _lines(migrations),
    }


def _database(server: str, name: str) -> str:
    return f"postgresql://{server}/{quote(name)}?sslmode=require"


def _lines(values: Mapping[str, str]) -> str:
    return "".join(f"{name}={value}\n" for name, value in sorted(values.items()))
