"""The SQL of second factors, and what they are checked with. Every method runs in the transaction that it is given."""

import hashlib
import secrets
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from authmesh.token.v1 import token_set_pb2

from mesh.resources.name import USER
from mesh.storage.database import Transaction
from services.auth import recovery_code, totp
from services.auth.secret_box import Sealed, SecretBox

CHALLENGE_LIFETIME = timedelta(minutes=5)
CHALLENGE_ATTEMPTS = 5
"""Wrong answers after which a challenge is void."""
CHALLENGES_AT_ONCE = 20
"""Challenges of one person that wait for an answer; an older one is void then."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """A sign-in whose password was right, and that waits for a second factor.

    It holds what the tokens are for, so an answer can't be used for another client or installation.
    """

    user_id: uuid.UUID
    client_id: str
    device: token_set_pb2.Device
    scopes: Sequence[str]
    installation_known: bool
    session: uuid.UUID | None = None
    """The session whose person is asked again; None at a sign-in."""


class SecondFactors:
    """Authenticator apps, recovery codes and challenges."""

    def __init__(self, box: SecretBox | None, *, random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> None:
        """Initializes the instance.

        Args:
            box: Protects the secrets that are shared with apps. None: no app can be set up or checked.
            random_bytes: Of the system, or a test's.
        """
        self.box = box
        self._random_bytes = random_bytes

    # Authenticator apps.

    async def enroll(self, tx: Transaction, user_id: uuid.UUID, box: SecretBox) -> bytes | None:
        """Makes a secret that is not demanded yet, in place of an earlier such one.

        None where the person has an app that is.
        """
        secret = totp.new_secret(self._random_bytes)
        sealed = box.seal(secret, _purpose(user_id))
        made = await tx.fetchval(
            """
            INSERT INTO totp (user_id, sealed, key_version) VALUES ($1, $2, $3)
            ON CONFLICT (user_id) DO UPDATE
                SET sealed = excluded.sealed, key_version = excluded.key_version, last_step = 0
                WHERE totp.enable_time IS NULL
            RETURNING true
            """,
            user_id,
            sealed.content,
            sealed.key_version,
        )
        return secret if made else None

    async def check_totp(
        self, tx: Transaction, user_id: uuid.UUID, typed: str, now: datetime, box: SecretBox, *, enabled: bool
    ) -> bool | None:
        """Checks a code of the app and uses it up: a code works once, and so does none before it.

        Args:
            tx: The transaction.
            user_id: Whose.
            typed: The code, as it was typed.
            now: The time.
            box: Opens the secret.
            enabled: Whether the app is demanded already, or still being set up.

        Returns:
            Whether it is right; None where no such app is set up.

        Raises:
            Unavailable: KEYS_UNAVAILABLE: this process can't open the secret.
        """
        row = await tx.fetchrow(
            "SELECT sealed, key_version FROM totp WHERE user_id = $1 AND (enable_time IS NOT NULL) = $2 FOR UPDATE",
            user_id,
            enabled,
        )
        if row is None:
            return None
        sealed = Sealed(row["sealed"], row["key_version"])
        secret = box.open(sealed, _purpose(user_id))
        step = totp.matching_step(secret, typed, now)
        if step is None:
            return False
        if box.is_outdated(sealed):
            sealed = box.seal(secret, _purpose(user_id))
        return bool(
            await tx.fetchval(
                "UPDATE totp SET last_step = $2, sealed = $3, key_version = $4 WHERE user_id = $1 AND last_step < $2 "
                "RETURNING true",
                user_id,
                step,
                sealed.content,
                sealed.key_version,
            )
        )

    async def enable(self, tx: Transaction, user_id: uuid.UUID, now: datetime) -> None:
        """Has the app demanded from now on."""
        await tx.execute("UPDATE totp SET enable_time = $2 WHERE user_id = $1", user_id, now)

    async def remove(self, tx: Transaction, user_id: uuid.UUID, before: datetime) -> bool:
        """Removes an app that was demanded at a time, the recovery codes and what waits for them.

        Returns whether there was one.
        """
        removed = await tx.fetchval(
            "DELETE FROM totp WHERE user_id = $1 AND enable_time <= $2 RETURNING true", user_id, before
        )
        if removed:
            await tx.execute("DELETE FROM recovery_codes WHERE user_id = $1", user_id)
            await self.void_challenges(tx, user_id)
        return bool(removed)

    # Recovery codes.

    async def replace_recovery_codes(self, tx: Transaction, user_id: uuid.UUID) -> list[str]:
        """New codes in place of the earlier ones. They can be shown now and never again."""
        codes = recovery_code.new_codes(self._random_bytes)
        await tx.execute("DELETE FROM recovery_codes WHERE user_id = $1", user_id)
        await tx.executemany(
            "INSERT INTO recovery_codes (user_id, digest) VALUES ($1, $2)",
            [(user_id, recovery_code.digest(user_id, code)) for code in codes],
        )
        return codes

    async def spend_recovery_code(self, tx: Transaction, user_id: uuid.UUID, typed: str) -> bool:
        """Uses a code up. Of two attempts at once one finds it."""
        return bool(
            await tx.fetchval(
                "DELETE FROM recovery_codes WHERE user_id = $1 AND digest = $2 RETURNING true",
                user_id,
                recovery_code.digest(user_id, typed),
            )
        )

    # Challenges.

    async def challenge(self, tx: Transaction, challenge: Challenge, now: datetime) -> tuple[str, datetime]:
        """Writes a challenge. Returns what answers it, and when it is void."""
        token, expire_time = self._random_bytes(32).hex(), now + CHALLENGE_LIFETIME
        await tx.execute(
            """
            INSERT INTO challenges (
                digest, user_id, client_id, device, scopes, installation_known, expire_time, session_id
            ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
            """,
            _digest(token),
            challenge.user_id,
            challenge.client_id,
            challenge.device.SerializeToString(),
            list(challenge.scopes),
            challenge.installation_known,
            expire_time,
            challenge.session,
        )
        await tx.execute(
            """
            DELETE FROM challenges WHERE digest IN (
                SELECT digest FROM challenges WHERE user_id = $1 ORDER BY expire_time DESC, digest OFFSET $2
                    FOR UPDATE SKIP LOCKED
            )
            """,
            challenge.user_id,
            CHALLENGES_AT_ONCE,
        )
        return token, expire_time

    async def attempt(
        self, tx: Transaction, token: str, now: datetime, *, session: uuid.UUID | None = None
    ) -> Challenge | None:
        """The challenge, with this attempt counted, locked until the transaction ends. None where it is void.

        One of a sign-in is void in a session, and one of a session anywhere else.
        """
        row = await tx.fetchrow(
            """
            UPDATE challenges SET attempts = attempts + 1 WHERE digest = $1 AND expire_time > $2 AND attempts < $3
                AND session_id IS NOT DISTINCT FROM $4
            RETURNING user_id, client_id, device, scopes, installation_known
            """,
            _digest(token),
            now,
            CHALLENGE_ATTEMPTS,
            session,
        )
        if row is None:
            return None
        return Challenge(
            user_id=row["user_id"],
            client_id=row["client_id"],
            device=token_set_pb2.Device.FromString(row["device"]),
            scopes=row["scopes"],
            installation_known=row["installation_known"],
            session=session,
        )

    async def spend(self, tx: Transaction, token: str) -> bool:
        """Uses a challenge up. Of two attempts at once one finds it."""
        return bool(await tx.fetchval("DELETE FROM challenges WHERE digest = $1 RETURNING true", _digest(token)))

    async def void_challenges(self, tx: Transaction, user_id: uuid.UUID) -> None:
        """Uses all challenges of a person up."""
        await tx.execute("DELETE FROM challenges WHERE user_id = $1", user_id)


def challenge_of_passkey(token: str) -> bytes:
    """What a passkey signs that answers a challenge: each is another one, and works once, as the challenge does."""
    return hashlib.sha256(b"passkey " + token.encode()).digest()


def _digest(token: str) -> bytes:
    # Of 256 random bits: nothing slow is needed.
    return hashlib.sha256(token.encode()).digest()


def _purpose(user_id: uuid.UUID) -> str:
    return f"{USER.of(user_id)} totp"
