"""One conformance test for every custody and its signer; then what each of them alone can get wrong."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from botocore.exceptions import ClientError

from mesh.errors import Reason, Unavailable
from mesh.operator.aws_account import AwsAccount
from mesh.tokens.keys import ANY_ALGORITHM, parse_jwks
from services.token.keys import kms as kms_module
from services.token.keys.envelope import KmsRootedKeys
from services.token.keys.key import jwks
from services.token.keys.key_manager import Custodies, KeyManager
from services.token.keys.kms import KmsKeys, SignQuota
from services.token.keys.local import LocalKeys
from services.token.keys.signer import Algorithm, LocalSigner, new_private_key, thumbprint
from tests.integration.services.token.keys.conftest import ISSUER, kms_client, stored


@asynccontextmanager
async def unavailable() -> AsyncIterator[None]:
    """The one way in which a custody fails."""
    with pytest.raises(Unavailable) as caught:
        yield
    assert caught.value.reason is Reason.KEYS_UNAVAILABLE
    assert caught.value.retry_after


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
async def test_what_it_signs_is_verified_by_the_jwk_that_it_gave(custody: KeyManager, algorithm: Algorithm) -> None:
    new = await custody.create(algorithm)
    assert new.key_id == thumbprint(new.public_jwk)
    assert not {"d", "p", "q", "k"} & new.public_jwk.keys()
    key = stored(new, custody)
    published = parse_jwks(jwks([key], key.publish_time), ANY_ALGORITHM)[new.key_id]
    signer = await custody.open(key)
    assert (signer.key_id, signer.algorithm) == (new.key_id, algorithm)
    # Often enough that r or s is short once.
    for number in range(300 if algorithm == "ES256" else 3):
        signed = f"{number}".encode()
        signature = await signer.sign(signed)
        assert len(signature) == (64 if algorithm == "ES256" else 256)
        assert published.verifies(signed, signature)
        assert not published.verifies(signed + b"x", signature)


async def test_every_key_is_another_one_and_another_process_opens_it(custody: KeyManager) -> None:
    one, other = await custody.create("ES256"), await custody.create("ES256")
    assert one.key_id != other.key_id
    again = await custody.open(stored(one, custody))
    published = parse_jwks(jwks([stored(one, custody)], stored(one, custody).publish_time))[one.key_id]
    assert published.verifies(b"x", await again.sign(b"x"))


async def test_destroying_twice_is_no_error(custody: KeyManager) -> None:
    key = stored(await custody.create("ES256"), custody)
    await custody.destroy(key)
    await custody.destroy(key)


async def test_the_private_key_is_nowhere_in_clear(custody: KeyManager) -> None:
    if isinstance(custody, LocalKeys):
        private = new_private_key("ES256")
        scalar = private.private_numbers().private_value.to_bytes(32)  # type: ignore[union-attr]
        assert scalar not in custody.adopt(private).material
    else:
        material = (await custody.create("ES256")).material
        assert b"PRIVATE" not in material


async def test_material_of_another_row_another_secret_or_damaged_opens_nothing() -> None:
    custody = LocalKeys(b"s" * 32)
    one, other = await custody.create("ES256"), await custody.create("ES256")
    for key in (
        stored(one, custody, material=other.material), stored(one, custody, material=one.material[:-1]), stored(one,
        custody, material=b""),
        stored(one, custody, material=one.material[:40] + bytes([one.material[40] ^ 1]) + one.material[41:]),
    ):  # fmt: skip
        async with unavailable():
            await custody.open(key)
    async with unavailable():
        await LocalKeys(b"t" * 32).open(stored(one, custody))


async def test_a_data_key_is_bound_to_key_and_issuer(kms: Any, root_key: str) -> None:
    custody = KmsRootedKeys(kms, root_key, issuer=ISSUER)
    one, other = await custody.create("ES256"), await custody.create("ES256")
    for wrong, material in (
        (custody, other.material),
        (KmsRootedKeys(kms, root_key, issuer="https://other.test"), one.material),
        (custody, b"\x00"),
    ):
        async with unavailable():
            await wrong.open(stored(one, custody, material=material))


async def test_signing_with_a_rooted_key_asks_kms_nothing(kms: Any, root_key: str) -> None:
    custody = KmsRootedKeys(kms, root_key, issuer=ISSUER)
    key = stored(await custody.create("ES256"), custody)
    signer = await custody.open(key)
    assert isinstance(signer, LocalSigner)
    await kms.disable_key(KeyId=root_key)
    assert len(await signer.sign(b"x")) == 64
    async with unavailable():
        await custody.open(key)
    async with unavailable():
        await custody.create("ES256")
    await kms.enable_key(KeyId=root_key)
    await custody.open(key)


async def test_a_disabled_key_is_unavailable_and_back_when_it_is_enabled(kms: Any) -> None:
    custody = KmsKeys(kms, SignQuota(100), description="test")
    key = stored(await custody.create("ES256"), custody)
    assert key.material
    signer, arn = await custody.open(key), key.material.decode()
    await kms.disable_key(KeyId=arn)
    async with unavailable():
        await signer.sign(b"x")
    await kms.enable_key(KeyId=arn)
    assert len(await signer.sign(b"x")) == 64
    await custody.destroy(key)
    assert (await kms.describe_key(KeyId=arn))["KeyMetadata"]["KeyState"] == "PendingDeletion"
    async with unavailable():
        await signer.sign(b"x")


class Answering:
    """In the place of KMS's client: gives one answer, for what the emulator can't do."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.calls = 0

    async def sign(self, **request: Any) -> Any:
        self.calls += 1
        if isinstance(self.answer, BaseException):
            raise self.answer
        return {"Signature": await self.answer() if callable(self.answer) else self.answer}


