"""Private keys in AWS KMS, which signs every token: they can't be stolen, and every signature is in CloudTrail.

Each token costs a network call, about $15 a million, and a share of a quota (1,000 signatures a second for all elliptic
keys of an account and region). `rooted` has most of the safety for a call every few hours.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from mesh.errors import Reason, Unavailable
from services.token.keys.key import SigningKey
from services.token.keys.key_manager import NewKey
from services.token.keys.signer import Algorithm, PublicKey, algorithm_of, public_jwk, raw_signature, thumbprint

SIGN_SECONDS = 2.0
"""Deadline of a signature, retries included: below that of the call that waits for it."""
MANAGE_SECONDS = 5.0
"""Deadline of everything else. The keys are locked meanwhile."""
DELETE_AFTER_DAYS = 7
"""The least that KMS allows: until then a key that was destroyed by mistake can be had back."""

_KEY_SPECS: Mapping[Algorithm, str] = {"ES256": "ECC_NIST_P256", "RS256": "RSA_2048"}
_SIGNING_ALGORITHMS: Mapping[Algorithm, str] = {"ES256": "ECDSA_SHA_256", "RS256": "RSASSA_PKCS1_V1_5_SHA_256"}
_THROTTLED = frozenset(
    {"ThrottlingException", "Throttling", "TooManyRequestsException", "LimitExceededException", "RequestLimitExceeded"}
)
_DELETED = frozenset({"NotFoundException", "KMSInvalidStateException"})
_log = structlog.get_logger("authmesh.kms")


class SignQuota:
    """This process's share of the account's quota, as a token bucket.

    What is above it is refused here, at once, and not by AWS after a wait.
    """

    def __init__(self, per_second: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Initializes the instance.

        Args:
            per_second: Signatures.
            clock: Monotonic seconds.
        """
        self._per_second = per_second
        self._clock = clock
        self._left = per_second
        self._as_of = clock()

    def take(self) -> None:
        """Takes one signature.

        Raises:
            Unavailable: KEYS_UNAVAILABLE, with the time after which there is one again.
        """
        now = self._clock()
        self._left = min(self._per_second, self._left + (now - self._as_of) * self._per_second)
        self._as_of = now
        if self._left < 1:
            raise _unavailable((1 - self._left) / self._per_second)
        self._left -= 1

    def give_up(self) -> None:
        """AWS throttles: the others of the account have used more than was planned.

        This process pauses for a second.
        """
        self._as_of = self._clock()
        self._left = 1 - self._per_second


class KmsKeys:
    """The custody. `material` of its keys is the ARN."""

    name = "kms"

    def __init__(self, client: Any, quota: SignQuota, *, description: str) -> None:
        """Initializes the instance.

        Args:
            client: aiobotocore's, of KMS.
            quota: What this process may sign.
            description: Of new keys, as the account lists them.
        """
        self._client = client
        self._quota = quota
        self._description = description

    async def create(self, algorithm: Algorithm) -> NewKey:
        """Makes a key in KMS.

        Raises:
            Unavailable: KEYS_UNAVAILABLE.
        """
        async with kms_call("CreateKey", MANAGE_SECONDS):
            made = await self._client.create_key(
                KeySpec=_KEY_SPECS[algorithm], KeyUsage="SIGN_VERIFY", Description=self._description
            )
        arn = made["KeyMetadata"]["Arn"]
        try:
            async with kms_call("GetPublicKey", MANAGE_SECONDS):
                answer = await self._client.get_public_key(KeyId=arn)
            public = _public_key(answer["PublicKey"], algorithm)
        except BaseException:
            with suppress(Unavailable):
                await self._delete(arn)
            raise
        members = public_jwk(public)
        return NewKey(thumbprint(members), algorithm, members, arn.encode())

    async def open(self, key: SigningKey) -> "KmsSigner":
        """What signs with it. Asks no one."""
        assert key.material is not None
        return KmsSigner(self._client, self._quota, key.key_id, key.algorithm, key.material.decode())

    async def destroy(self, key: SigningKey) -> None:
        """Has KMS delete it, in seven days.

        Raises:
            Unavailable: KEYS_UNAVAILABLE.
        """
        assert key.material is not None
        await self._delete(key.material.decode())

    async def _delete(self, arn: str) -> None:
        async with kms_call("ScheduleKeyDeletion", MANAGE_SECONDS, no_error=_DELETED):
            await self._client.schedule_key_deletion(KeyId=arn, PendingWindowInDays=DELETE_AFTER_DAYS)


class KmsSigner:
    """A key in KMS."""

    def __init__(self, client: Any, quota: SignQuota, key_id: str, algorithm: Algorithm, arn: str) -> None:
        """Initializes the instance.

        Args:
            client: aiobotocore's, of KMS.
            quota: What this process may sign.
            key_id: `kid`.
            algorithm: `alg`.
            arn: The key's name in KMS.
        """
        self.key_id = key_id
        self.algorithm: Algorithm = algorithm
        self._client = client
        self._quota = quota
        self._arn = arn

    async def sign(self, signed: bytes) -> bytes:
        """The signature, by KMS. It gets the digest only: what a token says stays here.

        Raises:
            Unavailable: KEYS_UNAVAILABLE: KMS is out of reach, throttles, or has disabled the key; or this process has
                used its share.
        """
        self._quota.take()
        async with kms_call("Sign", SIGN_SECONDS, throttled=self._quota.give_up):
            answer = await self._client.sign(
                KeyId=self._arn,
                Message=hashlib.sha256(signed).digest(),
                MessageType="DIGEST",
                SigningAlgorithm=_SIGNING_ALGORITHMS[self.algorithm],
            )
        signature: bytes = answer["Signature"]
        if self.algorithm == "RS256":
            return signature
        try:
            return raw_signature(signature)
        except ValueError as error:
            _log.error("KMS answered with something that is not a signature", key=self.key_id)
            raise _unavailable() from error


@asynccontextmanager
async def kms_call(
    operation: str,
    deadline: float,
    *,
    throttled: Callable[[], None] = lambda: None,
    no_error: frozenset[str] = frozenset(),
) -> AsyncIterator[None]:
    """One call of KMS.

    Whatever goes wrong is `Unavailable`, KEYS_UNAVAILABLE: no answer of AWS says anything about a token.

    Args:
        operation: For the log.
        deadline: Seconds.
        throttled: Called when AWS says that it was too much.
        no_error: Error codes that mean that there is nothing to do.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        async with asyncio.timeout(deadline):
            yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in no_error:
            return
        _log.warning("kms refused", operation=operation, code=code)
        if code in _THROTTLED:
            throttled()
        raise _unavailable() from error
    except (BotoCoreError, OSError, TimeoutError) as error:
        _log.warning("kms out of reach", operation=operation, error=type(error).__name__)
        raise _unavailable() from error


def _public_key(der: bytes, algorithm: Algorithm) -> PublicKey:
    try:
        key = load_der_public_key(der)
        if isinstance(key, EllipticCurvePublicKey | RSAPublicKey) and algorithm_of(key) == algorithm:
            return key
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _unavailable() from error
    raise _unavailable()


def _unavailable(seconds: float = 1.0) -> Unavailable:
    return Unavailable(
        Reason.KEYS_UNAVAILABLE, "tokens can't be signed now: try again", retry_after=timedelta(seconds=seconds)
    )
