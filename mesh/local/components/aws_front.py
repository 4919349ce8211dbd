"""What listens on the AWS emulator's port.

It lets through to ministack what this mesh's access key signed, and nothing else.

ministack takes any credentials, lets any web page call (CORS `*`), and runs Lambda functions as processes of its
account: who reaches its port runs code there. So it gets no port. It is imported behind this ASGI application, which
checks AWS Signature Version 4.

A script of its own, because the infra environment has ministack and no `mesh`. Only the standard library, except in
`main`.
"""

import asyncio
import hashlib
import hmac
import json
import logging
import os
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlsplit

ALGORITHM = "AWS4-HMAC-SHA256"
HEALTH = "/_ministack/health"
"""The one path that needs no signature. It tells nothing but that the emulator serves."""
LOCAL_NAMES = ("127.0.0.1", "localhost")
"""Other names choose other APIs: `function.lambda-url.…`, `bucket.s3.…`."""
SKEW = timedelta(minutes=15)
"""Between a signature's time and ours, as S3 and SQS allow it."""
BODY_LIMIT = 64 * 1024 * 1024
FUNCTION_KEY = "000000000000"
"""Access key that ministack gives to Lambda functions: its account. They sign with our secret."""

_POOL_KEYS = re.compile(r"/[a-z0-9-]+_[0-9A-Za-z]+/\.well-known/jwks\.json")
_FOR_CLIENTS = frozenset(
    (
        "SignUp",
        "ConfirmSignUp",
        "ResendConfirmationCode",
        "ForgotPassword",
        "ConfirmForgotPassword",
        "InitiateAuth",
        "RespondToAuthChallenge",
        "ChangePassword",
        "AssociateSoftwareToken",
        "VerifySoftwareToken",
        "SetUserMFAPreference",
    )
)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class RefusedError(Exception):
    """Why a request is not let through. `code` is AWS's word for it."""

    def __init__(self, code: str, message: str, status: int = 403) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


@dataclass(frozen=True, slots=True)
class Signature:
    """What an `authorization` header of Signature Version 4 says."""

    access_key: str
    day: str
    region: str
    service: str
    headers: tuple[str, ...]
    """Names of those that are signed."""
    value: str

    @classmethod
    def of(cls, authorization: str) -> "Signature":
        """Reads the header.

        Raises:
            RefusedError: it is missing or malformed.
        """
        scheme, _, rest = authorization.partition(" ")
        fields = dict(part.strip().partition("=")[::2] for part in rest.split(","))
        credential = fields.get("Credential", "").split("/")
        if (
            scheme != ALGORITHM
            or len(credential) != 5
            or credential[4] != "aws4_request"
            or not fields.get("Signature")
        ):
            raise RefusedError(
                "MissingAuthenticationToken",
                f"sign the request: authorization: {ALGORITHM} (presigned URLs are not taken)",
            )
        access_key, day, region, service, _ = credential
        return cls(
            access_key, day, region, service, tuple(fields.get("SignedHeaders", "").split(";")), fields["Signature"]
        )


