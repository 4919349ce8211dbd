"""A mesh as its user wants it: on PostgreSQL, Valkey and an AWS endpoint of his own, open to his network, with RSA
keys."""

import base64
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from mesh.local import probes
from mesh.local.components import aws_emulator, aws_front, postgres, valkey
from mesh.local.edge_address import own_address
from mesh.local.ports import HOST
from tests.conftest import held
from tests.e2e.conftest import RunningMesh, running
from tests.kit import oidc_provider
from tests.kit.authmesh_command import authmesh, sign_in
from tests.kit.oidc_provider import OidcProvider

pytestmark = pytest.mark.slow

PAGE = "http://localhost:5173"


@pytest.fixture(scope="module")
async def users_aws(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[aws_emulator.AwsEmulator]:
    """Not the tests' common one: nobody fills the gaps of a user's emulator."""
    async with held(aws_emulator.running(tmp_path_factory.mktemp("aws"))) as emulator:
        yield emulator


@pytest.fixture(scope="module")
async def provider(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OidcProvider]:
    async with held(oidc_provider.running(tmp_path_factory.mktemp("provider"))) as started:
        yield started


@pytest.fixture(scope="module")
async def mesh(
    provider: OidcProvider,
    postgres_server: postgres.Postgres,
    valkey_server: valkey.Valkey,
    users_aws: aws_emulator.AwsEmulator,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[RunningMesh]:
    servers = {"DATABASE_URL": postgres_server.admin_url, "REDIS_URL": valkey_server.url, **users_aws.environment}
    chosen = {
        "EDGE_HOST": own_address(),
        "CORS_ORIGINS": f"{PAGE}, https://app.example",
        "SIGNING_ALGORITHM": "RS256",
        "LOG_LEVEL": "INFO",
        "IDENTITY_PROVIDERS_FILE": str(provider.ca_file.with_name("providers.yaml")),
    }
    believed = {"issuer": provider.issuer, "audiences": [oidc_provider.AUDIENCE], "ca_file": str(provider.ca_file)}
    Path(chosen["IDENTITY_PROVIDERS_FILE"]).write_text(json.dumps({"providers": {"other": believed}}))
    async with held(running(tmp_path_factory.mktemp("chosen") / "mesh", **servers, **chosen)) as started:
        yield started


def phone(mesh: RunningMesh) -> httpx.AsyncClient:
    """A client that knows the printed address and the certificate to trust, and nothing else."""
    return httpx.AsyncClient(
        base_url=mesh.status["edge"], verify=ssl.create_default_context(cafile=mesh.status["ca_file"])
    )


async def test_it_uses_the_users_servers(mesh: RunningMesh, users_aws: aws_emulator.AwsEmulator) -> None:
    assert not {"postgres", "valkey", "aws"} & {row["name"] for row in mesh.status["processes"]}
    assert mesh.status["aws_endpoint_url"] == users_aws.endpoint_url
    await sign_in(mesh)
    code, output, _ = await mesh.authmesh("audit", "verify")
    assert (code, output.startswith("intact: ")) == (0, True)


async def test_the_edge_can_be_called_from_the_network_and_is_what_it_is_called(mesh: RunningMesh) -> None:
    assert mesh.status["edge"].startswith(f"https://{own_address()}:")
    async with phone(mesh) as client:
        metadata = (await client.get("/.well-known/oauth-authorization-server")).json()
        assert metadata["issuer"] == mesh.status["edge"]
        assert (await client.get(metadata["jwks_uri"])).status_code == 200
    port = mesh.status["edge"].rpartition(":")[2]
    async with httpx.AsyncClient(verify=ssl.create_default_context(cafile=mesh.status["ca_file"])) as client:
        assert (await client.get(f"https://localhost:{port}/healthz")).status_code == 200


async def test_nothing_but_the_edge_listens_in_the_network(mesh: RunningMesh) -> None:
    assert [row["name"] for row in mesh.status["processes"] if own_address() in row["address"]] == ["edge"]
    said = (mesh.home.parent / "mesh.log").read_text()
    assert "WARNING: EDGE_HOST opens port" in said


async def test_pages_of_the_chosen_origins_may_call_and_others_may_not(mesh: RunningMesh) -> None:
    preflight = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
    async with phone(mesh) as client:
        for origin, allowed in (
            (PAGE, PAGE),
            ("https://app.example", "https://app.example"),
            ("https://other.example", None),
        ):
            answer = await client.options("/v1/auth:signIn", headers=preflight | {"origin": origin})
            assert answer.headers.get("access-control-allow-origin") == allowed


async def test_tokens_are_signed_with_the_chosen_algorithm_and_good(mesh: RunningMesh) -> None:
    token = (await sign_in(mesh))["accessToken"]
    head = token.partition(".")[0]
    assert json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))["alg"] == "RS256"
    async with phone(mesh) as client:
        assert (await client.get("/v1/users/me", headers={"authorization": f"Bearer {token}"})).status_code == 200
        assert {key["alg"] for key in (await client.get("/.well-known/jwks.json")).json()["keys"]} == {"RS256"}
    assert "is for new keys" not in (mesh.home.parent / "mesh.log").read_text()


