"""Brings a changed mesh.yaml to the Envoys of a mesh that runs: no restart, and no call that fails for it.

Envoy takes a file up when another one is moved over it. The order is what keeps calls going: new clusters first, beside
the old ones; then the routes and listeners that name them; then the clusters that no route names any more go. Each step
waits until every Envoy says that it runs the new version. When one refuses, all get back what they had.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from mesh.contract import Contract
from mesh.local import probes
from mesh.model.mesh import Mesh
from mesh.operator.errors import OperatorError
from mesh.operator.secret_file import write_private
from mesh.render.envoy import BOOTSTRAP_FILE, Placement, TokenRules, render
from mesh.render.envoy.configuration import CLUSTERS_FILE, LISTENERS_FILE
from mesh.render.envoy.resource import discovery

TAKEN_SECONDS = 20.0
"""For an Envoy to take up a file: a new cluster waits for the first health checks of its endpoints."""
_LOOK_SECONDS = 0.05
_ASKED = 4
"""How often an Envoy is asked before it counts as one that does not answer."""
_STATS = "/stats?format=json&filter=(version_text|warming_clusters|listeners_warming|update_rejected|update_failure)$"
_REFUSALS = ("update_rejected", "update_failure")
"""What it can read and can't use, and what it can't read."""
_SUBSCRIPTIONS = {CLUSTERS_FILE: "cluster_manager.cds", LISTENERS_FILE: "listener_manager.lds"}
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Files = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Placements:
    """Where the Envoys of a running mesh are: all that its files depend on beside mesh.yaml and the contract."""

    tokens: TokenRules
    envoys: Mapping[str, Placement]
    """By node; the edge among them."""
    addition: Path | None
    """The mesh file of a service of one's own that runs with the others."""

    def write(self, file: Path) -> None:
        """Keeps them for commands.

        Raises:
            OperatorError: the file can't be written.
        """
        write_private(file, _PLACEMENTS.dump_json(self, indent=1) + b"\n")

    @classmethod
    def read(cls, file: Path) -> "Placements":
        """Those of the mesh that was started last.

        Raises:
            OperatorError: there are none, or they are of another release.
        """
        try:
            return _PLACEMENTS.validate_json(file.read_bytes())
        except (OSError, ValidationError):
            raise OperatorError(f"{file} can't be read: start the mesh again with `make run-mesh`") from None


_PLACEMENTS = TypeAdapter(Placements)


@dataclass(frozen=True, slots=True)
class Change:
    """What one Envoy is to run instead of what it runs."""

    node: str
    placement: Placement
    before: Files
    after: Files

    @property
    def files(self) -> list[str]:
        """Names of the files that differ."""
        return sorted(name for name in {*self.before, *self.after} if self.before.get(name) != self.after.get(name))

    @property
    def needs_restart(self) -> bool:
        """Whether the bootstrap differs, which an Envoy reads once."""
        return BOOTSTRAP_FILE in self.files


def changes(mesh: Mesh, contract: Contract, running: Placements) -> list[Change]:
    """What has to change for the running Envoys to be those of `mesh`; Envoys that stay as they are left out.

    Raises:
        OperatorError: the change needs processes or Envoys to start anew, or files of the Envoys can't be read. Nothing
            was changed.
        RenderError: mesh.yaml disagrees with the access rules.
    """
    wanted = {*mesh.nodes, mesh.virtual_gateway.name}
    if differing := sorted(wanted ^ {*running.envoys}):
        raise OperatorError(
            f"nodes come or go ({', '.join(differing)}), and with them processes: start the mesh again with "
            "`make run-mesh`"
        )
    found = []
    for node, placement in running.envoys.items():
        change = Change(
            node, placement, _files(placement.config), render(mesh, contract, node, placement, running.tokens)
        )
        if change.files and not placement.reload:
            raise OperatorError(
                "the Envoys of this mesh don't watch their files (RELOAD=no, or sysctl fs.inotify.max_user_instances "
                "left too few): start it again with `make run-mesh`"
            )
        if change.files:
            found.append(change)
    if restarts := [change.node for change in found if change.needs_restart]:
        raise OperatorError(
            f"what an Envoy reads at its start changes for {', '.join(restarts)} (names, maxHeapBytes, maxConnections "
            "of the gateway): start the mesh again with `make run-mesh`"
        )
    return found


