"""A real API server of Kubernetes with its etcd, built from their Go modules, and nothing of a cluster behind it."""

import asyncio
import json
import os
import secrets
import shutil
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from mesh.local.ports import free_port
from tests.e2e.conftest import eventually
from tests.kit.go import MissingError, go

MODULES = Path(__file__).parents[1] / "kubernetes" / "modules"
BUILD_SECONDS = 1200
_CRDS = {
    "github.com/cert-manager/cert-manager@v1.20.0": "deploy/crds",
    "sigs.k8s.io/gateway-api@v1.4.0": "config/crd/standard",
    "istio.io/api@v1.27.0": "kubernetes",
    "github.com/envoyproxy/gateway@v1.5.0": "charts/gateway-helm/crds/generated",
}
"""Modules that hold definitions of what we render, and where. That of TargetGroupBinding could not be had."""


async def _run(*command: str | Path, cwd: Path | None = None) -> str:
    process = await asyncio.create_subprocess_exec(
        *map(str, command), cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(BUILD_SECONDS):
            output, error = await process.communicate()
    except TimeoutError:
        process.kill()
        raise MissingError(f"`{command[1]}` of Go took longer than {BUILD_SECONDS} s") from None
    if process.returncode:
        raise MissingError(f"{' '.join(map(str, command[:3]))}: {error.decode().strip().splitlines()[-1]}")
    return output.decode()


async def build(module: str, package: str, folder: Path) -> Path:
    """A program of a module in `MODULES`. Go keeps what it compiled: a second build takes seconds."""
    program = folder / module
    # Not in the checkout's own folder: Go may want to write beside go.mod.
    source = folder / f"{module}-module"
    shutil.copytree(MODULES / module, source, dirs_exist_ok=True)
    await _run(go(), "build", "-trimpath", "-ldflags", "-s -w", "-o", program, package, cwd=source)
    return program


async def definitions() -> list[Any]:
    """The CustomResourceDefinitions of what we render, as their projects publish them."""
    found = []
    for module, folder in _CRDS.items():
        told = json.loads(await _run(go(), "mod", "download", "-json", module, cwd=Path("/")))
        for file in sorted(Path(told["Dir"], folder).glob("*.yaml")):
            found += [one for one in yaml.safe_load_all(file.read_text()) if one]
    return [one for one in found if one.get("kind") == "CustomResourceDefinition"]


@dataclass
class ApiServer:
    """Its REST API."""

    client: httpx.AsyncClient
    _resources: dict[tuple[str, str], Any] = field(default_factory=dict)

    async def create(self, resource: Any, *, dry_run: bool) -> httpx.Response:
        """Creates a resource, or has the server go all the way but for storing it. Unknown fields are refused."""
        version, kind = resource["apiVersion"], resource["kind"]
        known = await self._resource(version, kind)
        base = f"/api/{version}" if "/" not in version else f"/apis/{version}"
        namespace = resource["metadata"].get("namespace")
        path = f"{base}/namespaces/{namespace}/{known['name']}" if known["namespaced"] else f"{base}/{known['name']}"
        parameters = {"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        return await self.client.post(path, json=resource, params=parameters)

    async def knows(self, version: str, kind: str) -> bool:
        """Whether there is such a kind."""
        with suppress(KeyError):
            await self._resource(version, kind)
            return True
        return False

    async def _resource(self, version: str, kind: str) -> Any:
        if (version, kind) not in self._resources:
            answer = await self.client.get(f"/api/{version}" if "/" not in version else f"/apis/{version}")
            listed = answer.json().get("resources", ()) if answer.status_code == 200 else ()
            self._resources |= {(version, one["kind"]): one for one in listed if "/" not in one["name"]}
        return self._resources[version, kind]


@asynccontextmanager
async def api_server(folder: Path) -> AsyncIterator[ApiServer]:
    """Builds and starts one, with an etcd of its own.

    Raises:
        MissingError: it can't be built here.
    """
    etcd = await build("etcd", "go.etcd.io/etcd/server/v3", folder)
    server = await build("apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", folder)
    token, port, (client, peer) = secrets.token_hex(16), free_port(), (free_port(), free_port())
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "accounts.key").write_bytes(pem)
    (folder / "tokens.csv").write_text(f"{token},tester,tester,system:masters\n")
    store = f"http://127.0.0.1:{client}"
    async with (
        _started(
            folder / "etcd.log",
            etcd,
            f"--data-dir={folder}/etcd-data",
            f"--listen-client-urls={store}",
            f"--advertise-client-urls={store}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
        ),
        _started(
            folder / "apiserver.log",
            server,
            f"--etcd-servers={store}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--cert-dir={folder}/certificates",
            "--service-account-issuer=https://kubernetes.test",
            f"--service-account-key-file={folder}/accounts.key",
            f"--service-account-signing-key-file={folder}/accounts.key",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--token-auth-file={folder}/tokens.csv",
            "--authorization-mode=RBAC",
        ) as process,
        httpx.AsyncClient(
            base_url=f"https://127.0.0.1:{port}",
            verify=_certificate_of_its_own(),
            headers={"authorization": f"Bearer {token}"},
            timeout=30,
        ) as http,
    ):

        async def ready() -> bool:
            assert process.returncode is None, (folder / "apiserver.log").read_text()[-3000:]
            with suppress(httpx.TransportError):
                return (await http.get("/readyz")).text == "ok"
            return False

        await eventually(ready, within=120)
        yield ApiServer(http)


def _certificate_of_its_own() -> ssl.SSLContext:
    """The server makes one for itself, on the loopback address of this machine."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@asynccontextmanager
async def _started(log: Path, *command: str | Path) -> AsyncIterator[asyncio.subprocess.Process]:
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *map(str, command), stdout=output, stderr=output, env=dict(os.environ)
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(20):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


def of_kind(resources: Sequence[Any], *kinds: str) -> list[Any]:
    """Those of some kinds."""
    return [one for one in resources if one["kind"] in kinds]
