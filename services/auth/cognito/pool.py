"""The user pool's API: signed with the client's secret, bounded, and with its errors in our words.

https://docs.aws.amazon.com/cognito-user-identity-pools/latest/APIReference/
"""

import asyncio
import base64
import hmac
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from mesh.errors import Reason, ResourceExhausted, Unavailable
from mesh.secrets.source import SecretSource, SecretUnavailableError
from services.auth.cognito.srp import Prover

AT_ONCE = 20
"""Calls under way. Cognito's quota for a whole account is 120 a second for sign-ins."""
WAITING = 200
"""Calls that wait for their turn. What is more is refused at once."""
CALL_SECONDS = 8.0
"""The longest that a call may take with its repetitions."""
_PAUSE_SECONDS = 0.2
_log = structlog.get_logger("authmesh.cognito")
_BUSY = "TooManyRequestsException"


class PoolError(Exception):
    """The pool refuses."""


class WrongError(PoolError):
    """Address, password, code or session are wrong. Which, the pool doesn't say."""


class UnconfirmedError(PoolError):
    """The address was not proven yet. Said before the password is looked at."""


class ResetRequiredError(PoolError):
    """An administrator demands a new password."""


class PasswordRefusedError(PoolError):
    """The pool's policy refuses a new password; the message says why."""


class ExistsError(PoolError):
    """Someone of this address is there."""


_ERRORS: Mapping[str, type[PoolError]] = {
    "NotAuthorizedException": WrongError,
    "UserNotFoundException": WrongError,
    "CodeMismatchException": WrongError,
    "ExpiredCodeException": WrongError,
    "UserNotConfirmedException": UnconfirmedError,
    "PasswordResetRequiredException": ResetRequiredError,
    "InvalidPasswordException": PasswordRefusedError,
    "PasswordHistoryPolicyViolationException": PasswordRefusedError,
    "UsernameExistsException": ExistsError,
    "AliasExistsException": ExistsError,
}


@dataclass(frozen=True, slots=True)
class Tokens:
    """Of the pool. They are used here and go nowhere."""

    id_token: str
    access_token: str


@dataclass(frozen=True, slots=True)
class PoolChallenge:
    """What the pool asks for behind a right password."""

    name: str
    session: str
    username: str


