"""An identity provider (OpenID Connect) on real HTTPS, that signs whatever a test wants."""

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from mesh.local.authority import MeshAuthorities
from mesh.spiffe import SpiffeIds

AUDIENCE = "our-client"
NONCE = "n-0S6_WzA2Mj"


@dataclass
class OidcProvider:
    """The provider. What it answers can be spoiled."""

    issuer: str
    ca_file: Path
    key: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    key_id: str = "key-1"
    spoiled: web.StreamResponse | None = None
    """What it answers in place of its key set."""
    stall: float = 0
    """Seconds before it answers."""
    asked: int = 0
    """How often its key set was read."""

    @property
    def algorithm(self) -> str:
        return "RS256" if isinstance(self.key, rsa.RSAPrivateKey) else "ES256"

    def token(self, *, header: dict[str, Any] | None = None, key: Any = None, alg: str = "", **changes: Any) -> str:
        """An ID token. None takes a claim out."""
        now = int(time.time())
        claims = {
            "iss": self.issuer, "sub": "ada", "aud": AUDIENCE, "exp": now + 300, "iat": now, "nonce": NONCE,
            "email": "ada@provider.example", "email_verified": True,
        } | changes  # fmt: skip
        content = {name: value for name, value in claims.items() if value is not None}
        headers = {"kid": self.key_id} | (header or {})
        return jwt.encode(content, key if key is not None else self.key, alg or self.algorithm, headers)

    def jwks(self) -> dict[str, Any]:
        algorithm: Any = RSAAlgorithm if self.algorithm == "RS256" else ECAlgorithm
        own = json.loads(algorithm.to_jwk(self.key.public_key())) | {"kid": self.key_id, "use": "sig"}
        # Others that we can't use must be in no one's way.
        return {"keys": [own, {"kty": "OKP", "kid": "other", "alg": "EdDSA", "crv": "Ed25519", "x": "AA"}]}

    async def _discovery(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"})

    async def _keys(self, _: web.Request) -> web.StreamResponse:
        self.asked += 1
        await asyncio.sleep(self.stall)
        return self.spoiled or web.json_response(self.jwks())


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[OidcProvider]:
    """Starts one on a free port."""
    authorities = MeshAuthorities.load_or_create(folder / "authority", folder / "certificates", SpiffeIds("provider"))
    authorities.issue(["provider"])
    certificates = authorities.public_certificates
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "tls.crt", certificates / "tls.key")
    provider = OidcProvider("", certificates / "ca.crt")
    application = web.Application()
    application.router.add_get("/.well-known/openid-configuration", provider._discovery)
    application.router.add_get("/keys", provider._keys)
    # One that stalls is not waited for.
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    provider.issuer = f"https://localhost:{runner.addresses[0][1]}"
    try:
        yield provider
    finally:
        await runner.cleanup()
