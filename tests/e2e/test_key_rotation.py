"""The drill: signing keys are rotated and revoked under load in a mesh of its own with shortened clocks, through real
edge and sidecars."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import jwt
import pytest
import yaml

import services.token
from mesh.tokens.verifier import LEEWAY_SECONDS
from tests.conftest import held
from tests.e2e.conftest import Person, RunningMesh, eventually, running, sign_in_again, sign_up
from tests.kit.protocols import Answer, Client, JsonClient

pytestmark = pytest.mark.slow

TOKEN_SECONDS = 10
JWKS_CACHE_SECONDS = 2
LEAD_SECONDS = 8
WORKERS = 6
LIST = "ResourceService/ListResources"


@pytest.fixture(scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningMesh]:
    directory = tmp_path_factory.mktemp("drill")
    clients = yaml.safe_load((Path(services.token.__file__).parent / "clients.yaml").read_text())
    for client in clients["clients"].values():
        client["access_token_seconds"] = TOKEN_SECONDS
    (directory / "clients.yaml").write_text(yaml.safe_dump(clients))
    shortened = {
        "CLIENTS_FILE": str(directory / "clients.yaml"),
        "ACCESS_TOKEN_MAX_SECONDS": str(TOKEN_SECONDS),
        "JWKS_CACHE_SECONDS": str(JWKS_CACHE_SECONDS),
        "SIGNING_LEAD_SECONDS": str(LEAD_SECONDS),
    }
    async with held(running(directory / "mesh", **shortened)) as started:
        yield started


@dataclass
class Load:
    """People who call with good tokens all the time, and what they were answered."""

    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    refused: list[tuple[float, str, Answer]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    over: bool = False

    def note(self, what: str, answer: Answer) -> None:
        self.answers[answer.outcome] += 1
        if answer.status != "OK":
            self.refused.append((time.time(), what, answer))

    async def work(self, client: Client, person: Person) -> None:
        """Uses each access token until just before it expires, and refreshes then."""
        while not self.over:
            self.keys.add(key_of(person))
            while time.time() < person.claims["exp"] - 1 and not self.over:
                self.note(client.name, await client.call(LIST, {}, person.token))
                await asyncio.sleep(0.02)
            answer = await client.call("TokenService/RefreshToken", person.refresh)
            self.note(f"{client.name} refresh", answer)
            if answer.status == "OK":
                person.tokens = answer.body


@asynccontextmanager
async def load(mesh: RunningMesh) -> AsyncIterator[Load]:
    clients = list(mesh.clients.values())
    people = [await sign_up(mesh, clients[number % len(clients)]) for number in range(WORKERS)]
    running_load = Load()
    tasks = [
        asyncio.create_task(running_load.work(clients[number % len(clients)], person))
        for number, person in enumerate(people)
    ]
    try:
        yield running_load
    finally:
        # Told, not cancelled: a request that is cut short takes its HTTP/2 connection with it.
        running_load.over = True
        await asyncio.gather(*tasks)


@pytest.fixture(scope="module")
async def administrator(mesh: RunningMesh) -> Person:
    client = mesh.clients["grpc"]
    admin = await sign_up(mesh, client)
    status, output, errors = await mesh.authmesh("admin", "grant", admin.email)
    assert status == 0, output + errors

    async def granted() -> bool:
        await sign_in_again(client, admin)
        return "admin" in admin.claims.get("roles", [])

    await eventually(granted)
    return admin


def key_of(person: Person) -> str:
    return str(jwt.get_unverified_header(person.token)["kid"])


async def keys(mesh: RunningMesh, admin: Person) -> dict[str, list[str]]:
    """Key ids by state. Signs in anew: tokens are short here."""
    await sign_in_again(mesh.clients["grpc"], admin, scopes=["admin:keys"])
    found: dict[str, list[str]] = {}
    for key in (await mesh.clients["grpc"].ok("KeyService/ListKeys", {}, admin.token))["keys"]:
        found.setdefault(key["state"].removeprefix("STATE_"), []).append(key["name"].removeprefix("keys/"))
    return found


async def published(mesh: RunningMesh) -> set[str]:
    client = mesh.clients["json"]
    assert isinstance(client, JsonClient)
    answer = await client.send("GET", "/.well-known/jwks.json")
    assert answer.headers["cache-control"].startswith("public, max-age=")
    return {key["kid"] for key in answer.body["keys"]}


async def rotate(mesh: RunningMesh, admin: Person) -> str:
    """Orders a rotation and waits for it. Returns the key that signs now."""
    (waiting,) = (await keys(mesh, admin))["PUBLISHED"]
    await mesh.clients["grpc"].ok("KeyService/RotateKey", {}, admin.token)

    async def active() -> bool:
        return (await keys(mesh, admin))["ACTIVE"] == [waiting]

    await eventually(active, within=LEAD_SECONDS + 10)
    return waiting


@pytest.fixture
def mint(mesh: RunningMesh) -> Callable[[str, Person], str]:
    """A new token signed with the key that the mesh began with: its file is in the local mesh's secrets."""
    private = (mesh.home / "secrets" / "signing-key.pem").read_text()

    def make(key_id: str, person: Person) -> str:
        now = int(time.time())
        claims = person.claims | {"iat": now, "exp": now + TOKEN_SECONDS}
        return jwt.encode(claims, private, algorithm="ES256", headers={"kid": key_id, "typ": "at+jwt"})

    return make


