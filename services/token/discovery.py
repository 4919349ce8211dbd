"""The issuer's metadata (RFC 8414)."""

from collections.abc import Collection
from typing import Any


def metadata(issuer: str, scopes: Collection[str]) -> dict[str, Any]:
    """Names only what works for a stock client: the keys.

    Tokens are asked for in JSON or gRPC, not by the form posts that RFC 6749 wants, so no endpoint for them is
    advertised, and the two lists that would otherwise have default values say that they are empty.
    """
    return {
        "issuer": issuer,
        "jwks_uri": f"{issuer.rstrip('/')}/.well-known/jwks.json",
        "scopes_supported": sorted(scopes),
        "response_types_supported": [],
        "grant_types_supported": [],
    }
