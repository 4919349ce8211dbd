"""What Token's settings say about keys, and what is refused at boot: by name, and before anything listens."""

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import ValidationError

from mesh.secrets.ring import KeyRing
from mesh.secrets.source import SecretUnavailableError, secret_sources
from services.token.keys.deployment import Deployment, SettingMissingError
from services.token.keys.envelope import KmsRootedKeys
from services.token.keys.kms import KmsKeys
from services.token.keys.local import LocalKeys
from services.token.keys.schedule import KeyPolicyUnsafeError
from services.token.keys.signer import KeyFileInvalidError, LocalSigner
from services.token.settings import TokenSettings


def settings(**changes: Any) -> TokenSettings:
    """A deployment's settings, as its environment would say them."""
    given = {
        "node": "token", "socket": "/s", "egress": "/e", "database_url": "postgresql://x", "redis_url": "redis://x",
        "issuer": "https://issuer.test",
        "audience": "authmesh", "aws_region": "eu-central-1", "event_bus": "authmesh",
        "messages_topic_arn": "arn:aws:sns:x",
    }  # fmt: skip
    return TokenSettings(**(given | changes))


async def read(**changes: Any) -> Deployment:
    """A deployment with these settings, and its secrets read."""
    chosen = settings(**changes)
    ring = KeyRing("signing_secrets", secret_sources(chosen.signing_secrets))
    await ring.step()
    return Deployment.read(chosen, ring)


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    return file_of(tmp_path / "secret", b"s" * 32)


def file_of(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


async def test_the_local_custody_begins_with_the_key_that_it_was_given(tmp_path: Path, secret_file: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    key_file = file_of(tmp_path / "key.pem", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    deployment = await read(signing_secrets=str(secret_file), signing_key_file=key_file)
    assert deployment.first
    assert deployment.first.key_id == LocalSigner(key).key_id
    async with deployment.open() as custodies:
        assert isinstance(custodies.chosen, LocalKeys)


async def test_kms_is_chosen_and_keys_from_before_are_still_opened(secret_file: Path) -> None:
    aws = {"aws_endpoint_url": "http://127.0.0.1:9", "signing_kms_key_id": "root"}
    async with (await read(signing_keys="kms", **aws)).open() as custodies:
        assert isinstance(custodies.chosen, KmsKeys)
        assert set(custodies._by_name) == {"kms", "kms-rooted"}
    both = await read(signing_keys="kms-rooted", signing_secrets=str(secret_file), **aws)
    async with both.open() as custodies:
        assert isinstance(custodies.chosen, KmsRootedKeys)
        assert set(custodies._by_name) == {"kms", "kms-rooted", "local"}


async def test_what_the_chosen_custody_needs_is_named(secret_file: Path) -> None:
    with pytest.raises(SettingMissingError, match="SIGNING_SECRETS"):
        await read()
    with pytest.raises(SettingMissingError, match="SIGNING_KMS_KEY_ID"):
        await read(signing_keys="kms-rooted")
    with pytest.raises(SettingMissingError, match="SIGNING_KEY_FILE"):
        await read(signing_keys="kms", signing_key_file=secret_file)
    with pytest.raises(KeyFileInvalidError, match="not a PEM private key"):
        await read(signing_secrets=str(secret_file), signing_key_file=secret_file)
    with pytest.raises(ValidationError):
        settings(signing_keys="vault")


@pytest.mark.parametrize(("content", "mode", "expected"), [
    (b"s" * 31, 0o600, "32 random bytes"), (b"s" * 32, 0o644, "others may read it"), (None, 0o600, "No such file"),
])  # fmt: skip
async def test_a_secret_that_is_none_is_refused(
    tmp_path: Path, content: bytes | None, mode: int, expected: str
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file_of(file, content, mode)
    with pytest.raises(SecretUnavailableError, match=expected):
        await read(signing_secrets=str(file))


@pytest.mark.parametrize(("changes", "expected"), [
    ({"jwks_cache_seconds": 1800}, "JWKS_MAX_CACHE_SECONDS=1200 is unsafe"),
    ({"clock_skew_seconds": 10}, "CLOCK_SKEW_SECONDS=10 is unsafe"),
    ({"signing_rotation_seconds": 60}, "SIGNING_ROTATION_SECONDS=60 is unsafe"),
    ({"jwks_max_cache_seconds": 7200}, "SIGNING_LEAD_SECONDS=1800 is unsafe"),
    ({"access_token_max_seconds": 7200}, "ACCESS_TOKEN_MAX_SECONDS=7200"),
])  # fmt: skip
def test_unsafe_times_are_refused(changes: dict[str, float], expected: str) -> None:
    with pytest.raises(KeyPolicyUnsafeError, match=expected):
        settings(**changes).key_policy()


async def test_an_algorithm_that_this_mesh_does_not_verify_is_not_signed_with(secret_file: Path) -> None:
    with pytest.raises(SettingMissingError, match="TOKEN_ALGORITHMS=ES256"):
        await read(signing_secrets=str(secret_file), signing_algorithm="RS256")
    both = settings(signing_secrets=str(secret_file), signing_algorithm="RS256", token_algorithms="ES256,RS256")
    assert both.accepted_algorithms == {"ES256", "RS256"}
    await read(signing_secrets=str(secret_file), signing_algorithm="RS256", token_algorithms="ES256,RS256")
    with pytest.raises(ValidationError):
        settings(token_algorithms="HS256")


@pytest.mark.parametrize(("custody", "hours"), [("local", 720), ("kms", 2160), ("kms-rooted", 12)])
def test_each_custody_has_a_period_that_fits_it(custody: str, hours: int) -> None:
    assert settings(signing_keys=custody).key_policy().period.total_seconds() == hours * 3600