async def everywhere(mesh: RunningMesh, token: str) -> dict[str, tuple[str, str]]:
    """How edge, sidecar and process answer to a token."""
    async with mesh.sidecar("resource", caller="edge") as sidecar:
        answers = {client.name: await client.call(LIST, {}, token) for client in (*mesh.clients.values(), sidecar)}
    return {name: answer.outcome for name, answer in answers.items()}


async def test_rotation_under_load_refuses_no_good_token_and_then_the_old_key_is_gone(
    mesh: RunningMesh, administrator: Person, mint: Callable[[str, Person], str]
) -> None:
    async with load(mesh) as working:
        (first,) = (await keys(mesh, administrator))["ACTIVE"]
        keeper = await sign_up(mesh, mesh.clients["grpc"])
        assert key_of(keeper) == first
        assert set((await everywhere(mesh, mint(first, keeper))).values()) == {("OK", "")}
        for _ in range(3):
            await rotate(mesh, administrator)
        # A token of the first key, as long as verifiers take it: through expiry and leeway.
        while time.time() < keeper.claims["exp"] + LEEWAY_SECONDS - 3:
            answer = await mesh.clients["json"].call(LIST, {}, keeper.token)
            working.note("token of the first key", answer)
            await asyncio.sleep(0.2)
        assert len(working.keys) == 4

        async def gone() -> bool:
            return first not in await published(mesh)

        await eventually(gone, within=TOKEN_SECONDS + LEEWAY_SECONDS + 20)
        await asyncio.sleep(JWKS_CACHE_SECONDS + 2)
        # With that key anything can be signed.
        outcomes = await everywhere(mesh, mint(first, administrator))
        assert set(outcomes.values()) == {("UNAUTHENTICATED", "TOKEN_INVALID")}, outcomes
        assert first not in {key for state in (await keys(mesh, administrator)).values() for key in state}
    assert working.refused == []
    print(
        f"\nrotation drill: {working.answers.total()} calls with {len(working.keys)} keys, refused: "
        f"{len(working.refused)}"
    )


async def test_a_revoked_key_is_refused_by_processes_at_once_and_by_sidecars_within_their_cache(
    mesh: RunningMesh, administrator: Person
) -> None:
    client = mesh.clients["grpc"]
    person = await sign_up(mesh, client)
    revoked, stolen = key_of(person), person.token
    state = await keys(mesh, administrator)
    assert state["ACTIVE"] == [revoked]
    (waiting,) = state["PUBLISHED"]
    await client.ok("KeyService/RevokeKey", {"name": f"keys/{revoked}"}, administrator.token)
    told = time.monotonic()

    async def refused() -> bool:
        return (await client.call(LIST, {}, person.token)).status == "UNAUTHENTICATED"

    await eventually(refused, within=1)
    by_process = time.monotonic() - told
    # Nobody is signed out: the next refresh brings a token of the key that waited.
    person.tokens = (await client.call("TokenService/RefreshToken", person.refresh)).body
    assert key_of(person) == waiting
    assert set((await everywhere(mesh, person.token)).values()) == {("OK", "")}
    assert revoked not in await published(mesh)

    async def everybody() -> bool:
        # A sidecar that still has the key passes the token on, and the process knows that it is revoked.
        return set((await everywhere(mesh, stolen)).values()) == {("UNAUTHENTICATED", "TOKEN_INVALID")}

    await eventually(everybody, within=JWKS_CACHE_SECONDS + 3)
    print(
        f"\nrevoked key: refused by the process after {by_process * 1000:.0f} ms, by all sidecars "
        f"after {time.monotonic() - told:.1f} s"
    )