class UserPool:
    """One user pool, as one of its clients."""

    def __init__(
        self,
        open_client: Callable[[], AbstractAsyncContextManager[Any]],
        secret: SecretSource,
        *,
        pool_id: str,
        client_id: str,
        srp: bool,
    ) -> None:
        """Initializes the instance.

        Args:
            open_client: A client of `cognito-idp`.
            secret: The client's secret.
            pool_id: Of the user pool.
            client_id: Of the client.
            srp: Proves passwords; otherwise they are sent.
        """
        self._open_client = open_client
        self._secret = secret
        self._pool_id = pool_id
        self._client_id = client_id
        self._srp = srp
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        self._client: Any = None

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Keeps connections for the length of a block."""
        async with self._open_client() as self._client:
            yield

    async def sign_up(self, email: str, password: str, name: str) -> uuid.UUID:
        """Makes a user whose address waits for its code, which the pool sends. Returns the user's id.

        Raises:
            ExistsError, PasswordRefusedError.
        """
        attributes = [{"Name": "email", "Value": email}, *([{"Name": "name", "Value": name}] if name else [])]
        answer = await self._call("sign_up", email, Username=email, Password=password, UserAttributes=attributes)
        return uuid.UUID(answer["UserSub"])

    async def resend_code(self, email: str) -> None:
        """Has another code sent.

        Raises:
            WrongError: no one waits for one.
        """
        await self._call("resend_confirmation_code", email, Username=email)

    async def confirm(self, email: str, code: str) -> None:
        """Proves an address.

        Raises:
            WrongError: the code is not right.
        """
        await self._call("confirm_sign_up", email, Username=email, ConfirmationCode=code)

    async def forgot_password(self, email: str) -> None:
        """Has a code for a new password sent."""
        await self._call("forgot_password", email, Username=email)

    async def confirm_password(self, email: str, code: str, password: str) -> None:
        """Sets a new password with a code.

        Raises:
            WrongError, PasswordRefusedError.
        """
        await self._call("confirm_forgot_password", email, Username=email, ConfirmationCode=code, Password=password)

    async def change_password(self, access_token: str, current: str, password: str) -> None:
        """Sets a new password with the one until now.

        Raises:
            WrongError, PasswordRefusedError.
        """
        await self._call(
            "change_password", None, AccessToken=access_token, PreviousPassword=current, ProposedPassword=password
        )

    async def authenticate(self, email: str, password: str) -> Tokens | PoolChallenge:
        """Judges a password.

        Raises:
            WrongError, UnconfirmedError, ResetRequiredError.
        """
        if not self._srp:
            parameters = {"USERNAME": email, "PASSWORD": password}
            return _outcome(await self._initiate("USER_PASSWORD_AUTH", email, parameters), email)
        prover = await asyncio.to_thread(Prover, self._pool_id)
        challenge = await self._initiate("USER_SRP_AUTH", email, {"USERNAME": email, "SRP_A": prover.public})
        given = challenge["ChallengeParameters"]
        # Some milliseconds of arithmetic.
        proof = await asyncio.to_thread(prover.answer, password, given, datetime.now(UTC))
        answer = await self._respond("PASSWORD_VERIFIER", given["USER_ID_FOR_SRP"], challenge.get("Session"), proof)
        return _outcome(answer, given["USER_ID_FOR_SRP"])

    async def answer(self, challenge: PoolChallenge, responses: Mapping[str, str]) -> Tokens | PoolChallenge:
        """Answers a challenge.

        Raises:
            WrongError, PasswordRefusedError.
        """
        answer = await self._respond(
            challenge.name, challenge.username, challenge.session, {"USERNAME": challenge.username, **responses}
        )
        return _outcome(answer, challenge.username)

    async def delete(self, username: str) -> None:
        """Deletes a user. May be repeated."""
        try:
            await self._call("admin_delete_user", None, client=False, UserPoolId=self._pool_id, Username=username)
        except WrongError:
            return

    async def _initiate(self, flow: str, username: str, parameters: Mapping[str, str]) -> Mapping[str, Any]:
        return await self._call(
            "initiate_auth",
            None,
            AuthFlow=flow,
            AuthParameters={**parameters, "SECRET_HASH": await self._secret_hash(username)},
        )

    async def _respond(
        self, name: str, username: str, session: str | None, responses: Mapping[str, str]
    ) -> Mapping[str, Any]:
        parameters: dict[str, Any] = {"Session": session} if session else {}
        return await self._call(
            "respond_to_auth_challenge",
            None,
            ChallengeName=name,
            ChallengeResponses={**responses, "SECRET_HASH": await self._secret_hash(username)},
            **parameters,
        )

    async def _call(
        self, operation: str, hashed: str | None, *, client: bool = True, **parameters: Any
    ) -> Mapping[str, Any]:
        if hashed is not None:
            parameters["SecretHash"] = await self._secret_hash(hashed)
        if client and operation != "change_password":
            parameters["ClientId"] = self._client_id
        if self._waiting >= WAITING:
            raise _busy()
        self._waiting += 1
        try:
            async with asyncio.timeout(CALL_SECONDS), self._turns:
                return await self._repeated(getattr(self._client, operation), parameters)
        except TimeoutError:
            raise _unavailable() from None
        finally:
            self._waiting -= 1

    async def _repeated(
        self, call: Callable[..., Awaitable[Mapping[str, Any]]], parameters: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        pause = _PAUSE_SECONDS
        while True:
            try:
                return await call(**parameters)
            except ClientError as error:
                code = error.response.get("Error", {}).get("Code", "")
                if code == _BUSY and pause < CALL_SECONDS / 4:
                    await asyncio.sleep(random.uniform(pause / 2, pause))
                    pause *= 2
                    continue
                raise _refusal(code, error.response.get("Error", {}).get("Message", "")) from None
            except (BotoCoreError, OSError):
                raise _unavailable() from None

    async def _secret_hash(self, username: str) -> str:
        """Shows that we have the client's secret (API Reference, "Computing secret hash values")."""
        try:
            secret = (await self._secret.versions())[0]
        except SecretUnavailableError as error:
            raise Unavailable(Reason.DEPENDENCY_UNAVAILABLE, f"the client's secret can't be read: {error}") from None
        digest = hmac.digest(secret.strip(), (username + self._client_id).encode(), "sha256")
        return base64.b64encode(digest).decode()


def _outcome(answer: Mapping[str, Any], username: str) -> Tokens | PoolChallenge:
    if result := answer.get("AuthenticationResult"):
        return Tokens(result["IdToken"], result["AccessToken"])
    username = answer.get("ChallengeParameters", {}).get("USER_ID_FOR_SRP", username)
    return PoolChallenge(answer["ChallengeName"], answer["Session"], username)


def _refusal(code: str, message: str) -> Exception:
    if code in _ERRORS and "secret hash" not in message:
        return _ERRORS[code](message)
    if code in (_BUSY, "LimitExceededException", "TooManyFailedAttemptsException"):
        return _busy()
    # Ours to mend: the client or the pool are not what the settings say. Nothing of it is for callers.
    _log.error("the user pool refuses this client", code=code, cause=message[:200])
    return _unavailable()


def _busy() -> ResourceExhausted:
    return ResourceExhausted(
        Reason.OVERLOADED, "the identity provider takes no more for now: try again", retry_after=timedelta(seconds=5)
    )


def _unavailable() -> Unavailable:
    return Unavailable(Reason.DEPENDENCY_UNAVAILABLE, "the identity provider is out of reach: try again")
