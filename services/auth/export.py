"""What Auth holds of a person. Secrets and their digests stay: of those it is told that they are there."""

import uuid
from collections.abc import AsyncIterator

from authmesh.export.v1.export_pb2 import ExportedItem

from mesh.export import exported
from mesh.outbox.work import Work
from services.auth.identities.service import identity_message
from services.auth.identities.store import Identities
from services.auth.passkeys.service import passkey_message
from services.auth.passkeys.store import Passkeys

_ACCOUNT = """
SELECT email, disabled, create_time FROM accounts WHERE user_id = $1
"""
_SIGN_UPS = """
SELECT email, display_name, create_time, verify_time FROM sign_ups WHERE user_id = $1
"""
_TOTP = """
SELECT enable_time FROM totp WHERE user_id = $1 AND enable_time IS NOT NULL
"""
_RECOVERY_CODES = """
SELECT count(*) FROM recovery_codes WHERE user_id = $1 HAVING count(*) > 0
"""
_DEVICES = """
SELECT last_time FROM familiar_sources WHERE user_id = $1 ORDER BY last_time
"""
_ROWS = {
    "accounts": (_ACCOUNT, {"email": "email", "disabled": "disabled", "createTime": "create_time"}),
    "signUps": (
        _SIGN_UPS,
        {"email": "email", "displayName": "display_name", "createTime": "create_time", "verifyTime": "verify_time"},
    ),
    "authenticatorApps": (_TOTP, {"enableTime": "enable_time"}),
    "recoveryCodes": (_RECOVERY_CODES, {"left": "count"}),
    "knownDevices": (_DEVICES, {"lastUsedTime": "last_time"}),
}


class Export:
    """Hands it out."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._passkeys = Passkeys()
        self._identities = Identities()

    async def items(self, user_id: uuid.UUID) -> AsyncIterator[ExportedItem]:
        """Of a person: a bounded number of each."""
        async with self._work.begin() as tx:
            items = [
                exported(collection, {member: row[column] for member, column in members.items()})
                for collection, (statement, members) in _ROWS.items()
                for row in await tx.fetch(statement, user_id)
            ]
            items += [exported("passkeys", passkey_message(key)) for key in await self._passkeys.of_user(tx, user_id)]
            items += [
                exported("identities", identity_message(identity))
                for identity in await self._identities.of_user(tx, user_id)
            ]
        for item in items:
            yield item
