"""Every way to refuse reaches the client as one status with one reason; whatever else goes wrong tells it a request id
and nothing more."""

from base64 import b64encode
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import asyncpg
import grpc
import pytest
import structlog.testing
from grpc import aio

from mesh import errors
from mesh.errors import FieldViolation, MeshError, Reason
from mesh.rpc.errors import from_rpc_error, to_status
from tests.kit.calls import CHANGE, CREATE, Changes, Directory, found, read, refusal, serving, stream, unary

STATUSES = [
    (errors.Unauthenticated, Reason.TOKEN_EXPIRED, grpc.StatusCode.UNAUTHENTICATED),
    (errors.PermissionDenied, Reason.SCOPE_MISSING, grpc.StatusCode.PERMISSION_DENIED),
    (errors.Unavailable, Reason.REVOCATION_STALE, grpc.StatusCode.UNAVAILABLE),
    (errors.ResourceExhausted, Reason.RATE_LIMITED, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.InvalidArgument, Reason.CODE_INVALID, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.FailedPrecondition, Reason.EMAIL_UNVERIFIED, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.NotFound, Reason.USER_NOT_FOUND, grpc.StatusCode.NOT_FOUND),
    (errors.AlreadyExists, Reason.REQUEST_ID_REUSED, grpc.StatusCode.ALREADY_EXISTS),
    (errors.Aborted, Reason.ETAG_MISMATCH, grpc.StatusCode.ABORTED),
    (errors.DeadlineExceeded, Reason.DEADLINE, grpc.StatusCode.DEADLINE_EXCEEDED),
    (errors.Unimplemented, Reason.NOT_IMPLEMENTED, grpc.StatusCode.UNIMPLEMENTED),
]


def refusing(error: Exception) -> Directory:
    async def lookup(_: object) -> object:
        raise error

    return Directory(lookup)


@pytest.mark.parametrize(("kind", "reason", "status"), STATUSES)
async def test_each_error_is_one_status_with_its_reason(
    kind: type[MeshError], reason: Reason, status: grpc.StatusCode
) -> None:
    async with serving(refusing(kind(reason, "what to do"))) as channel:
        refused = await refusal(unary(channel))
    assert (refused.status, refused.reason, refused.message) == (status, reason, "what to do")


async def test_an_error_of_a_services_own_is_the_status_of_its_kind() -> None:
    class ShareNotFound(errors.NotFound):
        pass

    async with serving(refusing(ShareNotFound(Reason.RESOURCE_NOT_FOUND, "no such share"))) as channel:
        refused = await refusal(unary(channel))
    assert (refused.status, refused.reason) == (grpc.StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND")


async def test_an_error_of_no_kind_is_internal_and_keeps_its_words_to_itself() -> None:
    async with serving(refusing(MeshError(Reason.INTERNAL, "the inner words"))) as channel:
        refused = await refusal(unary(channel))
    assert refused.status is grpc.StatusCode.INTERNAL
    assert "inner" not in refused.message


async def test_fields_at_fault_and_the_time_to_wait_are_told() -> None:
    error = errors.InvalidArgument(
        Reason.FIELD_INVALID, "mend it", violations=(FieldViolation("user.name", "must be set"),)
    )
    async with serving(refusing(error)) as channel:
        assert (await refusal(unary(channel))).violations == {"user.name": "must be set"}
    async with serving(
        refusing(errors.Unavailable(Reason.KEYS_UNAVAILABLE, "wait", retry_after=timedelta(seconds=2.5)))
    ) as channel:
        assert (await refusal(unary(channel))).retry_seconds == 2.5
        with pytest.raises(aio.AioRpcError) as refused:
            await unary(channel)
        # In the JSON form it is a header, of whole seconds.
        assert dict(refused.value.trailing_metadata() or ())["retry-after"] == "3"


@pytest.mark.parametrize("character", ["x", "é", "漢", "🙂", "\0", "%"])
async def test_whatever_a_refusal_holds_its_answer_is_small_and_can_be_read(character: str) -> None:
    violations = tuple(FieldViolation(character * 5000, character * 5000) for _ in range(2500))
    error = errors.InvalidArgument(
        Reason.FIELD_INVALID, character * 100_000, violations=violations, retry_after=timedelta(days=1)
    )
    async with serving(refusing(error)) as channel:
        with pytest.raises(aio.AioRpcError) as caught:
            await unary(channel)
    refused = read(caught.value)
    assert (refused.status, refused.reason, len(refused.violations)) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "FIELD_INVALID",
        1,
    )
    assert refused.message.startswith(character * 90)
    details = b64encode(to_status(error).SerializeToString())
    assert len(details) + len(quote(refused.message)) < 5000


def test_what_is_cut_says_so_and_what_fits_is_whole() -> None:
    assert to_status(errors.NotFound(Reason.USER_NOT_FOUND, "x" * 400)).message == "x" * 400
    assert to_status(errors.NotFound(Reason.USER_NOT_FOUND, "x" * 401)).message == "x" * 397 + "..."
    assert to_status(errors.NotFound(Reason.USER_NOT_FOUND, "\ud800")).message == "?"