async def apply(found: Sequence[Change]) -> AsyncIterator[str]:
    """Brings the changes to all Envoys, and says after each step what is done.

    Raises:
        OperatorError: an Envoy refuses, or does not answer. All have what they had before.
    """
    steps = (
        ("clusters are there", {change.node: _clusters(change) for change in found}),
        ("routes and listeners changed", {change.node: _without(change.after, CLUSTERS_FILE) for change in found}),
        ("done", {change.node: change.after for change in found}),
    )
    try:
        for told, files in steps:
            await _brought(found, files)
            yield told
    except OperatorError as refused:
        try:
            await _brought(found, {change.node: change.before for change in found})
        except OperatorError as error:
            raise OperatorError(f"{refused}; and back: {error}: start the mesh again with `make run-mesh`") from None
        raise OperatorError(f"{refused}. All Envoys have what they had before.") from None
    for change in found:
        for name in {*change.before} - {*change.after}:
            (change.placement.config / name).unlink(missing_ok=True)


async def _brought(found: Sequence[Change], files: Mapping[str, Files]) -> None:
    """Writes files of every Envoy, and waits until each runs them."""
    seen = {change.node: await _told(change.placement) for change in found}
    for change in found:
        for name, text in files[change.node].items():
            if _text(change.placement.config / name) != text:
                write_private(change.placement.config / name, text.encode())
    await asyncio.gather(*(_taken(change, files[change.node], seen[change.node]) for change in found))


async def _taken(change: Change, files: Files, before: Mapping[str, Any]) -> None:
    wanted = {
        prefix: _version(text) for name, text in files.items() if (prefix := _subscription(name)) and _version(text)
    }
    deadline = asyncio.get_running_loop().time() + TAKEN_SECONDS
    while True:
        told = await _told(change.placement)
        if refused := [
            prefix
            for prefix in wanted
            if any(_of(told, prefix, name) > _of(before, prefix, name) for name in _REFUSALS)
        ]:
            raise OperatorError(f"the Envoy of {change.node} refuses {', '.join(refused)}: its log says why")
        versions = {prefix: _of(told, prefix, "version_text") for prefix in wanted}
        warming = _of(told, "cluster_manager", "warming_clusters") or _of(
            told, "listener_manager", "total_listeners_warming"
        )
        if versions == wanted and not warming:
            return
        if asyncio.get_running_loop().time() > deadline:
            lacks = [prefix for prefix, version in wanted.items() if versions[prefix] != version] or ["warm clusters"]
            raise OperatorError(f"the Envoy of {change.node} has not taken {', '.join(lacks)} in {TAKEN_SECONDS:.0f} s")
        await asyncio.sleep(_LOOK_SECONDS)


async def _told(placement: Placement) -> dict[str, Any]:
    """Versions and refusals of subscriptions, as the Envoy counts them. One with much to take up is slow to tell."""
    for _ in range(_ASKED):
        answer = await probes.http_get(placement.admin_socket, _STATS)
        if answer is not None and answer[0] == 200:
            break
        await asyncio.sleep(_LOOK_SECONDS)
    else:
        raise OperatorError(f"the Envoy at {placement.admin_socket} does not answer: `authmesh status` says how it is")
    return {stat["name"]: stat["value"] for stat in json.loads(answer[1])["stats"] if "name" in stat}


def _of(told: Mapping[str, Any], prefix: str, name: str) -> Any:
    """A figure of a subscription; that of a route configuration stands behind the listener's own prefix."""
    return next((value for key, value in told.items() if key.endswith(f"{prefix}.{name}")), 0)


def _subscription(file: str) -> str | None:
    if file in _SUBSCRIPTIONS:
        return _SUBSCRIPTIONS[file]
    name = file.removesuffix(".yaml")
    return f"rds.{name}" if name.startswith("rds_") else None


def _clusters(change: Change) -> Files:
    """The clusters of both: routes of before and of after have where to go."""
    after = _resources(change.after[CLUSTERS_FILE])
    names = {cluster["name"] for cluster in after}
    leaving = [cluster for cluster in _resources(change.before[CLUSTERS_FILE]) if cluster["name"] not in names]
    both = [{key: value for key, value in cluster.items() if key != "@type"} for cluster in (*after, *leaving)]
    return {CLUSTERS_FILE: discovery("cluster.v3.Cluster", both)}


def _without(files: Files, name: str) -> Files:
    return {file: text for file, text in files.items() if file != name}


def _resources(text: str) -> list[dict[str, Any]]:
    return list(yaml.load(text, Loader=_Loader)["resources"])


def _version(text: str) -> str:
    head = text.split("\n", 1)[0]
    return head.removeprefix("version_info: ") if head.startswith("version_info: ") else ""


def _files(folder: Path) -> dict[str, str]:
    try:
        return {file.name: file.read_text() for file in sorted(folder.glob("*.yaml"))}
    except OSError as error:
        raise OperatorError(f"{error.filename} can't be read: {error.strerror}") from None


def _text(file: Path) -> str | None:
    try:
        return file.read_text()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OperatorError(f"{file} can't be read: {error.strerror}") from None
