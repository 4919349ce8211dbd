"""One corpus of credentials through the real Token process and through a real sidecar, each difference explained in
docs/security.md."""

import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from authmesh.token.v1 import token_service_pb2
from google.api import httpbody_pb2
from grpc import aio

from mesh.contract import Contract
from mesh.model.mesh import load_mesh
from mesh.storage.database import Database
from tests.conftest import held
from tests.kit.envoy_chain import JWKS, Chain, eventually
from tests.kit.envoy_chain import running as running_chain
from tests.kit.hostile_tokens import Case, Forger, corpus
from tests.kit.protocols import from_trailers, method
from tests.kit.signing import OneKey
from tests.kit.token_calls import by, reason
from tests.kit.token_process import TokenProcess, running

METHOD = method("TokenService/ListSessions")
SECURITY_PAGE = Path(__file__).parents[2] / "docs" / "security.md"
BEGIN, END = "<!-- sidecar-differences -->", "<!-- end -->"


@pytest.fixture(scope="module")
async def database_url(new_database_url: Callable[[str], Awaitable[str]]) -> str:
    return await new_database_url("services.token")


@pytest.fixture(scope="module")
async def process(database_url: str, valkey_server: Any) -> AsyncIterator[TokenProcess]:
    async with held(running(database_url, valkey_server.url, LOG_LEVEL="debug")) as token:
        yield token


@pytest.fixture(scope="module")
async def forger(process: TokenProcess) -> Forger:
    return Forger(process.key, process.signer.key_id)


@pytest.fixture(scope="module")
async def cases(forger: Forger) -> list[Case]:
    return corpus(forger)


class Sidecar:
    """Token's sidecar, with a stand-in behind it that says OK to whatever arrives."""

    def __init__(self, chain: Chain, client: httpx.AsyncClient) -> None:
        self._chain = chain
        self._client = client

    async def ask(self, authorization: tuple[str, ...]) -> str:
        """OK when the call reached the process; otherwise the status and reason of the refusal."""
        heard = self._chain.processes["token"].heard
        heard.clear()
        headers = [
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            *(("authorization", value) for value in authorization),
        ]
        response = await self._client.post(METHOD.path, content=struct.pack(">BI", 0, 0), headers=headers)
        if "grpc-status" not in response.headers:
            assert heard
            return "OK"
        assert not heard
        return " ".join(from_trailers(response.headers).outcome)


@pytest.fixture(scope="module")
async def sidecar(process: TokenProcess, forger: Forger) -> AsyncIterator[Sidecar]:
    async with held(running_chain(load_mesh(), Contract.load(), ["token"])) as chain:
        chain.processes["token"].answers[JWKS] = [
            httpbody_pb2.HttpBody(content_type="application/json", data=await OneKey(process.key).jwks())
        ]
        certificates = chain.authorities.certificates(chain.gateway)
        context = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
        context.check_hostname = False
        context.load_cert_chain(certificates / "tls.crt", certificates / "tls.key")
        url = f"https://127.0.0.1:{chain.addresses['token'].port}"
        async with httpx.AsyncClient(verify=context, http1=False, http2=True, base_url=url, timeout=10) as client:
            asked = Sidecar(chain, client)

            async def has_the_keys() -> bool:
                return await asked.ask((f"Bearer {forger.token()}",)) == "OK"

            await eventually(has_the_keys)
            yield asked


async def ask_process(process: TokenProcess, authorization: tuple[str, ...]) -> str:
    metadata = aio.Metadata(*by("edge"), *(("authorization", value) for value in authorization))
    return await reason(
        process.tokens.ListSessions(token_service_pb2.ListSessionsRequest(parent="users/me"), metadata=metadata)
    )


async def test_the_process_says_of_each_credential_what_it_is_and_keeps_it_to_itself(
    process: TokenProcess, cases: list[Case], database_url: str
) -> None:
    rows = "SELECT count(*) FROM outbox"
    async with Database.open(database_url) as database:
        before = await database.fetchval(rows)
    wrong = {
        case.name: answer
        for case in cases
        if (answer := await ask_process(process, case.authorization)) != case.expected
    }
    assert not wrong
    # A stranger's forgeries are no rows (he would fill the database), and no credential is in the log, not even at its
    # most talkative.
    async with Database.open(database_url) as database:
        assert await database.fetchval(rows) == before
    log = process.log.read_text()
    assert log.count("TOKEN_INVALID") > 100
    for case in cases:
        for value in case.authorization:
            segments = [segment for segment in value.removeprefix("Bearer ").split(".") if len(segment) > 16]
            assert not [segment for segment in segments if segment in log], case.name


def table() -> Iterator[tuple[str, str]]:
    """Group and the sidecar's answer, of each row of the page."""
    body = SECURITY_PAGE.read_text().split(BEGIN)[1].split(END)[0]
    for line in body.strip().splitlines()[2:]:
        group, answer, *_ = (cell.strip() for cell in line.strip("|").split("|"))
        yield group.strip("`"), "OK" if answer == "admits" else f"UNAUTHENTICATED {answer.strip('`')}"


async def test_the_sidecar_differs_from_the_process_where_the_page_says_so_and_nowhere_else(
    sidecar: Sidecar, cases: list[Case]
) -> None:
    answers = {case: await sidecar.ask(case.authorization) for case in cases}
    explained = dict(table())
    unlike = {case.name: f"{answer}, not {explained.get(case.group, case.expected)}" for case, answer in answers.items()
              if answer != explained.get(case.group, case.expected)}  # fmt: skip
    assert not unlike, "\n" + "\n".join(f"{n} -> {a}" for n, a in sorted(unlike.items()))
    groups = {case.group: case.expected for case in cases}
    assert all(groups[group] != answer for group, answer in explained.items()), "a row that explains nothing"


async def test_the_sidecar_refuses_nothing_that_the_process_admits(sidecar: Sidecar, cases: list[Case]) -> None:
    for case in cases:
        if case.expected == "OK":
            assert await sidecar.ask(case.authorization) == "OK", case.name
