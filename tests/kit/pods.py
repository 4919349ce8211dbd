"""Pods on this machine: Envoy with the files that a rendered Deployment mounts, laid out as a kubelet lays them out.

Paths of the pod become paths below a folder, and addresses of the cluster become ports of this machine. The rest is
what Kubernetes would be given.
"""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

from mesh.local.infra import Infra
from mesh.local.ports import free_port
from mesh.render.renderer import Files
from tests.kit.envoy_chain import eventually


class Cluster:
    """Ports in the place of addresses."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._ports: dict[tuple[str, int], int] = {}

    def port(self, node: str, port: int) -> int:
        """Of this machine, for one of a pod."""
        return self._ports.setdefault((node, port), free_port())

    def moved(self, node: str, value: Any) -> Any:
        """Envoy's configuration of a pod with the addresses of this machine."""
        if isinstance(value, list):
            return [self.moved(node, item) for item in value]
        if not isinstance(value, dict):
            return value
        if "address" in value and "port_value" in value:
            name, _, rest = str(value["address"]).partition(".")
            assert rest == "0.0.0" or rest == f"{self._namespace}.svc.cluster.local.", value
            return {"address": "127.0.0.1", "port_value": self.port(node if name == "0" else name, value["port_value"])}
        return {key: self.moved(node, item) for key, item in value.items()}


class EnvoyPod:
    """The Envoy of a node's pod."""

    def __init__(
        self, folder: Path, cluster: Cluster, files: Files, node: str, certificates: Mapping[str, Path]
    ) -> None:
        """Initializes the instance.

        Args:
            folder: A short path of its own.
            cluster: Where the others are.
            files: What was rendered.
            node: Whose.
            certificates: What is mounted from secrets, by the name of the volume.
        """
        self.node, self._folder, self._cluster = node, folder, cluster
        deployment = next(one for one in yaml.safe_load_all(files[f"{node}.yaml"]) if one["kind"] == "Deployment")
        pod = deployment["spec"]["template"]["spec"]
        self._annotations: Mapping[str, str] = deployment["spec"]["template"]["metadata"]["annotations"]
        self.container = next(
            one for one in (*pod.get("initContainers", ()), *pod["containers"]) if one["name"] == "envoy"
        )
        self._mounts = {mount["mountPath"]: folder / mount["name"] for mount in self.container["volumeMounts"]}
        for name, source in certificates.items():
            (folder / name).symlink_to(source)
        for directory in self._mounts.values():
            directory.mkdir(exist_ok=True)
        self._generation = 0
        self.configure(files)
        self.process: asyncio.subprocess.Process | None = None

    def path(self, inside: str) -> Path:
        """Where a file of the pod is here."""
        mount = next(mount for mount in self._mounts if inside == mount or inside.startswith(f"{mount}/"))
        return Path(str(self._mounts[mount]) + inside.removeprefix(mount))

    def configure(self, files: Files) -> None:
        """Gives the ConfigMap other content, as a kubelet does: all files at once, by one link that is replaced."""
        config = self._mounts["/etc/envoy"]
        self._generation += 1
        content = config / f"..{self._generation}"
        content.mkdir()
        for name, text in files.items():
            if name.startswith(f"envoy/{self.node}/"):
                moved = self._cluster.moved(self.node, yaml.safe_load(text))
                written = json.dumps(moved)
                for inside, here in self._mounts.items():
                    written = written.replace(f'"{inside}', f'"{here}')
                file = content / name.rpartition("/")[2]
                file.write_text(written)
                link = config / file.name
                if not link.is_symlink():
                    link.symlink_to(Path("..data") / file.name)
        (config / "..new").symlink_to(content.name)
        (config / "..new").rename(config / "..data")

    async def start(self) -> None:
        """Starts it as the container says, and waits for its startup probe."""
        arguments = [str(self.path(one)) if one.startswith("/etc/") else one for one in self.container["args"]]
        with (self._folder / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                str(Infra.find().envoy), *arguments, stdout=log, stderr=log
            )

        async def started() -> bool:
            assert self.process is not None
            assert self.process.returncode is None, (self._folder / "log").read_text()[-2000:]
            return await self.probe("startupProbe") == 200

        await eventually(started)

    async def stop(self) -> None:
        """Ends it."""
        if self.process is not None and self.process.returncode is None:
            self.process.terminate()
            await self.process.wait()

    async def probe(self, name: str) -> int:
        """What a kubelet is answered; 0 where no one answers."""
        asked = self.container[name]["httpGet"]
        (port,) = (one["containerPort"] for one in self.container["ports"] if one["name"] == asked["port"])
        async with httpx.AsyncClient(timeout=2) as client:
            try:
                address = f"http://127.0.0.1:{self._cluster.port(self.node, port)}{asked['path']}"
                return (await client.get(address)).status_code
            except httpx.TransportError:
                return 0

    async def metrics(self) -> str:
        """What a scraper is answered where the annotations of the pod lead it."""
        port = self._cluster.port(self.node, int(self._annotations["prometheus.io/port"]))
        async with httpx.AsyncClient(timeout=5) as client:
            return (await client.get(f"http://127.0.0.1:{port}{self._annotations['prometheus.io/path']}")).text

    async def admin(self, path: str) -> str:
        """What its administration says."""
        transport = httpx.AsyncHTTPTransport(uds=str(self.path("/run/envoy/admin")))
        async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
            return (await client.get(path)).text
