"""Auth in a local mesh."""

import secrets
from collections.abc import Mapping
from functools import partial

from mesh.operator.local_service import LocalPlace, LocalService
from mesh.operator.secret_file import load_or_create


def _settings(place: LocalPlace) -> Mapping[str, str]:
    """The secret that protects those of authenticator apps. It stays when the mesh starts again."""
    file = place.secrets / "mfa-secret"
    load_or_create(file, partial(secrets.token_bytes, 32))
    return {"MFA_SECRET_FILES": str(file)}


service = LocalService(outputs={"NOTICES_QUEUE_URL": "NoticesQueueUrl"}, settings=_settings)
