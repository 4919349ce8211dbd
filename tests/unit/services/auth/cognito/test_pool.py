"""The user pool's API: bounded, patient for a while, and in our words."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from mesh.errors import MeshError, Reason, ResourceExhausted, Unavailable
from mesh.secrets.source import GivenSecret
from services.auth.cognito import pool as pool_module
from services.auth.cognito.pool import (
    ExistsError,
    PasswordRefusedError,
    PoolError,
    ResetRequiredError,
    UnconfirmedError,
    UserPool,
    WrongError,
)


def error(code: str, message: str = "") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "Operation")


class Api:
    """Answers as told, and notes what it is asked."""

    def __init__(self, *answers: Exception | dict[str, Any]) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []
        self.under_way = self.most = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        async def call(**parameters: Any) -> dict[str, Any]:
            self.asked.append({"operation": operation} | parameters)
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            await self.may_answer.wait()
            self.under_way -= 1
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


@asynccontextmanager
async def connected(api: Api) -> AsyncIterator[UserPool]:
    @asynccontextmanager
    async def open_client() -> AsyncIterator[Any]:
        yield api

    pool = UserPool(
        open_client, GivenSecret("secret", "swordfish\n"), pool_id="eu-central-1_Abc", client_id="client", srp=False
    )
    async with pool.connected():
        yield pool


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("NotAuthorizedException", WrongError), ("UserNotFoundException", WrongError),
        ("CodeMismatchException", WrongError), ("ExpiredCodeException", WrongError),
        ("UserNotConfirmedException", UnconfirmedError), ("PasswordResetRequiredException", ResetRequiredError),
        ("InvalidPasswordException", PasswordRefusedError), ("UsernameExistsException", ExistsError),
    ],
)  # fmt: skip
async def test_refusals_of_the_pool_are_told_apart(code: str, kind: type[PoolError]) -> None:
    async with connected(Api(error(code))) as pool:
        with pytest.raises(kind):
            await pool.authenticate("ada@example.com", "password")


@pytest.mark.parametrize(
    "fault",
    [
        error("ResourceNotFoundException", "User pool client client does not exist."),
        error("InvalidParameterException"), error("InternalErrorException"), error("NotAuthorizedException",
        "Unable to verify secret hash for client client"), EndpointConnectionError(endpoint_url="https://x"),
        OSError("gone"),
    ],
)  # fmt: skip
async def test_what_is_ours_to_mend_is_nobodys_wrong_password(fault: Exception) -> None:
    async with connected(Api(fault)) as pool:
        with pytest.raises(Unavailable) as refusal:
            await pool.authenticate("ada@example.com", "password")
    assert refusal.value.reason is Reason.DEPENDENCY_UNAVAILABLE
    assert "client" not in str(refusal.value)


async def test_a_pool_that_is_busy_is_asked_again_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(pool_module, "CALL_SECONDS", 1.0)
    tokens = {"AuthenticationResult": {"IdToken": "id", "AccessToken": "access"}}
    api = Api(error("TooManyRequestsException"), error("TooManyRequestsException"), tokens)
    async with connected(api) as pool:
        assert await pool.authenticate("ada@example.com", "password") == pool_module.Tokens("id", "access")
    assert len(api.asked) == 3
    api = Api(error("TooManyRequestsException"))
    async with connected(api) as pool:
        with pytest.raises(ResourceExhausted) as refusal:
            await pool.authenticate("ada@example.com", "password")
    assert (refusal.value.reason, len(api.asked) < 15) == (Reason.OVERLOADED, True)


async def test_the_number_of_calls_and_of_those_that_wait_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "WAITING", 50)
    api = Api({"AuthenticationResult": {"IdToken": "id", "AccessToken": "access"}})
    api.may_answer.clear()
    async with connected(api) as pool:
        calls = [asyncio.create_task(pool.authenticate("ada@example.com", "password")) for _ in range(60)]
        while sum(call.done() for call in calls) < 10:
            await asyncio.sleep(0)
        api.may_answer.set()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    shed = [outcome for outcome in outcomes if isinstance(outcome, MeshError)]
    assert [refusal.reason for refusal in shed] == [Reason.OVERLOADED] * 10
    assert api.most == pool_module.AT_ONCE


async def test_the_clients_secret_is_shown_and_not_sent() -> None:
    api = Api({"UserSub": "b19b7a7c-ec7b-43d6-900c-c38844aa1ab0"})
    async with connected(api) as pool:
        await pool.sign_up("ada@example.com", "password", "Ada")
    (asked,) = api.asked
    # AWS, "Computing secret hash values": base64(HMAC-SHA256(secret, username + client id)).
    assert asked["SecretHash"] == "EXbBql+GFLzP6T5IAbBAGScwffwxSfTLn/sZ4TGZ2b8="
    assert "swordfish" not in str(asked)
