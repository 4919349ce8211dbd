"""What the Token process reads from its environment."""

from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, Field

from mesh.settings import DatabaseSettings, EventSettings, ProcessSettings, SecretReferences
from mesh.tokens.verifier import LEEWAY_SECONDS, MAX_LIFETIME_SECONDS
from services.token.keys.schedule import KeyPolicy
from services.token.keys.signer import Algorithm

_HERE = Path(__file__).parent
_DEFAULT = KeyPolicy()


class SigningKeys(StrEnum):
    """Where private keys are kept."""

    LOCAL = "local"
    """In Token's database, protected by SIGNING_SECRETS."""
    KMS = "kms"
    """In AWS KMS, which signs every token."""
    KMS_ROOTED = "kms-rooted"
    """In Token's database, each protected by a data key of SIGNING_KMS_KEY_ID."""


_PERIODS = {
    SigningKeys.LOCAL: timedelta(days=30),
    SigningKeys.KMS: timedelta(days=90),
    SigningKeys.KMS_ROOTED: timedelta(hours=12),
}


class TokenSettings(ProcessSettings, DatabaseSettings, EventSettings):
    """Settings of Token, beside those that every process has."""

    signing_keys: SigningKeys = SigningKeys.LOCAL
    """Where new signing keys are kept. Keys of the others are still used when their settings are there too."""
    signing_algorithm: Algorithm = "ES256"
    """Of new signing keys."""
    signing_secrets: Annotated[
        SecretReferences, Field(validation_alias=AliasChoices("signing_secrets", "signing_secret_file"))
    ] = ""
    """For `local`: secrets of at least 32 random bytes, the first of which protects new private keys in the database;
    the others open those that they have protected."""
    signing_key_file: Path | None = None
    """PEM of a private key that a new deployment begins with. For `local`, and read only while there was never a
    key."""
    signing_kms_key_id: str | None = None
    """Id, ARN or alias of a symmetric KMS key. For `kms-rooted`."""
    signing_kms_per_second: float = Field(default=250, gt=0)
    """For `kms`: signatures that this process takes at the most of the account's quota (1,000 a second for all elliptic
    keys of a region)."""
    jwks_max_cache_seconds: float = _DEFAULT.jwks_max_cache.total_seconds()
    """The longest that anyone who verifies our tokens keeps the JWKS."""
    signing_lead_seconds: float = _DEFAULT.lead.total_seconds()
    """How long a key is in the JWKS before it signs."""
    signing_rotation_seconds: float | None = None
    """How long a key signs. By default 30 days (`local`), 90 days (`kms`), 12 hours (`kms-rooted`)."""
    access_token_max_seconds: float = MAX_LIFETIME_SECONDS
    """The longest that an access token of any client lives."""
    clock_skew_seconds: float = LEEWAY_SECONDS
    """How far clocks may differ."""
    clients_file: Path = _HERE / "clients.yaml"
    """Who may ask for tokens."""
    roles_file: Path = _HERE / "roles.yaml"
    """Which scopes a role may have."""

    def key_policy(self) -> KeyPolicy:
        """The times in a key's life.

        Raises:
            KeyPolicyUnsafeError: they would refuse good tokens, or admit bad ones.
        """
        period = (
            timedelta(seconds=self.signing_rotation_seconds)
            if self.signing_rotation_seconds is not None
            else _PERIODS[self.signing_keys]
        )
        policy = KeyPolicy(
            jwks_max_cache=timedelta(seconds=self.jwks_max_cache_seconds),
            lead=timedelta(seconds=self.signing_lead_seconds),
            period=period,
            token_lifetime=timedelta(seconds=self.access_token_max_seconds),
            skew=timedelta(seconds=self.clock_skew_seconds),
        )
        policy.check_verifier(timedelta(seconds=self.jwks_cache_seconds))
        return policy
