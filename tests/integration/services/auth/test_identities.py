"""Identities of another provider, which runs on real HTTPS: linked, used to sign in, and unlinked."""

import asyncio
import secrets
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyotp
import pytest
from aiohttp import web
from authmesh.token.v1 import token_set_pb2
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mesh.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Reason,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from mesh.model.document import DocumentError
from services.auth import throttle
from services.auth.identities import provider_keys
from services.auth.identities.identities import MOST, Exchange, IdentityLinks, KnownProvider
from services.auth.identities.provider_keys import ProviderKeys
from services.auth.identities.providers import Provider, load_providers
from services.auth.identities.store import Identity
from tests.integration.services.auth.conftest import HOME, Auth, refused
from tests.kit.oidc_provider import AUDIENCE, NONCE, OidcProvider, running

DEVICE = token_set_pb2.Device(display_name="laptop")


@dataclass
class Linked:
    auth: Auth
    id: uuid.UUID
    provider: OidcProvider
    keys: ProviderKeys
    links: IdentityLinks

    async def link(self, **claims: Any) -> Identity:
        return await self.links.link(self.id, self.token(**claims), NONCE)

    def token(self, **claims: Any) -> str:
        # Each is another one.
        return self.provider.token(**({"jti": secrets.token_hex(8)} | claims))

    async def sign_in(self, token: str = "", nonce: str = NONCE, address: str = HOME) -> token_set_pb2.TokenSet:
        return await self.links.exchange(Exchange(token or self.token(), nonce, "demo", DEVICE, address, "test/1"))


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[OidcProvider]:
    async with running(tmp_path) as started:
        yield started


def believing(auth: Auth, provider: OidcProvider) -> tuple[ProviderKeys, IdentityLinks]:
    known = Provider(issuer=provider.issuer, audiences=frozenset({AUDIENCE}), ca_file=provider.ca_file)
    keys = ProviderKeys("other", known)
    return keys, auth.linked_to([KnownProvider(known, keys)])


@pytest.fixture
async def ada(auth: Auth, provider: OidcProvider) -> Linked:
    keys, links = believing(auth, provider)
    return Linked(auth, await auth.verified(), provider, keys, links)


async def token_refused(ada: Linked, token: str, says: str, nonce: str = NONCE) -> None:
    """Neither signs in nor links."""
    refusal = await refused(ada.sign_in(token, nonce), Unauthenticated, Reason.CREDENTIALS_INVALID)
    assert says in refusal.message
    linking = await refused(ada.links.link(ada.id, token, nonce), InvalidArgument, Reason.FIELD_INVALID, "id_token")
    assert says in linking.message


async def test_a_linked_identity_signs_in(ada: Linked) -> None:
    identity = await ada.link()
    assert (identity.issuer, identity.subject, identity.email) == (ada.provider.issuer, "ada", "ada@provider.example")
    assert (await ada.sign_in()).access_token
    (order,) = ada.auth.token.orders
    assert (order.subject, order.client_id, list(order.amr), order.device) == (str(ada.id), "demo", ["fed"], DEVICE)
    (listed,) = await ada.links.of_user(ada.id)
    assert listed.last_used_time == ada.auth.clock.now
    assert len(await ada.auth.events("auth.identity_linked")) == len(await ada.auth.events("auth.signed_in")) == 1
    await ada.links.unlink(ada.id, identity.id)
    await refused(ada.sign_in(), FailedPrecondition, Reason.IDENTITY_NOT_LINKED)
    await refused(ada.links.unlink(ada.id, identity.id), NotFound, Reason.IDENTITY_NOT_FOUND)
    assert await ada.auth.kinds() == ["identity_linked", "identity_unlinked"]
    # The password is there all the while.
    assert await ada.auth.sign_in()


async def test_an_address_links_nothing(ada: Linked) -> None:
    token = ada.token(email="ada@example.com", email_verified=True)
    await refused(ada.sign_in(token), FailedPrecondition, Reason.IDENTITY_NOT_LINKED)
    assert ada.auth.token.orders == []


async def test_rsa_keys_and_new_keys_are_learned(ada: Linked) -> None:
    await ada.link()
    ada.provider.key, ada.provider.key_id = rsa.generate_private_key(65537, 2048), "key-2"
    ada.keys._asked_at = -1e9
    assert await ada.sign_in()


