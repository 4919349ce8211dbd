"""KMS in the emulator, and the three custodies."""

import hashlib
import itertools
import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any

import pytest

from mesh.local.components.aws_emulator import AwsEmulator
from mesh.operator.aws_account import AwsAccount
from services.token.keys.envelope import KmsRootedKeys
from services.token.keys.key import SigningKey
from services.token.keys.key_manager import KeyManager, NewKey
from services.token.keys.kms import KmsKeys, SignQuota
from services.token.keys.local import LocalKeys
from tests.conftest import held

ISSUER = "https://issuer.test"
numbers = itertools.count()


def kms_client(account: AwsAccount) -> AbstractAsyncContextManager[Any]:
    return account.client(
        "kms", connect_timeout=1, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 1}
    )


@pytest.fixture(scope="session")
async def kms(aws_server: AwsEmulator) -> AsyncIterator[Any]:
    async with held(kms_client(aws_server.account)) as client:
        yield client


@pytest.fixture
async def root_key(kms: Any) -> str:
    made = await kms.create_key(Description=f"root {next(numbers)}")
    return str(made["KeyMetadata"]["KeyId"])


@pytest.fixture(params=["local", "kms", "kms-rooted"])
async def custody(request: pytest.FixtureRequest, kms: Any, root_key: str) -> KeyManager:
    """Each test that asks for one runs over all of them."""
    if request.param == "local":
        return LocalKeys(hashlib.sha256(uuid.uuid4().bytes).digest())
    if request.param == "kms":
        return KmsKeys(kms, SignQuota(1000), description="test")
    return KmsRootedKeys(kms, root_key, issuer=ISSUER)


def stored(new: NewKey, keeper: KeyManager, /, **changes: Any) -> SigningKey:
    """The key as the database gives it back."""
    fields: dict[str, Any] = {
        "key_id": new.key_id, "algorithm": new.algorithm, "public_jwk": new.public_jwk, "custody": keeper.name,
        "material": new.material,
        "publish_time": datetime.now(UTC),
    }  # fmt: skip
    return SigningKey(**(fields | changes))
