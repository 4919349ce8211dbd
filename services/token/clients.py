"""The clients that may ask for tokens, from one validated file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from mesh.tokens.verifier import MAX_LIFETIME_SECONDS

Scope = Annotated[str, StringConstraints(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]{1,100}$")]
"""RFC 6749, section 3.3."""
ClientId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")]

DAY = 86_400
Content = TypeVar("Content", bound=BaseModel)


class FileInvalidError(ValueError):
    """A configuration file is wrong; the message names the file and the place."""


class Client(BaseModel):
    """An application."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    display_name: str = Field(max_length=100)
    confidential: bool
    """Whether it can keep a key secret. Such a client acts for itself and never for a person: nothing in a sign-in proves that it is it."""
    scopes: Annotated[frozenset[Scope], Field(strict=False, max_length=50)]
    """All that it may ever ask for."""
    access_token_seconds: int = Field(default=600, ge=1, le=MAX_LIFETIME_SECONDS)
    refresh_idle_seconds: int = Field(default=14 * DAY, ge=60, le=365 * DAY)
    """A refresh token unused for this long is dead."""
    session_seconds: int = Field(default=90 * DAY, ge=60, le=365 * DAY)
    """A session ends after this long, used or not."""
    refresh_grace_seconds: int = Field(default=30, ge=2, le=300)
    """How long a spent refresh token gets the same answer again. Two seconds at least: that long a race is a race."""
    session_limit: int = Field(default=0, ge=0, le=1000)
    """Sessions that one user may have with this client; 0: no limit."""
    instance_required: bool = False
    """Whether a session must name the installation."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.access_token_seconds > self.session_seconds:
            raise ValueError("access_token_seconds exceed session_seconds")
        return self


class _ClientsFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    clients: dict[ClientId, Client] = Field(min_length=1)


def load_clients(file: Path) -> Mapping[str, Client]:
    """Reads the clients, by id.

    Raises:
        FileInvalidError: naming the file and every place that is wrong.
    """
    return read_yaml(file, _ClientsFile).clients


def read_yaml(file: Path, content: type[Content]) -> Content:
    """Reads a YAML file of one shape.

    Raises:
        FileInvalidError: naming the file and every place that is wrong.
    """
    try:
        return content.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg']}" for item in error.errors(include_url=False))
        raise FileInvalidError(f"{file}: {wrong}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise FileInvalidError(f"{file}: {error}") from error