async def test_unknown_keys_cause_few_reads(ada: Linked) -> None:
    await ada.link()
    asked = ada.provider.asked
    for number in range(20):
        await token_refused(ada, ada.token(header={"kid": f"forged-{number}"}), "not signed by its issuer")
    assert ada.provider.asked <= asked + 1


async def test_what_is_not_a_token_for_us_is_refused(ada: Linked) -> None:
    await ada.link()
    now = int(time.time())
    other = ec.generate_private_key(ec.SECP256R1())
    good = ada.token()
    head, payload, signature = good.split(".")
    none = ada.provider.token(alg="none", key="")
    hs256 = ada.provider.token(alg="HS256", key="k" * 32)
    for token, says in {
        ada.token(aud=[AUDIENCE, "another"]): "another audience",
        ada.token(aud="another"): "another audience",
        ada.token(aud=None): "another audience",
        ada.token(azp="another"): "another client",
        ada.token(exp=now - 61): "expired",
        ada.token(iat=now + 90): "not valid yet",
        ada.token(nbf=now + 90): "not valid yet",
        ada.token(iat=now - 700): "older than 600 s",
        ada.token(nonce=None): "nonce",
        ada.token(nonce="another"): "nonce",
        ada.token(iss="https://another.example"): "providers",
        ada.token(iss=ada.provider.issuer + "/"): "providers",
        ada.token(key=other): "not signed by its issuer",
        none: "can't be read",
        hs256: "not signed by its issuer",
        ada.token(header={"typ": "at+jwt"}): "can't be read",
        ada.token(header={"jku": "https://evil.example"}): "can't be read",
        ada.token(sub=None): "can't be read",
        ada.token(iat=None): "can't be read",
        f"{head}.{payload}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}": "not signed by its issuer",
        "x": "can't be read",
        "x" * 9000: "can't be read",
    }.items():
        await token_refused(ada, token, says)
    await token_refused(ada, ada.token(), "nonce", nonce="x" * 200)
    assert ada.auth.token.orders == []


