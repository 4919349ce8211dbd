"""Auth in a local mesh."""

import secrets
from collections.abc import Mapping
from functools import partial
from urllib.parse import urlsplit

from mesh.operator.local_service import LocalPlace, LocalService
from mesh.operator.secret_file import load_or_create


def _settings(place: LocalPlace) -> Mapping[str, str]:
    """Secrets, which stay when the mesh starts again; and passkeys."""
    files = {"MFA_SECRETS": place.secrets / "mfa-secret", "PASSWORD_PEPPERS": place.secrets / "password-pepper"}
    for file in files.values():
        load_or_create(file, partial(secrets.token_bytes, 32))
    return {**{name: str(file) for name, file in files.items()}, **_passkeys(place), **_cognito(place)}


def _cognito(place: LocalPlace) -> Mapping[str, str]:
    """The user pool, where the mesh has one."""
    if (pool := place.user_pool) is None:
        return {}
    return {
        "IDENTITY_PROVIDER": "cognito",
        "COGNITO_USER_POOL_ID": pool.pool_id,
        "COGNITO_CLIENT_ID": pool.client_id,
        "COGNITO_CLIENT_SECRET": str(pool.secret),
    }


def _passkeys(place: LocalPlace) -> Mapping[str, str]:
    """Passkeys for the edge's host and the pages that the user allows to call it. An IP address can't have any."""
    host = urlsplit(place.edge_url).hostname or ""
    if host.replace(".", "").isdigit() or ":" in host:
        return {}
    pages = [page.strip() for page in place.environment.get("CORS_ORIGINS", "").split(",")]
    own = [page for page in pages if urlsplit(page).hostname == host]
    return {"PASSKEY_RP_ID": host, "PASSKEY_ORIGINS": ",".join([place.edge_url, *own])}


service = LocalService(outputs={"NOTICES_QUEUE_URL": "NoticesQueueUrl"}, settings=_settings)
