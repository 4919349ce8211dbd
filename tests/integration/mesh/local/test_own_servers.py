"""A mesh on the user's own PostgreSQL, Valkey and AWS endpoint."""

import json
from pathlib import Path

import pytest

from mesh.local import probes
from mesh.local.components import aws_emulator, postgres, valkey
from mesh.local.ports import HOST
from tests.e2e.conftest import running
from tests.integration.mesh.local.test_run import authmesh


async def test_it_uses_them_and_leaves_them_running(
    postgres_server: postgres.Postgres, valkey_server: valkey.Valkey, aws_server: aws_emulator.AwsEmulator, tmp_path: Path
) -> None:
    own = {"DATABASE_URL": postgres_server.admin_url, "REDIS_URL": valkey_server.url, **aws_server.environment}
    async with running(tmp_path / "mesh", **own) as mesh:
        assert not {"postgres", "valkey", "aws"} & {row["name"] for row in mesh.status["processes"]}
        assert mesh.status["aws_endpoint_url"] == aws_server.endpoint_url
        demo = mesh.status["demo"]
        request = {"email": demo["email"], "password": demo["password"], "clientId": demo["client_id"]}
        code, _, errors = await mesh.authmesh("call", "AuthService/SignIn", json.dumps(request))
        assert code == 0, errors
    assert await postgres_server.program.healthy()
    assert await valkey_server.program.healthy()
    assert await probes.http_ok((HOST, aws_server.port), "/_ministack/health")


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("DATABASE_URL", "postgresql://admin:s3cret@127.0.0.1:1/postgres"),
        ("REDIS_URL", "redis://:s3cret@127.0.0.1:1"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
    ],
)
async def test_one_that_does_not_answer_is_named_in_one_line(name: str, url: str, tmp_path: Path) -> None:
    code, _, errors = await authmesh(tmp_path / "mesh", "run", **{name: url, "EDGE_PORT": "0"})
    assert code == 1
    assert name in errors
    assert errors.count("\n") == 1
    assert "s3cret" not in errors
