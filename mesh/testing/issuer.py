"""An issuer in the process of a test."""

import json
import time
from collections.abc import AsyncGenerator, Iterable
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from grpc import aio
from jwt.algorithms import ECAlgorithm

from mesh.ids import uuid7
from mesh.rpc.limits import Limits
from mesh.tokens.authentication import Authentication
from mesh.tokens.feed import RevocationFeed
from mesh.tokens.keys import KeySet
from mesh.tokens.policy import Policy
from mesh.tokens.revocations import Revocation, RevocationKind, RevocationSet, Snapshot
from mesh.tokens.verifier import MAX_LIFETIME_SECONDS, Verifier

_PLACES = 200
_NOWHERE = "unix:///nowhere"


class _FreshFeed(RevocationFeed):
    """Knows everything at every moment: there is no other process to hear of."""

    def staleness(self) -> float:
        return 0.0


class LocalIssuer:
    """Issues access tokens (RFC 9068) with a key of its own, and revokes them."""

    def __init__(self, issuer: str = "https://issuer.test", audience: str = "authmesh") -> None:
        """Initializes the instance.

        Args:
            issuer: `iss`.
            audience: `aud`.
        """
        self._issuer = issuer
        self._audience = audience
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._key_id = "test"
        self._revocations = RevocationSet()
        self._sequence = 0

    def token(
        self,
        subject: str | None = None,
        *,
        scopes: Iterable[str] = (),
        roles: Iterable[str] = (),
        client: str = "demo",
        session: str | None = None,
        seconds: int = 600,
        amr: Iterable[str] = ("pwd",),
    ) -> str:
        """An access token.

        Args:
            subject: `sub`, a user's id; a new one by default.
            scopes: What it admits to.
            roles: Of the user.
            client: `client_id`.
            session: `sid`; a new one by default.
            seconds: How long it is valid; negative for one that has expired.
            amr: How the person signed in (RFC 8176).
        """
        now = int(time.time())
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": subject or str(uuid4()),
            "sid": session or str(uuid7()),
            "client_id": client,
            "jti": str(uuid7()),
            "iat": now if seconds > 0 else now + 2 * seconds,
            "exp": now + seconds,
            "auth_time": now,
            "amr": list(amr),
            **({"scope": " ".join(sorted(scopes))} if scopes else {}),
            **({"roles": sorted(roles)} if roles else {}),
        }
        return jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": self._key_id, "typ": "at+jwt"})

    def metadata(self, subject: str | None = None, **claims: object) -> aio.Metadata:
        """Metadata of a call with such a token (see `token`)."""
        return aio.Metadata(("authorization", f"Bearer {self.token(subject, **claims)}"))  # type: ignore[arg-type]

    def revoke_session(self, session: str) -> None:
        """Refuses every token of a session from now on, also in open streams."""
        self._sequence += 1
        expires_at = int(time.time()) + MAX_LIFETIME_SECONDS
        self._revocations.add((Revocation(self._sequence, RevocationKind.SESSION, session, 0, expires_at),))

    async def jwks(self) -> bytes:
        """The key set (RFC 7517)."""
        public = ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return json.dumps({"keys": [public | {"kid": self._key_id, "alg": "ES256", "use": "sig"}]}).encode()

    async def authentication(self) -> Authentication:
        """The stage of a process that trusts this issuer: `mesh.rpc.server.serve` takes it, and so does `serving`."""
        keys = KeySet(self.jwks)
        await keys.refresh()

        async def nothing() -> AsyncGenerator[Snapshot]:
            yield Snapshot("test", 0, ())

        return Authentication(
            Verifier(keys, self._issuer, self._audience),
            keys,
            self._revocations,
            _FreshFeed(_NOWHERE, nothing, self._revocations),
            Policy(),
            Limits(_PLACES),
        )
