"""KMS in the emulator, and the three custodies."""

import hashlib
import itertools
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from mesh.local.components.aws_emulator import CREDENTIALS, REGION, AwsEmulator
from services.token.keys.custody import Custody, NewKey
from services.token.keys.key import SigningKey
from services.token.keys.kms import KmsKeys, SignQuota
from services.token.keys.local import LocalKeys
from services.token.keys.rooted import KmsRootedKeys
from tests.conftest import held

ISSUER = "https://issuer.test"
numbers = itertools.count()


def kms_client(endpoint_url: str) -> Any:
    config = AioConfig(connect_timeout=1, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 1}, proxies={})
    session: Any = get_session()
    return session.create_client(
        "kms",
        region_name=REGION,
        endpoint_url=endpoint_url,
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        config=config,
    )


@pytest.fixture(scope="session")
async def kms(aws_server: AwsEmulator) -> AsyncIterator[Any]:
    async with held(kms_client(aws_server.endpoint_url)) as client:
        yield client


@pytest.fixture
async def root_key(kms: Any) -> str:
    made = await kms.create_key(Description=f"root {next(numbers)}")
    return str(made["KeyMetadata"]["KeyId"])


@pytest.fixture(params=["local", "kms", "kms-rooted"])
async def custody(request: pytest.FixtureRequest, kms: Any, root_key: str) -> Custody:
    """Each test that asks for one runs over all of them."""
    if request.param == "local":
        return LocalKeys(hashlib.sha256(uuid.uuid4().bytes).digest())
    if request.param == "kms":
        return KmsKeys(kms, SignQuota(1000), description="test")
    return KmsRootedKeys(kms, root_key, issuer=ISSUER)


def stored(new: NewKey, keeper: Custody, /, **changes: Any) -> SigningKey:
    """The key as the database gives it back."""
    fields: dict[str, Any] = {
        "key_id": new.key_id, "algorithm": new.algorithm, "public_jwk": new.public_jwk, "custody": keeper.name, "material": new.material,
        "publish_time": datetime.now(UTC),
    }  # fmt: skip
    return SigningKey(**(fields | changes))