class Front:
    """The ASGI application in front of ministack's."""

    def __init__(self, behind: Application, access_key: str, secret: str, services: frozenset[str]) -> None:
        """Initializes the instance.

        Args:
            behind: Gets what is let through.
            access_key: The one that is good.
            secret: Its secret.
            services: What may be called, by the names that requests are signed for.
        """
        self._behind = behind
        self._access_keys = (access_key, FUNCTION_KEY) if "lambda" in services else (access_key,)
        self._secret = secret
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request, or the application's life."""
        if scope["type"] == "lifespan":
            await self._behind(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "http":
            headers = _headers(scope)
            try:
                _refuse_web_pages(headers)
                if scope["path"] == HEALTH:
                    await _answer(send, 200, b"", "text/plain")
                    return
                if self._is_for_everyone(scope, headers):
                    body = await _read(receive)
                else:
                    body = await self._admit(scope, headers, receive)
            except RefusedError as refusal:
                await _refuse(send, headers, refusal)
            else:
                await self._behind(scope, _again(body, receive), send)

    def _is_for_everyone(self, scope: Scope, headers: Mapping[str, str]) -> bool:
        """Whether AWS's own SDK does not sign it: what the clients of a user pool call, and the pool's keys."""
        if "cognito-idp" not in self._services:
            return False
        if scope["method"] == "GET":
            return _POOL_KEYS.fullmatch(scope["path"]) is not None
        service, _, action = headers.get("x-amz-target", "").partition(".")
        return service == "AWSCognitoIdentityProviderService" and action in _FOR_CLIENTS

    async def _admit(self, scope: Scope, headers: Mapping[str, str], receive: Receive) -> bytes:
        """The body of a request that is signed as it must be. Nothing is read of one that names another access key.

        Raises:
            RefusedError: it is not.
        """
        signature = Signature.of(headers.get("authorization", ""))
        if not any(hmac.compare_digest(signature.access_key.encode(), known.encode()) for known in self._access_keys):
            raise RefusedError(
                "InvalidClientTokenId", "not the access key of this mesh: docs/operations.md says where it is"
            )
        if signature.service not in self._services or scope["path"].startswith("/_"):
            raise RefusedError(
                "AccessDenied",
                f"{signature.service} is not served here: the mesh needs {', '.join(sorted(self._services))}",
            )
        time = headers.get("x-amz-date", "")
        _check_time(time, signature.day)
        _check_signed_headers(signature, headers)
        claimed = headers.get("x-amz-content-sha256")
        if claimed is not None and not re.fullmatch("[0-9a-f]{64}", claimed):
            raise RefusedError("AccessDenied", "the body must be signed: x-amz-content-sha256 is its SHA-256")
        if claimed is not None:
            self._check(signature, time, scope, headers, claimed)
        body = await _read(receive)
        digest = hashlib.sha256(body).hexdigest()
        if claimed is None:
            self._check(signature, time, scope, headers, digest)
        elif not hmac.compare_digest(claimed, digest):
            raise RefusedError("XAmzContentSHA256Mismatch", "the body is not the one that was signed", 400)
        return body

    def _check(self, signature: Signature, time: str, scope: Scope, headers: Mapping[str, str], digest: str) -> None:
        request = canonical_request(
            scope["method"],
            scope["raw_path"].decode("latin-1"),
            scope["query_string"].decode("latin-1"),
            headers,
            signature,
            digest,
        )
        credential_scope = f"{signature.day}/{signature.region}/{signature.service}/aws4_request"
        to_sign = "\n".join((ALGORITHM, time, credential_scope, hashlib.sha256(request.encode("latin-1")).hexdigest()))
        key = _signing_key(self._secret, signature.day, signature.region, signature.service)
        if not hmac.compare_digest(
            hmac.digest(key, to_sign.encode(), "sha256").hex().encode(), signature.value.encode()
        ):
            raise RefusedError(
                "SignatureDoesNotMatch", "not signed with the secret of this mesh: docs/operations.md says where it is"
            )


def canonical_request(
    method: str, path: str, query: str, headers: Mapping[str, str], signature: Signature, digest: str
) -> str:
    """The text that a signature is about (AWS General Reference, "Create a canonical request").

    Args:
        method: `GET`, `POST`, …
        path: As it was sent, with its escapes. All but S3 escape it once more.
        query: As it was sent.
        headers: By their names in lower case.
        signature: Which of them are signed, for which service.
        digest: SHA-256 of the body.
    """
    parameters = sorted(part.partition("=")[::2] for part in query.split("&")) if query else []
    return "\n".join(
        (
            method,
            path if signature.service == "s3" else quote(path, safe="/~", encoding="latin-1"),
            "&".join(f"{name}={value}" for name, value in parameters),
            *(f"{name}:{' '.join(headers[name].split())}" for name in signature.headers),
            "",
            ";".join(signature.headers),
            digest,
        )
    )


def _headers(scope: Scope) -> dict[str, str]:
    """Headers by name; what came in several lines is one list (RFC 9110, 5.3)."""
    joined: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name, text = raw.decode("latin-1").lower(), value.decode("latin-1")
        joined[name] = f"{joined[name]},{text}" if name in joined else text
    return joined


def _refuse_web_pages(headers: Mapping[str, str]) -> None:
    if "origin" in headers:
        raise RefusedError("AccessDenied", "no web page may call this")
    if urlsplit(f"//{headers.get('host', '')}").hostname not in LOCAL_NAMES:
        raise RefusedError("AccessDenied", f"call it by one of its names: {' or '.join(LOCAL_NAMES)}")


def _check_time(time: str, day: str) -> None:
    try:
        signed = datetime.strptime(time, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise RefusedError(
            "IncompleteSignature", "x-amz-date is missing, or not of the form 20261124T120000Z"
        ) from None
    if abs(datetime.now(UTC) - signed) > SKEW:
        raise RefusedError("RequestTimeTooSkewed", f"signed at {time}: more than {SKEW} from now")
    if not time.startswith(day):
        raise RefusedError("SignatureDoesNotMatch", "the day of the credential is not that of x-amz-date")


def _check_signed_headers(signature: Signature, headers: Mapping[str, str]) -> None:
    must = {"host", *(name for name in headers if name.startswith("x-amz-"))}
    if missing := must - {*signature.headers}:
        raise RefusedError("SignatureDoesNotMatch", f"not signed: {', '.join(sorted(missing))}")
    if absent := {*signature.headers} - headers.keys():
        raise RefusedError("SignatureDoesNotMatch", f"signed and not sent: {', '.join(sorted(absent))}"[:200])


@lru_cache(maxsize=64)
def _signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise RefusedError("RequestTimeout", "the connection ended before the request", 400)
        body += message.get("body", b"")
        if len(body) > BODY_LIMIT:
            raise RefusedError("EntityTooLarge", f"the body is larger than {BODY_LIMIT} bytes", 400)
        if not message.get("more_body"):
            return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    """The body once, then whatever comes: the end of the connection."""
    waiting = [body]

    async def next_message() -> Message:
        return {"type": "http.request", "body": waiting.pop(), "more_body": False} if waiting else await receive()

    return next_message


async def _refuse(send: Send, headers: Mapping[str, str], refusal: RefusedError) -> None:
    """As AWS words it: JSON to its JSON protocols, XML to the others."""
    if "x-amz-target" in headers:
        document = json.dumps({"__type": refusal.code, "message": str(refusal)})
        await _answer(send, refusal.status, document.encode(), "application/x-amz-json-1.1")
    else:
        text = str(refusal).replace("&", "&amp;").replace("<", "&lt;")
        document = f"<ErrorResponse><Error><Code>{refusal.code}</Code><Message>{text}</Message></Error></ErrorResponse>"
        await _answer(send, refusal.status, document.encode(), "application/xml")


async def _answer(send: Send, status: int, body: bytes, content_type: str) -> None:
    headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _mend_cognito(ministack: Any, inbox: str | None) -> None:
    """Has the emulator check secret hashes and codes, as AWS does, and hands its letters to the inbox.

    It checks them only together with IAM, which it would then demand of everything.
    """
    from ministack.services import cognito as found  # type: ignore[import-not-found]

    cognito: Any = found

    handle, deliver = (cognito.__dict__[name] for name in ("_run_idp_handler", "_deliver_cognito_email"))

    def checked(*arguments: Any) -> Any:
        ministack.AUTH = True
        try:
            return handle(*arguments)
        finally:
            ministack.AUTH = False

    def delivered(pool: Any, email: str, subject: str, body: str, *rest: Any, extra: Any = None, **more: Any) -> Any:
        code = re.search(r"\d{6}", body)
        kind = "reset_password" if (extra or {}).get("AttributeName") == "password" else "verify_email"
        if inbox and code:
            line = {"email": email, "kind": kind, "code": code[0], "sent_time": datetime.now(UTC).isoformat()}
            descriptor = os.open(inbox, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "w") as stream:
                stream.write(json.dumps(line) + "\n")
        return deliver(pool, email, subject, body, *rest, extra=extra, **more)

    cognito.__dict__.update(_run_idp_handler=checked, _deliver_cognito_email=delivered)


def main() -> None:
    """Runs ministack behind the front, with the settings in the environment."""
    from hypercorn.config import Config  # type: ignore[import-not-found]
    from ministack import app as ministack  # type: ignore[import-not-found]

    # By itself it waits 3 s for clients that only wait for messages.
    Config.graceful_timeout = 0.3
    # Longer than the longest poll of a queue: closes connections that are opened and left.
    Config.read_timeout = 60
    # Python before 3.12 calls it a fault when the task of a connection is cancelled, as all are in an orderly end.
    logging.getLogger("asyncio").addFilter(
        lambda record: not (record.exc_info and record.exc_info[0] is asyncio.CancelledError)
    )
    services = frozenset(os.environ["SERVICES"].split(","))
    if "cognito-idp" in services:
        _mend_cognito(ministack, os.environ.get("INBOX"))
    ministack.app = Front(ministack.app, os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"], services)
    ministack.main()


if __name__ == "__main__":
    main()
