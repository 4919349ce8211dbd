"""A provider's keys, read over HTTPS: bounded in size and time, without redirects, and remembered."""

import json
import ssl
from typing import Any

import aiohttp

from mesh.errors import Reason, Unavailable
from mesh.tokens.keys import ANY_ALGORITHM, JWKS_LIMIT, KeySet
from services.auth.identities.providers import Provider

REFRESH_SECONDS = 3600.0
TIMEOUT_SECONDS = 5.0
_ALGORITHM_OF_KEY = {"RSA": "RS256", "EC": "ES256"}


class ProviderKeys(KeySet):
    """The keys of one provider. Auth is ready without them: only sign-ins by this provider need them."""

    def __init__(self, name: str, provider: Provider) -> None:
        super().__init__(self._read, algorithms=ANY_ALGORITHM, refresh_seconds=REFRESH_SECONDS)
        self.name = f"keys_of_{name}"
        self._provider = provider
        self._ssl = ssl.create_default_context(cafile=provider.ca_file)

    @property
    def ready(self) -> None:
        """Readiness does not depend on a provider."""
        return

    async def _read(self) -> bytes:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        connector = aiohttp.TCPConnector(ssl=self._ssl)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            uri = self._provider.jwks_uri or await self._discover(session)
            keys = (await _get(session, uri)).get("keys")
        if not isinstance(keys, list):
            raise _unavailable("its key set has no keys")
        return json.dumps({"keys": [key for found in keys if (key := _usable(found))]}).encode()

    async def _discover(self, session: aiohttp.ClientSession) -> str:
        """The `jwks_uri` of the discovery document (OpenID Connect Discovery 1.0, section 4)."""
        issuer = self._provider.issuer
        document = await _get(session, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        uri = document.get("jwks_uri")
        if document.get("issuer") != issuer:
            raise _unavailable("its discovery document is another issuer's")
        if not isinstance(uri, str) or not uri.startswith("https://"):
            raise _unavailable("its discovery document has no jwks_uri with https")
        return uri


def _usable(key: object) -> dict[str, Any] | None:
    """A key that we verify with; None for others, which a provider may have beside those."""
    if not isinstance(key, dict) or key.get("use", "sig") != "sig":
        return None
    algorithm = key.get("alg", _ALGORITHM_OF_KEY.get(str(key.get("kty"))))
    return {**key, "alg": algorithm} if algorithm in ANY_ALGORITHM else None


async def _get(session: aiohttp.ClientSession, uri: str) -> dict[str, Any]:
    try:
        async with session.get(uri, allow_redirects=False) as answer:
            if answer.status != 200:
                raise _unavailable(f"it answers {answer.status}")
            content = b""
            async for piece in answer.content.iter_chunked(16 * 1024):
                content += piece
                if len(content) > JWKS_LIMIT:
                    raise _unavailable(f"it answers more than {JWKS_LIMIT} bytes")
        document = json.loads(content)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise _unavailable(type(error).__name__) from None
    except (ValueError, RecursionError):
        raise _unavailable("it answers no JSON") from None
    if not isinstance(document, dict):
        raise _unavailable("it answers no JSON object")
    return document


def _unavailable(cause: str) -> Unavailable:
    return Unavailable(Reason.KEYS_UNAVAILABLE, f"the identity provider's keys can't be read: {cause}")
