"""The Secure Remote Password protocol as Cognito has it: the password is proven and never sent.

SRP-6a (RFC 5054) with the 3072-bit group of RFC 3526, SHA-256, and a signature over a secret block in the place of
M1. Cognito's form of it is that of AWS's own SDKs (`amazon-cognito-identity-js`).
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

_N = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B"
    "302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7EDEE386BFB5A899FA5AE9F24117C4B1FE6"
    "49286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F83655D23DCA3AD961C62F356208552BB9ED529077096966D"
    "670C354E4ABC9804F1746C08CA18217C32905E462E36CE3BE39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF695581718"
    "3995497CEA956AE515D2261898FA051015728E5A8AAAC42DAD33170D04507A33A85521ABDF1CBA64ECFB850458DBEF0A8AEA71575D060C7D"
    "B3970F85A6E1E4C7ABF5AE8CDB0933D71E8C94E04A25619DCEE3D2261AD2EE6BF12FFA06D98A0864D87602733EC86A64521F2B18177B200C"
    "BBE117577A615D6C770988C0BAD946E208E24FA074E5AB3143DB5BFCE0FD108E4B82D120A93AD2CAFFFFFFFFFFFFFFFF",
    16,
)
_G = 2
_KEY_INFO = b"Caldera Derived Key\x01"
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Prover:
    """One proof of one password."""

    def __init__(self, pool_id: str, *, randbelow: Callable[[int], int] = secrets.randbelow) -> None:
        """Initializes the instance.

        Args:
            pool_id: Of the user pool: `eu-central-1_AbCdEf123`.
            randbelow: Of the system, or a test's.
        """
        self._pool_name = pool_id.partition("_")[2]
        self._a = randbelow(_N - 2) + 1
        self._public = pow(_G, self._a, _N)

    @property
    def public(self) -> str:
        """`SRP_A`."""
        return f"{self._public:x}"

    def answer(self, password: str, parameters: Mapping[str, str], now: datetime) -> dict[str, str]:
        """The answer to PASSWORD_VERIFIER.

        Args:
            password: As the person knows it.
            parameters: The challenge's: SALT, SRP_B, SECRET_BLOCK, USER_ID_FOR_SRP.
            now: The time.

        Raises:
            ValueError: the challenge is not one.
        """
        user, block = parameters["USER_ID_FOR_SRP"], parameters["SECRET_BLOCK"]
        b = int(parameters["SRP_B"], 16)
        u = _hash(_padded(self._public), _padded(b))
        if b % _N == 0 or u == 0:
            raise ValueError("not a value of the protocol")
        inner = hashlib.sha256(f"{self._pool_name}{user}:{password}".encode()).digest()
        x = _hash(_padded(int(parameters["SALT"], 16)), inner)
        k = _hash(_padded(_N), _padded(_G))
        shared = pow(b - k * pow(_G, x, _N), self._a + u * x, _N)
        key = hmac.digest(hmac.digest(_padded(u), _padded(shared), "sha256"), _KEY_INFO, "sha256")[:16]
        moment = now.astimezone(UTC)
        timestamp = (
            f"{_DAYS[moment.weekday()]} {_MONTHS[moment.month - 1]} {moment.day} {moment:%H:%M:%S} UTC {moment.year}"
        )
        signed = f"{self._pool_name}{user}".encode() + base64.b64decode(block) + timestamp.encode()
        return {
            "USERNAME": user,
            "TIMESTAMP": timestamp,
            "PASSWORD_CLAIM_SECRET_BLOCK": block,
            "PASSWORD_CLAIM_SIGNATURE": base64.b64encode(hmac.digest(key, signed, "sha256")).decode(),
        }


def _padded(number: int) -> bytes:
    """Big-endian, with a zero byte in front of a set high bit."""
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def _hash(*parts: bytes) -> int:
    return int.from_bytes(hashlib.sha256(b"".join(parts)).digest(), "big")
