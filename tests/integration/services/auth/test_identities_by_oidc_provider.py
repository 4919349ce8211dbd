"""ID tokens of a provider that is not ours: npm's `oidc-provider`, which is certified, by its own sign-in pages."""

import asyncio
import secrets
import shutil
import ssl
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from authmesh.token.v1 import token_set_pb2

from mesh.errors import FailedPrecondition, Reason, Unauthenticated
from mesh.local.authority import MeshAuthorities
from mesh.local.ports import free_port
from mesh.spiffe import SpiffeIds
from services.auth.identities.identities import Exchange, KnownProvider
from services.auth.identities.provider_keys import ProviderKeys
from services.auth.identities.providers import Provider
from tests.integration.services.auth.conftest import HOME, Auth, refused
from tests.kit.pages import npm_install

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")]
CLIENT, SECRET, CALLBACK = "our-client", "of-the-client", "https://app.example/callback"
SERVER = """
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { Provider } from 'oidc-provider';

const [issuer, folder] = process.argv.slice(2);
const provider = new Provider(issuer, {
  clients: [{ client_id: 'CLIENT', client_secret: 'SECRET', redirect_uris: ['CALLBACK'] }],
  pkce: { required: () => false },
  conformIdTokenClaims: false,
  claims: { openid: ['sub'], email: ['email', 'email_verified'] },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, email: `${id}@provider.example`, email_verified: true }),
  }),
});
const tls = { cert: readFileSync(`${folder}/tls.crt`), key: readFileSync(`${folder}/tls.key`) };
createServer(tls, provider.callback()).listen(new URL(issuer).port, '127.0.0.1', () => console.log('ready'));
"""


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[Provider]:
    """Runs it."""
    authorities = MeshAuthorities.load_or_create(
        tmp_path / "authority", tmp_path / "certificates", SpiffeIds("provider")
    )
    authorities.issue(["provider"])
    certificates = authorities.public_certificates
    await npm_install(tmp_path, "oidc-provider@9.13.3")
    script = SERVER.replace("CLIENT", CLIENT).replace("SECRET", SECRET).replace("CALLBACK", CALLBACK)
    (tmp_path / "server.mjs").write_text(script)
    issuer = f"https://localhost:{free_port()}"
    process = await asyncio.create_subprocess_exec(
        "node", "server.mjs", issuer, str(certificates), cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            while b"ready" not in await process.stdout.readline():
                assert process.returncode is None
        yield Provider(issuer=issuer, audiences=frozenset({CLIENT}), ca_file=certificates / "ca.crt")
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def sign_in_there(provider: Provider, login: str, nonce: str) -> str:
    """Goes through its pages as a browser would, and gives the ID token."""
    trust = ssl.create_default_context(cafile=provider.ca_file)
    async with httpx.AsyncClient(base_url=provider.issuer, verify=trust) as browser:
        asked = {"client_id": CLIENT, "response_type": "code", "scope": "openid email", "nonce": nonce}
        answer = await browser.get("/auth", params=asked | {"redirect_uri": CALLBACK})
        for _ in range(10):
            location = answer.headers.get("location", "")
            if location.startswith(CALLBACK):
                break
            if urlsplit(location).path.startswith("/interaction/"):
                page = (await browser.get(location)).text
                prompt = "login" if 'value="login"' in page else "consent"
                form = {"prompt": prompt} | ({"login": login, "password": "x"} if prompt == "login" else {})
                answer = await browser.post(location, data=form)
            else:
                answer = await browser.get(location)
        (code,) = parse_qs(urlsplit(location).query)["code"]
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK}
        tokens = await browser.post("/token", data=form, auth=(CLIENT, SECRET))
        return str(tokens.json()["id_token"])


async def test_a_person_of_another_provider_links_and_signs_in(auth: Auth, provider: Provider) -> None:
    links = auth.linked_to([KnownProvider(provider, ProviderKeys("other", provider))])
    user_id = await auth.verified()

    async def exchange(login: str, *, presented: str = "") -> token_set_pb2.TokenSet:
        nonce = secrets.token_urlsafe()
        token = await sign_in_there(provider, login, nonce)
        device = token_set_pb2.Device()
        return await links.exchange(Exchange(token, presented or nonce, "demo", device, HOME, "test/1"))

    await refused(exchange("ada"), FailedPrecondition, Reason.IDENTITY_NOT_LINKED)
    nonce = secrets.token_urlsafe()
    identity = await links.link(user_id, await sign_in_there(provider, "ada", nonce), nonce)
    assert (identity.issuer, identity.subject, identity.email) == (provider.issuer, "ada", "ada@provider.example")
    assert uuid.UUID((await exchange("ada")).session.split("/")[1]) == user_id
    await refused(exchange("ada", presented="another nonce"), Unauthenticated, Reason.CREDENTIALS_INVALID)
    await refused(exchange("eve"), FailedPrecondition, Reason.IDENTITY_NOT_LINKED)
