"""SPIFFE ids of the mesh's nodes: how a node is named in its certificate, and which node a certificate names.

The SPIFFE ID and its trust domain: https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md.
"""

import re
from dataclasses import dataclass
from functools import cached_property

TRUST_DOMAIN = "authmesh"
"""Of the mesh, where nothing names another."""
PATH = "{node}"
"""The path that this mesh gives by itself. cert-manager's driver gives `ns/<namespace>/sa/{node}`."""
TRUST_DOMAIN_PATTERN = r"^[a-z0-9._-]+$"
PATH_PATTERN = r"^([A-Za-z0-9._-]+/)*\{node\}$"
_NODE = r"[a-z0-9-]+"


@dataclass(frozen=True)
class SpiffeIds:
    """The ids of one mesh."""

    trust_domain: str = TRUST_DOMAIN
    path: str = PATH

    def of(self, node: str) -> str:
        """The id of a node or of the gateway."""
        return f"{self.prefix}{node}"

    def node(self, spiffe_id: str) -> str | None:
        """The node that an id names; None when it is not of this mesh."""
        found = self._pattern.fullmatch(spiffe_id)
        return found[1] if found else None

    @property
    def prefix(self) -> str:
        """What every id of this mesh begins with."""
        return f"spiffe://{self.trust_domain}/{self.path.removesuffix(PATH)}"

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(f"{re.escape(self.prefix)}({_NODE})")
