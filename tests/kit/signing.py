"""One signing key, in the place of Token's ring of keys."""

import json

from cryptography.hazmat.primitives.asymmetric import ec

from services.token.keys.signer import LocalSigner, PrivateKey, Signer, public_jwk


class OneKey:
    """Signs with the key that it was given, for ever."""

    def __init__(self, key: PrivateKey | None = None) -> None:
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.signer = LocalSigner(self.key)

    async def active(self) -> Signer:
        return self.signer

    async def jwks(self) -> bytes:
        member = public_jwk(self.key.public_key()) | {
            "kid": self.signer.key_id,
            "alg": self.signer.algorithm,
            "use": "sig",
        }
        return json.dumps({"keys": [member]}).encode()
