"""Holds rendered configuration against Envoy itself: `envoy --mode validate`, with certificates made for it."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from cryptography.x509 import DNSName

from mesh.contract import Contract
from mesh.local.authority import MeshAuthorities
from mesh.local.infra import Infra
from mesh.model.mesh import Mesh
from mesh.render.envoy import TokenRules, render
from mesh.render.envoy.renderer import placed

SECONDS = 60
"""For one Envoy to read its files."""
_SAID = 2000


def faults(mesh: Mesh, contract: Contract, tokens: TokenRules) -> Iterator[tuple[str, str]]:
    """Each node's name, as soon as it was looked at, and what Envoy says is wrong with its files: nothing, as a rule.

    Raises:
        OperatorError: there is no Envoy, or no place for files.
        RenderError: mesh.yaml disagrees with the access rules.
    """
    envoy = Infra.find().envoy
    gateway = mesh.virtual_gateway.name
    with tempfile.TemporaryDirectory(prefix="authmesh-check-") as directory:
        folder = Path(directory)
        authorities = MeshAuthorities.load_or_create(
            folder / "authorities", folder / "certificates", mesh.spiffe_ids, (DNSName("localhost"),)
        )
        authorities.issue((*mesh.nodes, gateway))
        for node in (*mesh.nodes, gateway):
            config = folder / node
            config.mkdir()
            placement = replace(
                placed(mesh, node),
                config=config,
                certificates=authorities.certificates(node),
                access_log=config / "access.log",
                reload=False,
                public_certificates=authorities.public_certificates if node == gateway else None,
            )
            for name, text in render(mesh, contract, node, placement, tokens).items():
                (config / name).write_text(text)
            yield node, _said(envoy, config)


def refusal(render_into: Callable[[Path], Mapping[str, str]]) -> str:
    """What an Envoy says is wrong with its files: nothing, as a rule.

    Args:
        render_into: Gives the files, for the directory that they will be in.

    Raises:
        OperatorError: there is no Envoy.
    """
    envoy = Infra.find().envoy
    with tempfile.TemporaryDirectory(prefix="authmesh-check-") as directory:
        for name, text in render_into(Path(directory)).items():
            (Path(directory) / name).write_text(text)
        return _said(envoy, Path(directory))


def _said(envoy: Path, config: Path) -> str:
    done = subprocess.run(
        [str(envoy), "--mode", "validate", "-c", str(config / "bootstrap.yaml"), "--log-level", "error"],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
        env={"PATH": os.defpath},
    )
    return "" if done.returncode == 0 else done.stderr[-_SAID:]
