"""The development server of docs/web.md in front of the mesh: a page needs no CORS, and is told why it can't have the
cookie."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from mesh.local.ports import free_port
from tests.e2e.conftest import Person, RunningMesh, eventually
from tests.kit.pages import npm_install, write_listing

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")]


@pytest.fixture
async def page(mesh: RunningMesh, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A browser's view of the development server: every request carries the page's origin."""
    tools = await npm_install(tmp_path, "vite@7")
    listing = write_listing("docs/web.md", tmp_path, "vite.config.js")
    (tmp_path / "vite.config.js").write_text(listing.replace("https://localhost:8443", mesh.status["edge"]))
    (tmp_path / ".mesh").symlink_to(mesh.home)
    port = free_port()
    server = await asyncio.create_subprocess_exec(
        tools / "vite", "--port", str(port), "--strictPort", cwd=tmp_path, env=os.environ | {"AUTHMESH": str(tmp_path)},
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    origin = f"http://localhost:{port}"
    try:
        async with httpx.AsyncClient(base_url=origin, headers={"origin": origin}, timeout=15) as http:

            async def serves() -> bool:
                try:
                    return (await http.get("/.well-known/jwks.json")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(serves)
            yield http
    finally:
        server.terminate()
        await server.wait()


async def test_a_page_behind_vite_signs_in_and_is_told_that_the_cookie_needs_https(
    page: httpx.AsyncClient, person: Person
) -> None:
    credentials = {"email": person.email, "password": person.password, "clientId": "demo"}
    answer = await page.post("/v1/auth:signIn", json=credentials)
    assert answer.json()["tokens"]["refreshToken"].startswith("amrt_")
    refused = await page.post("/v1/auth:signIn", json=credentials, headers={"x-authmesh-refresh": "cookie"})
    assert (refused.status_code, refused.json()["details"][0]["reason"]) == (403, "CALLER_NOT_ALLOWED")
    assert "serve the page over https" in refused.json()["message"]
