"""The file of identity providers: whose ID tokens are believed, and for whom they must be."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from mesh.model.document import DocumentError, read_model


def _https(value: str) -> str:
    if not value.startswith("https://") or any(character in value for character in " ?#@"):
        raise ValueError("must be an https:// address without query, fragment and user")
    return value


Https = Annotated[str, Field(max_length=500), AfterValidator(_https)]


class Provider(BaseModel):
    """One issuer (OpenID Connect Core 1.0)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: Https
    """`iss`, compared byte by byte."""
    audiences: frozenset[Annotated[str, Field(min_length=1, max_length=255)]] = Field(min_length=1)
    """Our client ids there: `aud` must be one of them, alone."""
    jwks_uri: Https | None = None
    """Where its keys are. By default what its discovery document says."""
    max_age_seconds: int = Field(default=600, ge=30, le=3600)
    """How old a token may be (`iat`)."""
    ca_file: Path | None = None
    """PEM of the authority that its certificate is from, for one that is not public."""


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    providers: Mapping[Annotated[str, Field(pattern="^[a-z][a-z0-9-]{0,30}$")], Provider]


def load_providers(file: Path) -> Mapping[str, Provider]:
    """The providers by their names.

    Raises:
        DocumentError: the file can't be read, or two providers are one issuer.
    """
    providers = read_model(file, _File).providers
    if len({provider.issuer for provider in providers.values()}) < len(providers):
        raise DocumentError(f"{file}: an issuer is there twice")
    return providers
