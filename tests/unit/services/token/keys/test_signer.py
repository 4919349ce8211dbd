"""The local signer, and tokens that it signed."""

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from mesh.tokens.keys import KeySet, parse_jwks
from mesh.tokens.verifier import Verifier
from services.token.keys.access_token import AccessGrant, AccessTokenWriter
from services.token.keys.signer import (
    KeyFileInvalidError,
    LocalSigner,
    public_jwk,
    raw_signature,
    read_private_key,
    thumbprint,
)
from tests.kit.signing import OneKey

KEY = ec.generate_private_key(ec.SECP256R1())


def pem(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey, *, password: bytes | None = None
) -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


async def test_a_signature_is_raw_and_the_published_key_verifies_it() -> None:
    signer = LocalSigner(KEY)
    key = parse_jwks(await OneKey(KEY).jwks())[signer.key_id]
    # Often enough that r or s has a leading zero byte once.
    for number in range(600):
        signature = await signer.sign(str(number).encode())
        assert len(signature) == 64
        assert key.verifies(str(number).encode(), signature)


def test_the_key_id_is_the_thumbprint_of_the_public_key() -> None:
    signer, members = LocalSigner(KEY), public_jwk(KEY.public_key())
    assert members.keys() == {"kty", "crv", "x", "y"}
    assert thumbprint(members) == signer.key_id
    assert LocalSigner(KEY).key_id == signer.key_id


def test_the_thumbprint_is_rfc_7638_s() -> None:
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93"
        "lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPk"
        "sINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    assert thumbprint({"kty": "RSA", "n": modulus, "e": "AQAB"}) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


@pytest.mark.parametrize("content", [
    None, b"", b"nonsense", pem(ec.generate_private_key(ec.SECP384R1())), pem(rsa.generate_private_key(65537, 1024)),
    pem(KEY, password=b"secret"),
    pem(ed25519.Ed25519PrivateKey.generate()),
])  # fmt: skip
def test_a_file_without_a_usable_key_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "key.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(KeyFileInvalidError, match=r"key\.pem"):
        read_private_key(file)


async def test_what_is_written_is_what_the_verifier_reads(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(pem(KEY))
    one_key = OneKey(read_private_key(file))
    now = datetime.now(UTC).replace(microsecond=0)
    grant = AccessGrant(
        subject=uuid.uuid4(),
        session_id=uuid.uuid4(),
        client_id="demo",
        scopes=frozenset({"b", "a"}),
        roles=frozenset({"admin"}),
        token_id=uuid.uuid4(),
        issue_time=now,
        expire_time=now + timedelta(seconds=600),
        auth_time=now - timedelta(seconds=7),
        amr=("pwd", "otp"),
        refresh_expire_time=now + timedelta(days=14),
    )
    token = await AccessTokenWriter(one_key, "https://issuer.test", "authmesh").write(grant)

    keys = KeySet(one_key.jwks)
    await keys.refresh()
    claims = Verifier(keys, "https://issuer.test", "authmesh").verify(token)
    assert (claims.subject, claims.session, claims.token_id) == (
        str(grant.subject),
        str(grant.session_id),
        str(grant.token_id),
    )
    assert (claims.scopes, claims.roles, claims.amr) == (grant.scopes, grant.roles, grant.amr)
    assert (claims.issued_at, claims.expires_at, claims.auth_time) == (
        int(now.timestamp()),
        int(now.timestamp()) + 600,
        int(now.timestamp()) - 7,
    )


ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@pytest.mark.parametrize(("r", "s"), [
    (1, 1), (ORDER - 1, ORDER - 1), (0x7F, 0x80), (1 << 255, (1 << 255) - 1), (0xFF << 240, 1 << 8), (ORDER - 1, 1),
])  # fmt: skip
def test_der_becomes_two_numbers_of_32_bytes_however_short_or_high_they_are(r: int, s: int) -> None:
    raw = raw_signature(encode_dss_signature(r, s))
    assert (int.from_bytes(raw[:32]), int.from_bytes(raw[32:]), len(raw)) == (r, s, 64)


GOOD = encode_dss_signature(1 << 255, 77)


@pytest.mark.parametrize("der", [
    encode_dss_signature(0, 1), encode_dss_signature(1, 0), encode_dss_signature(ORDER, 1), encode_dss_signature(1,
    ORDER),
    encode_dss_signature(1 << 256, 1), encode_dss_signature(1 << 400, 1), b"\x30\x06\x02\x01\xff\x02\x01\x01", b"",
    GOOD[:-1], GOOD + b"\x00",
    bytes(64), b"\x30\x06\x02\x01\x01\x02\x01", b"\x30\x08\x02\x02\x00\x01\x02\x02\x00\x01",
])  # fmt: skip
def test_what_is_no_der_signature_on_p256_is_refused(der: bytes) -> None:
    with pytest.raises(ValueError):
        raw_signature(der)
