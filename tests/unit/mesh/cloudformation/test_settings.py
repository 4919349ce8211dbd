"""Settings of the services from what the stacks made."""

from collections.abc import Mapping

import pytest

from mesh.cloudformation.settings import settings
from mesh.cloudformation.stacks import NEEDED, Stack, StackError, chosen
from mesh.model.mesh import load_mesh

NODES = tuple(load_mesh().nodes)
SECRET = "arn:aws:secretsmanager:eu-central-1:000000000000:secret:"


def outputs() -> list[tuple[Stack, dict[str, str]]]:
    """Each output with its own name as the value, but for those that go into addresses."""
    addresses = {"DatabaseAddress": "db.test", "DatabasePort": "5432", "CacheAddress": "cache.test"}
    return [
        (stack, {name: addresses.get(name, f"{SECRET}{name}") for name in stack.template.body["Outputs"]})
        for stack in chosen(NEEDED)
    ]


def variables(text: str) -> Mapping[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


def test_each_process_gets_what_it_must_have() -> None:
    files = settings(outputs(), NODES, "eu-central-1")
    assert set(files) == {"settings.env", "migrations/migrations.env", *(f"{node}.env" for node in NODES)}
    of_all = variables(files["settings.env"])
    assert of_all["AWS_REGION"] == "eu-central-1"
    assert of_all["REDIS_URL"] == "rediss://cache.test:6379"
    assert {"EVENT_BUS", "MESSAGES_TOPIC_ARN", "AUDIT_QUEUE_URL", "AUDIT_BUCKET", "AUDIT_CHECKPOINT_KEY"} <= set(of_all)
    for node in NODES:
        own = variables(files[f"{node}.env"])
        assert own["DATABASE_URL"] == f"postgresql://db.test:5432/authmesh_{node}?sslmode=require"
        assert own["DATABASE_SECRET"] == f"{SECRET}{node.title()}DatabaseSecretArn"


def test_only_token_may_write_to_valkey() -> None:
    files = settings(outputs(), NODES, "eu-central-1")
    assert variables(files["settings.env"])["REDIS_SECRET"] == f"{SECRET}CacheReaderSecretArn"
    with_own = {node for node in NODES if "REDIS_SECRET" in variables(files[f"{node}.env"])}
    assert with_own == {"token"}
    assert variables(files["token.env"])["REDIS_SECRET"] == f"{SECRET}CachePublisherSecretArn"


def test_migrations_get_the_secrets_of_owners_and_services_do_not() -> None:
    files = settings(outputs(), NODES, "eu-central-1")
    given = variables(files["migrations/migrations.env"])
    assert given["ADMIN_URL"] == "postgresql://db.test:5432/postgres?sslmode=require"
    assert given["ADMIN_SECRET"] == f"{SECRET}DatabaseAdminSecretArn"
    for node in NODES:
        assert given[f"{node.upper()}_OWNER_SECRET"] == f"{SECRET}{node.title()}OwnerSecretArn"
        assert given[f"{node.upper()}_DATABASE_SECRET"] == f"{SECRET}{node.title()}DatabaseSecretArn"
    others = "".join(text for name, text in files.items() if not name.startswith("migrations/"))
    assert "OWNER" not in others
    assert "ADMIN" not in others


def test_what_is_not_deployed_is_told_at_once() -> None:
    none: list[tuple[Stack, dict[str, str]]] = [(stack, {}) for stack in chosen(NEEDED)]
    with pytest.raises(StackError, match="authmesh-data, authmesh-events, authmesh-keys: `authmesh aws deploy`"):
        settings(none, NODES, "eu-central-1")