async def test_a_person_signs_in_with_another_provider(mesh: RunningMesh, provider: OidcProvider) -> None:
    client, tokens = mesh.clients["grpc"], await sign_in(mesh)
    link = {"idToken": provider.token(jti="1"), "nonce": oidc_provider.NONCE}
    identity = await client.ok("IdentityService/LinkIdentity", link, tokens["accessToken"])
    exchange = {"idToken": provider.token(jti="2"), "nonce": oidc_provider.NONCE, "clientId": "demo"}
    exchanged = await client.ok("AuthService/ExchangeToken", exchange)
    assert exchanged["session"].startswith(identity["name"].partition("/identities")[0])
    assert (await client.call("AuthService/ExchangeToken", exchange)).reason == "CREDENTIALS_INVALID"
    # An IP address can't have passkeys.
    begin = await client.call("PasskeyService/BeginSignIn", {"clientId": "demo"})
    assert begin.outcome == ("UNIMPLEMENTED", "NOT_IMPLEMENTED")


async def test_the_users_servers_are_left_running(
    mesh: RunningMesh,
    postgres_server: postgres.Postgres,
    valkey_server: valkey.Valkey,
    users_aws: aws_emulator.AwsEmulator,
) -> None:
    """Last: there is no mesh after it."""
    mesh.process.terminate()
    await mesh.process.wait()
    assert await postgres_server.program.healthy()
    assert await valkey_server.program.healthy()
    assert await probes.http_ok((HOST, users_aws.port), aws_front.HEALTH)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("DATABASE_URL", "postgresql://admin:s3cret@127.0.0.1:1/postgres"),
        ("REDIS_URL", "redis://:s3cret@127.0.0.1:1"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
    ],
)
async def test_one_that_does_not_answer_is_named_in_one_line(name: str, url: str, tmp_path: Path) -> None:
    code, _, errors = await authmesh(tmp_path / "mesh", "run", **{name: url, "EDGE_PORT": "0"})
    assert code == 1
    assert name in errors
    assert errors.count("\n") == 1
    assert "s3cret" not in errors


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("AUDIT_BUCKET", "other", "AUDIT_BUCKET can't be chosen for a local mesh"),
        ("EDGE_HOST", "203.0.113.7", f"EDGE_HOST=203.0.113.7 is not an address of this machine: {own_address()} is"),
        (
            "CORS_ORIGINS",
            "https://app.example/",
            "CORS_ORIGINS: no page has the origin 'https://app.example/': write https://app.example",
        ),
    ],
)
async def test_a_choice_that_cannot_be_had_is_refused_in_one_line(
    name: str, value: str, says: str, tmp_path: Path
) -> None:
    code, _, errors = await authmesh(tmp_path / "mesh", "run", **{name: value, "EDGE_PORT": "0"})
    assert (code, errors.count("\n")) == (1, 1)
    assert errors.startswith(f"authmesh: {says}")
