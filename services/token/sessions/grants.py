"""Which scopes a person gets.

What the roles allow, what the client may ask for, and what was asked for, intersected.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from mesh.errors import field_invalid
from mesh.model.document import read_model
from services.token.clients.client import Client, Scope


class RoleScopes(BaseModel):
    """The map from roles to scopes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default: frozenset[Scope]
    """What everyone may have."""
    roles: Mapping[str, frozenset[Scope]]

    @property
    def known(self) -> frozenset[str]:
        """Every scope that some rule grants."""
        return self.default.union(*self.roles.values())

    def allowed(self, roles: Collection[str]) -> frozenset[str]:
        """What a person with these roles may have. A role that the map doesn't know grants nothing."""
        return self.default.union(*(self.roles.get(role, frozenset()) for role in roles))


def load_role_scopes(file: Path) -> RoleScopes:
    """Reads the map.

    Raises:
        DocumentError: naming the file and every place that is wrong.
    """
    return read_model(file, RoleScopes)


def check_scopes(requested: Collection[str], client: Client, role_scopes: RoleScopes) -> None:
    """Judges scopes without knowing who they are for.

    Args:
        requested: Empty for all that may be had.
        client: Who asks.
        role_scopes: The rules.

    Raises:
        InvalidArgument: FIELD_INVALID `scopes`: a scope that no rule grants to anyone, or none that this client may
            have.
    """
    if unknown := set(requested) - role_scopes.known:
        raise field_invalid("scopes", f"no rule grants {' '.join(sorted(unknown))[:100]}")
    if requested and client.scopes.isdisjoint(requested):
        raise field_invalid("scopes", "this client can have none of these scopes")


def grant(
    requested: Collection[str], client: Client, roles: Collection[str], role_scopes: RoleScopes
) -> frozenset[str]:
    """The scopes of a new session.

    Args:
        requested: Empty for all that may be had. What this person or client may not have is left out, as RFC 6749
            section 3.3 allows.
        client: Who asks.
        roles: The person's.
        role_scopes: The rules.

    Raises:
        InvalidArgument: FIELD_INVALID `scopes`: a scope that no rule grants to anyone, or nothing is left.
    """
    check_scopes(requested, client, role_scopes)
    granted = role_scopes.allowed(roles) & client.scopes
    if requested:
        granted &= frozenset(requested)
        if not granted:
            raise field_invalid("scopes", "this user can have none of these scopes with this client")
    return granted