async def test_a_token_works_once(ada: Linked) -> None:
    token = ada.token()
    await ada.links.link(ada.id, token, NONCE)
    await refused(ada.sign_in(token), Unauthenticated, Reason.CREDENTIALS_INVALID)
    again = ada.token()
    outcomes = await asyncio.gather(*(ada.sign_in(again) for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(outcome, token_set_pb2.TokenSet) for outcome in outcomes) == 1
    assert len(ada.auth.token.orders) == 1


async def test_an_identity_belongs_to_one_account(ada: Linked) -> None:
    await ada.link()
    bob = await ada.auth.verified("bob@example.com")
    for whose in (ada.id, bob):
        await refused(ada.links.link(whose, ada.token(), NONCE), AlreadyExists, Reason.IDENTITY_ALREADY_LINKED)
    for number in range(MOST - 1):
        await ada.link(sub=f"ada-{number}")
    await refused(ada.link(sub="one-more"), ResourceExhausted, Reason.QUOTA_EXCEEDED)


async def test_an_authenticator_app_is_not_gone_around(ada: Linked) -> None:
    await ada.link()
    app = pyotp.parse_uri((await ada.auth.mfa.enroll(ada.id)).uri)
    assert isinstance(app, pyotp.TOTP)
    await ada.auth.mfa.confirm(ada.id, uuid.uuid4(), app.at(ada.auth.clock.now))
    await refused(ada.sign_in(), FailedPrecondition, Reason.MFA_ENABLED)
    await ada.sign_in(ada.token(amr=["pwd", "mfa"]))
    assert list(ada.auth.token.orders[-1].amr) == ["fed", "mfa"]


async def test_disabled_and_erased_people_sign_in_with_nothing(ada: Linked) -> None:
    await ada.link()
    await ada.auth.credentials.set_status(ada.id, disabled=True, version=2)
    await refused(ada.sign_in(), Unauthenticated, Reason.CREDENTIALS_INVALID)
    await ada.auth.credentials.delete(ada.id)
    await refused(ada.sign_in(), FailedPrecondition, Reason.IDENTITY_NOT_LINKED)
    await refused(ada.link(sub="new"), NotFound, Reason.USER_NOT_FOUND)


SPOILED = {
    "redirect": lambda: web.Response(status=302, headers={"location": "https://localhost:1/keys"}),
    "too large": lambda: web.Response(body=b" " * 10_000_000),
    "no json": lambda: web.Response(text="<html>"),
    "no keys": lambda: web.json_response({"keys": 1}),
    "fault": lambda: web.Response(status=500),
}


@pytest.mark.parametrize("spoiled", SPOILED.values(), ids=SPOILED.keys())
async def test_a_key_set_that_can_t_be_used_is_an_outage(ada: Linked, spoiled: Any) -> None:
    ada.provider.spoiled = spoiled()
    await refused(ada.sign_in(), Unavailable, Reason.KEYS_UNAVAILABLE)
    await refused(ada.link(), Unavailable, Reason.KEYS_UNAVAILABLE)
    assert ada.keys.ready is None


async def test_a_provider_that_does_not_answer_holds_no_one_up(ada: Linked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provider_keys, "TIMEOUT_SECONDS", 0.2)
    ada.provider.stall = 30
    async with asyncio.timeout(5):
        await refused(ada.sign_in(), Unavailable, Reason.KEYS_UNAVAILABLE)


async def test_a_certificate_of_nobody_we_know_is_an_outage(auth: Auth, provider: OidcProvider) -> None:
    known = Provider(issuer=provider.issuer, audiences=frozenset({AUDIENCE}))
    links = auth.linked_to([KnownProvider(known, ProviderKeys("other", known))])
    exchange = Exchange(provider.token(), NONCE, "demo", DEVICE, HOME, "test/1")
    await refused(links.exchange(exchange), Unavailable, Reason.KEYS_UNAVAILABLE)
    assert provider.asked == 0


async def test_refusals_of_one_network_are_bounded_while_others_sign_in(ada: Linked) -> None:
    await ada.link()
    bad = ada.token(aud="another")
    for _ in range(throttle.GUESSES_BY_NETWORK.burst):
        with pytest.raises(Unauthenticated):
            await ada.sign_in(bad, address="198.51.100.1")
    await refused(ada.sign_in(bad, address="198.51.100.1"), ResourceExhausted, Reason.RATE_LIMITED)
    assert await ada.sign_in()


async def test_without_providers_nothing_is_offered(auth: Auth) -> None:
    exchange = Exchange("x", "n", "demo", DEVICE, HOME, "")
    await refused(auth.identities.exchange(exchange), Unimplemented, Reason.NOT_IMPLEMENTED)
    await refused(auth.identities.link(uuid.uuid4(), "x", "n"), Unimplemented, Reason.NOT_IMPLEMENTED)


FILE = """
providers:
  google:
    issuer: https://accounts.google.com
    audiences: [a.apps.googleusercontent.com]
    jwks_uri: https://www.googleapis.com/oauth2/v3/certs
"""


def test_the_file_names_whom_we_believe(tmp_path: Path) -> None:
    file = tmp_path / "providers.yaml"
    file.write_text(FILE)
    (google,) = load_providers(file).values()
    assert (google.issuer, google.max_age_seconds) == ("https://accounts.google.com", 600)


@pytest.mark.parametrize(("text", "says"), [
    (FILE.replace("issuer: https", "issuer: http"), "providers.google.issuer"),
    (FILE.replace("[a.apps.googleusercontent.com]", "[]"), "providers.google.audiences"),
    (FILE + "    colour: red\n", "providers.google.colour"),
    (FILE + "  again:\n    issuer: https://accounts.google.com\n    audiences: [a]\n", "twice"),
    (FILE.replace("google:", "Google!:"), "Google!"), ("providers: [", "providers.yaml"), ("", "providers.yaml"),
])  # fmt: skip
def test_a_file_that_is_wrong_is_named(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "providers.yaml"
    file.write_text(text)
    with pytest.raises(DocumentError, match=says):
        load_providers(file)
    with pytest.raises(DocumentError, match="No such file"):
        load_providers(tmp_path / "missing.yaml")
