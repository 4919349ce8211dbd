"""What Auth reads from its environment."""

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from mesh.settings import DatabaseSettings, EventSettings, MessageSettings, ProcessSettings, SecretReferences


class AuthSettings(ProcessSettings, DatabaseSettings, EventSettings, MessageSettings):
    """Auth's own settings; each has a default that is good for production."""

    argon2_time_cost: int = Field(default=2, ge=1)
    """Passes (OWASP Password Storage: 2 with 19 MiB; both may only grow together with the machine)."""
    argon2_memory_kib: int = Field(default=19 * 1024, ge=7 * 1024)
    """Memory of one hash."""
    argon2_lanes: int = Field(default=1, ge=1)
    argon2_threads: int = Field(default=2, ge=1, le=64)
    """Hashes computed at the same time: the processor's cores. Each takes `argon2_memory_kib`."""
    argon2_waiting: int = Field(default=100, ge=0)
    """Callers who may wait for their turn at the threads, shared fairly among networks: what can be done within a
    caller's patience. Beyond it OVERLOADED.
    """
    password_min_length: int = Field(default=8, ge=8, le=64)
    """Characters of a new password. 15 where a password is the only factor (NIST SP 800-63B-4, 3.1.1.2)."""
    password_peppers: SecretReferences = ""
    """Secrets of 32 random bytes or more that go into the hash of each password: a stolen database alone is not enough
    to guess at them. The first one goes into new hashes, the others into those that they went into before, until the
    person signs in next. Empty: none does."""
    mfa_secrets: SecretReferences = ""
    """Secrets of 32 random bytes or more that protect what authenticator apps share with us. The first one seals; the
    others open what they have sealed before. Empty: no apps are offered."""
    mfa_issuer_name: str = Field(default="authmesh", min_length=1, max_length=60, pattern="^[^:]+$")
    """Whose account it is, as an authenticator app shows it."""
    passkey_rp_id: str = Field(default="", max_length=253, pattern="^([a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9-]+)*)?$")
    """The domain that passkeys are for: that of the app's pages, or one above it. It can't be changed without losing
    every passkey. Empty: no passkeys are offered."""
    passkey_rp_name: str = Field(default="authmesh", min_length=1, max_length=60)
    """As authenticators show it."""
    passkey_origins: str = ""
    """Comma-separated: the pages (`https://app.example.com`) and Android apps (`android:apk-key-hash:…`) that may use
    them. Empty: `https://` and the domain."""
    identity_provider: Literal["local", "cognito"] = "local"
    """Who keeps the passwords: this deployment, or a user pool of Cognito (docs/identity.md). What can't be changed
    later: people are known by the ids that it gives."""
    cognito_user_pool_id: str = Field(default="", pattern="^([a-z0-9-]+_[0-9A-Za-z]+)?$")
    cognito_client_id: str = Field(default="", pattern="^[0-9A-Za-z_+]*$")
    cognito_client_secret: SecretReferences = ""
    """Where the client's secret is: the path of a file or an ARN."""
    cognito_auth_flow: Literal["srp", "password"] = "srp"
    """Whether passwords are proven to Cognito, or sent."""
    identity_providers_file: Path | None = None
    """YAML: whose ID tokens sign in (docs/identity.md). Unset: no one's."""
    notices_queue_url: str | None = None
    """The SQS queue of notices (deploy/aws/events.yaml). Unset: what other services see is in the audit trail, and
    no one is told."""
    answer_seconds: float = Field(default=0.25, ge=0)
    """Answers that must not tell whether an address is known leave after a multiple of this. Above what two hashes
    take."""

    @model_validator(mode="after")
    def _check_origins(self) -> Self:
        for origin in self.origins_of_passkeys:
            if origin.startswith("android:apk-key-hash:"):
                continue
            parts = urlsplit(origin)
            host = parts.hostname or ""
            is_secure = parts.scheme == "https" or (parts.scheme == "http" and host == "localhost")
            if origin != f"{parts.scheme}://{parts.netloc}" or "@" in parts.netloc or not is_secure:
                raise ValueError(f"PASSKEY_ORIGINS: {origin} is not an origin such as https://app.example.com")
            if host != self.passkey_rp_id and not host.endswith(f".{self.passkey_rp_id}"):
                raise ValueError(f"PASSKEY_ORIGINS: {origin} is not within PASSKEY_RP_ID {self.passkey_rp_id}")
        return self

    @model_validator(mode="after")
    def _check_provider(self) -> Self:
        needed = ("cognito_user_pool_id", "cognito_client_id", "cognito_client_secret")
        if self.identity_provider == "cognito" and (missing := [name for name in needed if not getattr(self, name)]):
            raise ValueError(f"IDENTITY_PROVIDER=cognito needs {', '.join(missing).upper()}")
        return self

    @property
    def origins_of_passkeys(self) -> tuple[str, ...]:
        """`passkey_origins`, one by one."""
        named = tuple(origin.strip() for origin in self.passkey_origins.split(",") if origin.strip())
        return named or ((f"https://{self.passkey_rp_id}",) if self.passkey_rp_id else ())
