"""The custodies of a deployment, as its settings say."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Self

from mesh.aws import open_client
from mesh.secrets.ring import KeyRing
from services.token.keys.envelope import KmsRootedKeys
from services.token.keys.key_manager import Custodies, KeyManager, NewKey
from services.token.keys.kms import KmsKeys, SignQuota
from services.token.keys.local import LocalKeys
from services.token.keys.signer import read_private_key
from services.token.settings import SigningKeys, TokenSettings

_NEEDS = {
    SigningKeys.LOCAL: (
        "signing_secrets",
        "a file or a secret with 32 random bytes, which protect the signing keys in the database",
    ),
    SigningKeys.KMS_ROOTED: ("signing_kms_key_id", "the symmetric KMS key that protects the signing keys"),
}


class SettingMissingError(ValueError):
    """What the chosen custody needs was not set, or does not fit. The message names the variable."""


class Deployment:
    """Where private keys are, now and from before."""

    def __init__(self, settings: TokenSettings, local: LocalKeys | None, first: NewKey | None) -> None:
        """Initializes the instance.

        Args:
            settings: Token's.
            local: The local custody, where there is a secret for it.
            first: The key that a new deployment begins with, if it brings one.
        """
        self._settings = settings
        self._local = local
        self.first = first

    @classmethod
    def read(cls, settings: TokenSettings, secrets: KeyRing) -> Self:
        """Reads the files that the settings name.

        Args:
            settings: Token's.
            secrets: Of `signing_secrets`, read.

        Raises:
            SettingMissingError: the chosen custody lacks something, or a key was brought that it can't take.
            KeyFileInvalidError: the file does not hold what it should.
        """
        chosen = settings.signing_keys
        field, what = _NEEDS.get(chosen, ("signing_keys", ""))
        if not getattr(settings, field):
            raise SettingMissingError(f"environment variable {field.upper()} is missing: {what}")
        if settings.signing_algorithm not in settings.accepted_algorithms:
            raise SettingMissingError(
                f"environment variable SIGNING_ALGORITHM={settings.signing_algorithm}: "
                f"TOKEN_ALGORITHMS={settings.token_algorithms} does not have it"
            )
        local = LocalKeys(*secrets.secrets) if secrets.secrets else None
        if local:
            secrets.follow(local.renew)
        if settings.signing_key_file is None:
            return cls(settings, local, None)
        if local is None or chosen is not SigningKeys.LOCAL:
            raise SettingMissingError(
                f"environment variable SIGNING_KEY_FILE: only SIGNING_KEYS=local takes a key from a file, not {chosen}"
            )
        return cls(settings, local, local.adopt(read_private_key(settings.signing_key_file)))

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Custodies]:
        """All custodies that the settings allow."""
        settings = self._settings
        async with AsyncExitStack() as parts:
            custodies: dict[str, KeyManager] = {self._local.name: self._local} if self._local else {}
            if settings.signing_keys is SigningKeys.KMS or settings.signing_kms_key_id:
                client = await parts.enter_async_context(open_client("kms", settings))
                issuer = str(settings.issuer)
                quota = SignQuota(settings.signing_kms_per_second)
                custodies[KmsKeys.name] = KmsKeys(
                    client, quota, description=f"authmesh: signs access tokens of {issuer}"
                )
                if settings.signing_kms_key_id:
                    custodies[KmsRootedKeys.name] = KmsRootedKeys(client, settings.signing_kms_key_id, issuer=issuer)
            yield Custodies(custodies.pop(settings.signing_keys), *custodies.values())
