"""Kustomize itself, built by Go, and copies of deploy/kubernetes that it can build."""

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any

import yaml

from mesh.cloudformation.settings import settings
from mesh.cloudformation.stacks import NEEDED, chosen
from mesh.model.mesh import load_mesh
from tests.kit.go import MissingError, go

KUSTOMIZE = "sigs.k8s.io/kustomize/kustomize/v5@v5.7.1"
DEPLOY = Path(__file__).parents[2] / "deploy" / "kubernetes"
NODES = tuple(load_mesh().nodes)


async def run(*command: str | Path, **environment: str) -> str:
    """What a command prints; the test fails with what it said when it fails."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, error = await process.communicate()
    assert process.returncode == 0, error.decode()
    return output.decode()


async def installed(folder: Path) -> Path:
    """The program.

    Raises:
        MissingError: it can't be had here.
    """
    try:
        await run(go(), "install", KUSTOMIZE, GOBIN=str(folder), GOFLAGS="-trimpath")
    except AssertionError as error:
        raise MissingError(f"Kustomize can't be built: {str(error).splitlines()[-1]}") from None
    return folder / "kustomize"


async def objects(kustomize: Path, folder: Path) -> list[Any]:
    """What a folder comes to."""
    return list(yaml.safe_load_all(await run(kustomize, "build", folder)))


def deployable(folder: Path) -> Path:
    """A copy of deploy/kubernetes with the files that `authmesh aws settings` writes."""
    copy = folder / "kubernetes"
    shutil.copytree(DEPLOY, copy)
    found = [(stack, dict.fromkeys(stack.template.body["Outputs"], "value")) for stack in chosen(NEEDED)]
    for name, text in settings(found, NODES, "eu-central-1").items():
        (copy / "overlays" / "eks" / name).write_text(text)
    return copy


def without_driver(deploy: Path) -> Path:
    """An overlay for clusters without the driver for identities."""
    overlay = deploy / "overlays" / "plain"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text("resources: [../../base]\ncomponents: [../../base/secret-identities]\n")
    return overlay
