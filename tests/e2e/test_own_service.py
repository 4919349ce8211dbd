"""The service of docs/services.md runs with the others, behind a sidecar of its own, and the edge routes to it."""

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import RunningMesh, running
from tests.kit.greeter import make


async def signed_in(mesh: RunningMesh) -> str:
    demo = mesh.status["demo"]
    request = {"email": demo["email"], "password": demo["password"], "clientId": demo["client_id"]}
    status, output, errors = await mesh.authmesh("call", "AuthService/SignIn", json.dumps(request))
    assert status == 0, errors
    return str(json.loads(output)["tokens"]["accessToken"])


@pytest.mark.slow
async def test_the_listed_service_is_called_through_the_edge(tmp_path: Path) -> None:
    async with running(tmp_path / "mesh", MESH=str(await make(tmp_path))) as mesh:
        assert mesh.row("greeter")["health"] == mesh.row("greeter-sidecar")["health"] == "healthy"
        token = await signed_in(mesh)
        status, output, errors = await mesh.authmesh("call", "Greeter/Greet", "--token", token)
        assert (status, errors) == (0, "")
        assert json.loads(output)["text"].startswith("Hello, ")
        status, _, errors = await mesh.authmesh("call", "Greeter/Greet")
        assert status == 1
        assert "TOKEN_MISSING" in errors
