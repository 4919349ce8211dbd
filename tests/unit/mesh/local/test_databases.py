"""Names, addresses and revisions of the services' databases."""

import sys
from pathlib import Path

import pytest

from mesh.local.databases import ServiceDatabase, plan
from mesh.model.mesh import load_mesh
from mesh.storage.revisions import newest_revision


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    versions = tmp_path / "some_service" / "migrations" / "versions"
    versions.mkdir(parents=True)
    (tmp_path / "some_service" / "__init__.py").write_text("raise AssertionError('imported')")
    (versions / "0001_first.py").write_text('import nowhere\nrevision = "0001"\ndown_revision = None\n')
    (versions / "0002_second.py").write_text('revision: str = "0002"\ndown_revision: str | None = "0001"\n')
    monkeypatch.syspath_prepend(tmp_path)
    return "some_service"


def test_the_newest_revision_is_found_without_running_a_migration(package: str) -> None:
    assert newest_revision(package) == "0002"
    assert package not in sys.modules


def test_every_service_has_one() -> None:
    for node in load_mesh().nodes:
        assert newest_revision(f"services.{node}") is not None


def test_addresses_keep_everything_but_role_and_database() -> None:
    database = ServiceDatabase(
        "auth", "postgresql://admin:s%40cret@db.example:6432/postgres?sslmode=verify-full", "p/w", "o", Path("secret")
    )
    assert database.url == "postgresql://authmesh_auth:p%2Fw@db.example:6432/authmesh_auth?sslmode=verify-full"
    assert database.address == "postgresql://authmesh_auth@db.example:6432/authmesh_auth?sslmode=verify-full"
    assert database.owner_url == "postgresql://authmesh_auth_owner:o@db.example:6432/authmesh_auth?sslmode=verify-full"


def test_a_node_without_migrations_gets_no_database(tmp_path: Path) -> None:
    assert [database.node for database in plan("postgresql://h/postgres", ["auth", "nowhere"], tmp_path)] == ["auth"]


def test_owner_and_runtime_have_different_passwords(tmp_path: Path) -> None:
    (database,) = plan("postgresql://h/postgres", ["auth"], tmp_path)
    assert database.owner_password != database.runtime_password
