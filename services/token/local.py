"""Token in a local mesh: where its keys are, and clocks that fit each other."""

import secrets
from collections.abc import Mapping
from functools import partial

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mesh.operator.local_service import LocalPlace, LocalService
from mesh.operator.secret_file import load_or_create

KEY_LEAD_MARGIN = 30
"""Seconds that a new signing key is in the JWKS beyond the time that anyone here keeps it."""


def _settings(place: LocalPlace) -> Mapping[str, str]:
    """What the user chooses of them moves the others along."""
    environment = place.environment
    key_file, secret_file = place.secrets / "signing-key.pem", place.secrets / "signing-secret"
    load_or_create(key_file, partial(_new_signing_key, environment.get("SIGNING_ALGORITHM") or "ES256"))
    load_or_create(secret_file, partial(secrets.token_bytes, 32))
    longest_cache = environment.get("JWKS_MAX_CACHE_SECONDS") or str(place.jwks_cache)
    lead = float(longest_cache) + KEY_LEAD_MARGIN if longest_cache.isdecimal() else None
    local_keys = (environment.get("SIGNING_KEYS") or "local") == "local"
    return {
        "SIGNING_SECRETS": str(secret_file),
        **({"SIGNING_KEY_FILE": str(key_file)} if local_keys else {}),
        "JWKS_MAX_CACHE_SECONDS": longest_cache,
        **({"SIGNING_LEAD_SECONDS": str(lead)} if lead else {}),
    }


def _new_signing_key(algorithm: str) -> bytes:
    """A new private key as PEM: EC P-256, or RSA for RS256."""
    key = rsa.generate_private_key(65537, 2048) if algorithm == "RS256" else ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


service = LocalService(settings=_settings)
