"""An authenticator in software: what a browser and a security key do together, and what they would never do."""

import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from fido2.cose import ES256
from fido2.utils import websafe_decode, websafe_encode
from fido2.webauthn import (
    Aaguid,
    AttestationObject,
    AttestedCredentialData,
    AuthenticatorData,
    CollectedClientData,
)

FLAG = AuthenticatorData.FLAG


@dataclass
class SoftwareAuthenticator:
    """Keeps one passkey."""

    origin: str
    flags: AuthenticatorData.FLAG = FLAG.UP | FLAG.UV
    """Of what it answers. Backup eligibility (BE) makes a synced passkey."""
    rp_id: str = ""
    """Another one than that of the options."""
    challenge: bytes = b""
    """Another one than that of the options."""
    cross_origin: bool = False
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    credential_id: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    user_handle: bytes = b""
    count: int = 0

    def create(self, options_json: str) -> str:
        """`RegistrationResponseJSON`: a new passkey."""
        options = json.loads(options_json)
        self.user_handle = websafe_decode(options["user"]["id"])
        public_key: Any = ES256.from_cryptography_key(self.key.public_key())  # type: ignore[no-untyped-call]
        credential = AttestedCredentialData.create(Aaguid.NONE, self.credential_id, public_key)
        data = AuthenticatorData.create(
            self._rp_id_hash(options["rp"]["id"]), self.flags | FLAG.AT, self.count, credential
        )
        client_data = self._client_data(CollectedClientData.TYPE.CREATE, options)
        return self._response(
            {
                "clientDataJSON": websafe_encode(client_data),
                "attestationObject": websafe_encode(AttestationObject.create("none", data, {})),
                "transports": ["internal"],
            }
        )

    def get(self, options_json: str) -> str:
        """`AuthenticationResponseJSON`: the passkey, used once more."""
        options = json.loads(options_json)
        data = AuthenticatorData.create(self._rp_id_hash(options["rpId"]), self.flags, self.count)
        client_data = self._client_data(CollectedClientData.TYPE.GET, options)
        signature = self.key.sign(data + client_data.hash, ec.ECDSA(SHA256()))
        return self._response(
            {
                "clientDataJSON": websafe_encode(client_data),
                "authenticatorData": websafe_encode(data),
                "signature": websafe_encode(signature),
                "userHandle": websafe_encode(self.user_handle),
            }
        )

    def _client_data(self, kind: Any, options: dict[str, Any]) -> CollectedClientData:
        challenge = self.challenge or websafe_decode(options["challenge"])
        return CollectedClientData.create(kind, challenge, self.origin, cross_origin=self.cross_origin)

    def _rp_id_hash(self, rp_id: str) -> bytes:
        return hashlib.sha256((self.rp_id or rp_id).encode()).digest()

    def _response(self, response: dict[str, Any]) -> str:
        name = websafe_encode(self.credential_id)
        return json.dumps({"id": name, "rawId": name, "type": "public-key", "response": response})