@pytest.mark.parametrize(
    "fault",
    [
        KeyError("secret-key"),
        ValueError("secret-value"),
        asyncpg.UndefinedTableError('relation "secret_table" does not exist'),
        asyncpg.UniqueViolationError('duplicate key value violates unique constraint "secret_key"'),
        TimeoutError("secret"),
        NotImplementedError("secret"),
        errors.Internal(Reason.INTERNAL, "secret"),
        UnicodeDecodeError("utf-8", b"secret", 0, 1, "secret"),
    ],
    ids=lambda fault: type(fault).__name__,
)
async def test_a_fault_tells_the_request_id_and_nothing_else(fault: Exception) -> None:
    with structlog.testing.capture_logs() as logs:
        async with serving(refusing(fault)) as channel:
            refused = await refusal(unary(channel, metadata=[("x-request-id", "the-id")]))
    assert (refused.status, refused.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert refused.message == "something went wrong on our side: tell us the request id the-id"
    assert [line["event"] for line in logs].count("fault") == 1


@pytest.mark.parametrize("answer", [None, "text", b"bytes"], ids=["nothing", "text", "bytes"])
async def test_an_answer_of_the_wrong_type_is_a_fault_like_any_other(answer: object) -> None:
    async def lookup(_: object) -> object:
        return answer

    async with serving(Directory(lookup)) as channel:
        refused = await refusal(unary(channel, metadata=[("x-request-id", "the-id")]))
    assert refused.message == "something went wrong on our side: tell us the request id the-id"


async def test_a_wrong_message_in_a_stream_is_a_fault_like_any_other() -> None:
    async def watch() -> Any:
        yield "text"

    async with serving(Changes(watch)) as channel:
        refused = await refusal(stream(channel).read())
    assert refused.status is grpc.StatusCode.INTERNAL
    assert "str" not in refused.message


@pytest.mark.parametrize(
    "payload",
    [b"\xff", b"\x0a\x05ab", b"\x0a\x02\xff\xfe", b"\x0b" * 500],
    ids=["no field", "cut off", "no UTF-8", "too deep"],
)
async def test_bytes_that_are_no_message_are_an_invalid_argument(payload: bytes) -> None:
    async with serving(Directory(found)) as channel:
        refused = await refusal(unary(channel, request=payload))
    assert (refused.status, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert refused.violations == {"request": "these bytes are not a valid authmesh.user.v1.LookupUserRequest"}


async def test_bytes_that_are_no_message_are_an_invalid_argument_of_a_stream_too() -> None:
    async def watch() -> Any:
        for _ in range(0):
            yield CHANGE
        raise AssertionError

    async with serving(Changes(watch)) as channel:
        assert (await refusal(stream(channel, request=b"\xff").read())).reason == "FIELD_INVALID"


async def test_a_method_that_the_release_does_not_have_is_unimplemented_with_its_reason() -> None:
    async with serving(Directory(found)) as channel:
        refused = await refusal(unary(channel, CREATE))
    assert (refused.status, refused.reason) == (grpc.StatusCode.UNIMPLEMENTED, "NOT_IMPLEMENTED")
    assert "CreateUser" in refused.message


@pytest.mark.parametrize("path", ["/authmesh.user.v1.UserDirectory/Nothing", "/nobody.v1.Service/Method", "/", "/x"])
async def test_an_unknown_method_is_unimplemented_with_its_reason(path: str) -> None:
    async with serving(Directory(found)) as channel:
        assert (await refusal(unary(channel, path))).reason == "NOT_IMPLEMENTED"
        assert (await refusal(stream(channel, path).read())).reason == "NOT_IMPLEMENTED"


async def test_a_refusal_in_the_middle_of_a_stream_arrives_after_what_came_before_it() -> None:
    async def watch() -> Any:
        yield CHANGE
        raise errors.Unavailable(Reason.DEPENDENCY_UNAVAILABLE, "resume it")

    async with serving(Changes(watch)) as channel:
        call = stream(channel)
        assert await call.read() == CHANGE.SerializeToString()
        assert (await refusal(call.read())).retry_seconds == 1


def rpc_error(status: grpc.StatusCode, details: bytes | None = None) -> aio.AioRpcError:
    trailing = aio.Metadata(*([("grpc-status-details-bin", details)] if details is not None else []))
    return aio.AioRpcError(status, aio.Metadata(), trailing, details="from the wire")


@pytest.mark.parametrize("details", [None, b"", b"\xff\xff\xff"], ids=["none", "empty", "no status"])
def test_an_outage_without_a_reason_is_an_outage(details: bytes | None) -> None:
    error = from_rpc_error(rpc_error(grpc.StatusCode.UNAVAILABLE, details))
    assert isinstance(error, errors.Unavailable)
    assert error.reason is Reason.DEPENDENCY_UNAVAILABLE
    assert error.retry_after
    assert "wire" not in error.message


@pytest.mark.parametrize(
    "status",
    [
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
    ],
)
def test_any_other_status_without_a_reason_is_a_fault_of_ours(status: grpc.StatusCode) -> None:
    assert isinstance(from_rpc_error(rpc_error(status)), errors.Internal)


def test_a_deadline_without_a_reason_is_a_deadline() -> None:
    assert from_rpc_error(rpc_error(grpc.StatusCode.DEADLINE_EXCEEDED)).reason is Reason.DEADLINE