def refused(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": ""}}, "Sign")


async def signer_of(client: Answering, quota: SignQuota | None = None) -> kms_module.KmsSigner:
    return kms_module.KmsSigner(client, quota or SignQuota(100), "kid", "ES256", "arn:aws:kms:x")


@pytest.mark.parametrize(
    "code", ["ThrottlingException", "KMSInternalException", "AccessDeniedException", "NotFoundException"]
)
async def test_whatever_kms_says_is_unavailable(code: str) -> None:
    async with unavailable():
        await (await signer_of(Answering(refused(code)))).sign(b"x")


async def test_a_throttled_process_leaves_kms_alone_for_a_while() -> None:
    kms = Answering(refused("ThrottlingException"))
    signer = await signer_of(kms)
    for _ in range(50):
        async with unavailable():
            await signer.sign(b"x")
    assert kms.calls == 1


@pytest.mark.parametrize("signature", [b"", b"x" * 64, bytes.fromhex("3006020100020101")])
async def test_an_answer_that_is_no_signature_is_in_no_token(signature: bytes) -> None:
    async with unavailable():
        await (await signer_of(Answering(signature))).sign(b"x")


async def test_a_kms_that_does_not_answer_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kms_module, "SIGN_SECONDS", 0.05)

    async def never() -> bytes:
        await asyncio.sleep(60)
        return b""

    async with unavailable():
        await (await signer_of(Answering(never))).sign(b"x")


async def test_a_kms_that_is_not_there_is_unavailable() -> None:
    async with kms_client(AwsAccount.of_user("http://127.0.0.1:9", {})) as nobody:
        for custody in (KmsKeys(nobody, SignQuota(1), description="test"), KmsRootedKeys(nobody, "x", issuer=ISSUER)):
            async with unavailable():
                await custody.create("ES256")


async def test_a_key_of_a_custody_that_was_not_configured_is_unavailable() -> None:
    local = LocalKeys(b"s" * 32)
    new = await local.create("ES256")
    async with unavailable():
        Custodies(local).of(stored(new, local, custody="kms"))
