"""A real browser registers a passkey at the edge, and signs in with it."""

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import RunningMesh, sign_up
from tests.kit import chromium

CALL = """
const call = async (path, body, token) => {
    const headers = {"content-type": "application/json", ...(token ? {authorization: `Bearer ${token}`} : {})};
    const answer = await fetch(path, {method: "POST", headers, body: JSON.stringify(body)});
    const content = await answer.json();
    if (!answer.ok) throw new Error(JSON.stringify(content));
    return content;
};
"""
REGISTER = (
    CALL
    + """
const begun = await call("/v1/passkeys:beginRegistration", {}, TOKEN);
const options = PublicKeyCredential.parseCreationOptionsFromJSON(JSON.parse(begun.creationOptionsJson));
const made = await navigator.credentials.create({publicKey: options});
const credentialJson = JSON.stringify(made.toJSON());
return await call(
    "/v1/passkeys:finishRegistration", {ceremony: begun.ceremony, credentialJson, displayName: "laptop"}, TOKEN);
"""
)
SIGN_IN = (
    CALL
    + """
const begun = await call("/v1/passkeys:beginSignIn", {clientId: "demo"});
const options = PublicKeyCredential.parseRequestOptionsFromJSON(JSON.parse(begun.requestOptionsJson));
const used = await navigator.credentials.get({publicKey: options});
const credentialJson = JSON.stringify(used.toJSON());
return await call("/v1/passkeys:finishSignIn", {ceremony: begun.ceremony, credentialJson});
"""
)


@pytest.mark.skipif(bool(chromium.missing()), reason=chromium.missing())
async def test_a_browser_registers_a_passkey_and_signs_in_with_it(mesh: RunningMesh, tmp_path: Path) -> None:
    person = await sign_up(mesh, mesh.clients["grpc"])
    async with chromium.browser(tmp_path, Path(mesh.status["ca_file"])) as page:
        await page.open(f"{mesh.status['edge']}/.well-known/jwks.json")
        # The document is JSON with a policy of its own; a page of the app would have one that lets it call.
        await page.command("Page.setBypassCSP", enabled=True)
        await page.command("WebAuthn.enable")
        await page.command(
            "WebAuthn.addVirtualAuthenticator",
            options={
                "protocol": "ctap2",
                "transport": "internal",
                "hasResidentKey": True,
                "hasUserVerification": True,
                "isUserVerified": True,
                "automaticPresenceSimulation": True,
            },
        )
        passkey = await page.run(f"const TOKEN = {json.dumps(person.token)};{REGISTER}")
        assert passkey["displayName"] == "laptop"
        # Once is enough for an authenticator: the browser says so.
        with pytest.raises(AssertionError, match="InvalidStateError"):
            await page.run(f"const TOKEN = {json.dumps(person.token)};{REGISTER}")
        for _ in range(2):
            person.tokens = await page.run(SIGN_IN)
            assert (person.claims["amr"][1], person.name) == ("user", passkey["name"].partition("/passkeys")[0])
