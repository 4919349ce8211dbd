"""Where secrets are."""

from pathlib import Path

import pytest

from mesh.secrets.source import (
    FileSecret,
    GivenSecret,
    SecretsManagerSecret,
    SecretUnavailableError,
    secret_source,
    secret_sources,
)

ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:authmesh/database/token-AbCdEf"


def test_a_setting_names_files_and_arns() -> None:
    file, secret = secret_sources(f"/run/secrets/password, {ARN}")
    assert isinstance(file, FileSecret)
    assert isinstance(secret, SecretsManagerSecret)
    assert (file.name, secret.name) == ("/run/secrets/password", ARN)
    assert secret_sources("") == []


@pytest.mark.parametrize(
    "reference",
    ["password", "./secret", "arn:aws:s3:::bucket", "arn:aws:secretsmanager", ARN.replace("eu-central-1", "")],
)
def test_what_names_no_secret_is_refused_and_not_repeated(reference: str) -> None:
    with pytest.raises(ValueError, match="absolute path of a file, or the ARN") as refusal:
        secret_source(reference)
    assert reference not in str(refusal.value)


async def test_a_file_is_read_anew_each_time(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"one")
    file.chmod(0o600)
    source = FileSecret(file)
    assert await source.versions() == (b"one",)
    file.write_bytes(b"two")
    assert await source.versions() == (b"two",)
    file.chmod(0o644)
    with pytest.raises(SecretUnavailableError, match="others may read it: chmod o="):
        await source.versions()
    file.unlink()
    with pytest.raises(SecretUnavailableError, match="No such file"):
        await source.versions()


async def test_what_is_given_stays(tmp_path: Path) -> None:
    assert await GivenSecret("DATABASE_URL", "swordfish").versions() == (b"swordfish",)
