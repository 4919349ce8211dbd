"""The clients that may ask for tokens: what one is, and the validated file that the first ones come from."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Protocol, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from mesh.model.document import read_model
from mesh.resources.etag import etag_of
from mesh.resources.name import CLIENT
from mesh.resources.text import clean
from mesh.storage.database import Transaction
from mesh.tokens.verifier import MAX_LIFETIME_SECONDS
from services.token.clients.keys import client_keys

Scope = Annotated[str, StringConstraints(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]{1,100}$")]
"""RFC 6749, section 3.3."""

DAY = 86_400
Content = TypeVar("Content", bound=BaseModel)


def _no_uuid(client_id: str) -> str:
    # It is the `sub` of the client's own tokens, and a person's `sub` is a UUID (RFC 9068, section 5).
    try:
        uuid.UUID(client_id)
    except ValueError:
        return client_id
    raise ValueError("must not read as a UUID")


def _text(jwks: Any) -> Any:
    """A file has the set in its own notation."""
    return json.dumps(jwks, separators=(",", ":")) if isinstance(jwks, dict) else jwks


def _jwks(jwks: str) -> str:
    client_keys(jwks)
    return jwks


ClientId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$"), AfterValidator(_no_uuid)]


class Client(BaseModel):
    """An application."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    display_name: Annotated[str, AfterValidator(clean), Field(max_length=100)]
    confidential: bool
    """Whether it can keep a key secret. Such a client acts for itself and never for a person: nothing in a sign-in
    proves that it is it."""
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
    jwks: Annotated[str, Field(max_length=16384), BeforeValidator(_text), AfterValidator(_jwks)] = ""
    """Public keys (RFC 7517) that a confidential client's assertions are verified with. Without one it gets no
    tokens."""
    disabled: bool = False
    """Whether it is shut out."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.access_token_seconds > self.session_seconds:
            raise ValueError("access_token_seconds exceed session_seconds")
        if self.jwks and not self.confidential:
            raise ValueError("jwks are for confidential clients")
        return self


CONTRACT_NAMES = {
    "access_token_seconds": "access_token_lifetime",
    "refresh_idle_seconds": "refresh_idle_lifetime",
    "session_seconds": "session_lifetime",
    "refresh_grace_seconds": "refresh_grace",
}
"""Fields of `Client` that have another name in `authmesh.token.v1.Client`."""


@dataclass(frozen=True, slots=True)
class ClientRecord:
    """A client as Token's database has it."""

    id: str
    client: Client
    version: int
    """Counts its states, from 1."""
    not_before: datetime
    """No token of it may say that it was issued in this second or earlier."""

    @property
    def etag(self) -> str:
        """Another one for each state."""
        return etag_of(CLIENT.of(self.id), self.version)


class Clients(Protocol):
    """The clients, as those ask who issue tokens. Clients that are deleted or disabled are none."""

    async def find(self, client_id: str) -> Client | None:
        """The client as it was at most a second ago."""

    async def recall(self, client_id: str) -> ClientRecord | None:
        """The same with its version."""

    async def read(self, client_id: str) -> ClientRecord | None:
        """The client as it is now."""

    async def hold(self, tx: Transaction, client_id: str) -> ClientRecord | None:
        """The client as it is, and stays until the transaction ends.

        A deletion waits, and sees what was issued to it.
        """


class _ClientsFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    clients: dict[ClientId, Client] = Field(min_length=1)


def load_clients(file: Path) -> Mapping[str, Client]:
    """Reads the clients, by id.

    Raises:
        DocumentError: naming the file and every place that is wrong.
    """
    return read_model(file, _ClientsFile).clients
