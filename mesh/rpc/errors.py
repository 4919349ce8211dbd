"""The error table: the one place where a refusal becomes a gRPC status, and a status a refusal again."""

import math
from contextlib import suppress
from datetime import timedelta
from typing import Any

import grpc
import structlog
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from grpc_status import rpc_status

from mesh import errors
from mesh.contract import Rpc
from mesh.errors import FieldViolation, MeshError, Reason
from mesh.rpc.call import Call, Handler
from mesh.telemetry.logs import describe

DOMAIN = "authmesh"

VIOLATIONS = 5
"""The most fields at fault that an answer names."""
# A status travels in headers, its message twice. With these it is below 5 KiB on the wire whatever it says; clients,
# and Envoys between, take 8 KiB, and answer a larger one by ending the connection with all its calls.
_MESSAGE_BYTES = 400
_FIELD_BYTES = 100
_DESCRIPTION_BYTES = 250

_STATUS: dict[type[MeshError], grpc.StatusCode] = {
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.Aborted: grpc.StatusCode.ABORTED,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Unimplemented: grpc.StatusCode.UNIMPLEMENTED,
    errors.Internal: grpc.StatusCode.INTERNAL,
}
_CHALLENGES = {
    # RFC 6750, section 3.
    Reason.TOKEN_MISSING: "Bearer",
    Reason.TOKEN_INVALID: 'Bearer error="invalid_token"',
    Reason.TOKEN_REVOKED: 'Bearer error="invalid_token", error_description="revoked"',
    Reason.TOKEN_EXPIRED: 'Bearer error="invalid_token", error_description="expired"',
    Reason.SCOPE_MISSING: 'Bearer error="insufficient_scope"',
    # RFC 9470, section 3.
    Reason.STEP_UP_REQUIRED: 'Bearer error="insufficient_user_authentication"',
}
_ERROR = {status: kind for kind, status in _STATUS.items()}

_log = structlog.get_logger("authmesh.errors")


def status_code(error: MeshError) -> grpc.StatusCode:
    """The gRPC status of a refusal: its kind's, also where a service refines the kind."""
    return next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), grpc.StatusCode.INTERNAL)


def to_status(error: MeshError) -> status_pb2.Status:
    """The `google.rpc.Status` of a refusal: ErrorInfo always, BadRequest and RetryInfo where there is something to say.

    Whatever the refusal holds, the status is small: what is too long is cut, and of many violations the first few are
    told.
    """
    details = [_packed(error_details_pb2.ErrorInfo(domain=DOMAIN, reason=error.reason, metadata=error.facts))]
    if error.violations:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(
                field=_cut(item.field, _FIELD_BYTES), description=_cut(item.description, _DESCRIPTION_BYTES)
            )
            for item in error.violations[:VIOLATIONS]
        ]
        details.append(_packed(error_details_pb2.BadRequest(field_violations=violations)))
    if error.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromTimedelta(error.retry_after)
        details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status_pb2.Status(
        code=status_code(error).value[0], message=_cut(error.message, _MESSAGE_BYTES), details=details
    )


def http_headers(error: MeshError) -> dict[str, str]:
    """What a refusal says in headers of HTTP, too, for clients of the JSON form: `retry-after` and `www-authenticate`.

    A process sends them behind its status, from where Envoy's transcoder takes them.
    """
    headers = {}
    if error.retry_after is not None:
        # Whole seconds (RFC 9110, section 10.2.3).
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after.total_seconds())))
    if challenge := _CHALLENGES.get(error.reason):
        max_age = f', max_age="{error.facts["max_age"]}"' if "max_age" in error.facts else ""
        headers["www-authenticate"] = challenge + max_age
    return headers


def from_rpc_error(error: aio.AioRpcError) -> MeshError:
    """The refusal that a backend answered with.

    One without a reason of the contract is an outage of that backend, or a fault of ours.
    """
    kind = _ERROR.get(error.code(), errors.Internal)
    info, violations, retry_after = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), None
    for detail in _details(error):
        detail.Unpack(info)
        detail.Unpack(violations)
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(retry):
            retry_after = retry.retry_delay.ToTimedelta()
    if info.domain != DOMAIN or info.reason not in Reason.__members__:
        if kind is errors.DeadlineExceeded:
            return errors.DeadlineExceeded(Reason.DEADLINE, "a service needed for this did not answer in time")
        if kind is errors.Unavailable:
            return errors.Unavailable(
                Reason.DEPENDENCY_UNAVAILABLE, "a service needed for this is out of reach: try again"
            )
        return errors.Internal(Reason.INTERNAL, f"a backend answered {error.code().name} without a reason")
    if kind is errors.Unavailable:
        return errors.Unavailable(
            Reason(info.reason), error.details() or "", retry_after=retry_after or timedelta(seconds=1)
        )
    refusal = kind(Reason(info.reason), error.details() or "")
    refusal.retry_after = retry_after
    refusal.facts = dict(info.metadata)
    refusal.violations = tuple(FieldViolation(item.field, item.description) for item in violations.field_violations)
    return refusal


def error_table(rpc: Rpc, proceed: Handler) -> Handler:
    """The stage that ends a refused call.

    What is not a refusal is a fault: it is logged, and the caller learns the request id and nothing else.
    """

    async def answer(call: Call) -> Any:  # noqa: RET503 - abort never returns
        try:
            return await proceed(call)
        except aio.AbortError:
            raise
        except MeshError as error:
            refusal = error
        except Exception as error:  # noqa: BLE001 - the last row of the table
            # The generated base class of a servicer says this of a method that this release does not have. Anyone
            # else's is a fault.
            if isinstance(error, NotImplementedError) and call.context.code() is grpc.StatusCode.UNIMPLEMENTED:
                refusal = errors.Unimplemented(
                    Reason.NOT_IMPLEMENTED, f"{rpc.name} is part of the contract but not of this release"
                )
            else:
                _log.error("fault", rpc=rpc.path, exception=describe(error))
                refusal = _fault(call)
        if status_code(refusal) is grpc.StatusCode.INTERNAL and refusal.__traceback__ is not None:
            _log.error("fault", rpc=rpc.path, cause=refusal.message)
            refusal = _fault(call)
        call.status = f"{status_code(refusal).name} {refusal.reason}"
        status = rpc_status.to_status(to_status(refusal))
        await call.context.abort(
            status.code, status.details, (*status.trailing_metadata, *http_headers(refusal).items())
        )

    return answer


def _fault(call: Call) -> errors.Internal:
    return errors.Internal(
        Reason.INTERNAL, f"something went wrong on our side: tell us the request id {call.request_id}"
    )


def _cut(text: str, most: int) -> str:
    """The text in at most that many bytes of UTF-8, with three dots where some of it is missing."""
    # Lone surrogates, which no protobuf string holds, become question marks.
    encoded = text[: most + 1].encode(errors="replace")
    return encoded.decode() if len(encoded) <= most else encoded[: most - 3].decode(errors="ignore") + "..."


def _packed(
    message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest | error_details_pb2.RetryInfo,
) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def _details(error: aio.AioRpcError) -> list[any_pb2.Any]:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            with suppress(DecodeError):
                return list(status_pb2.Status.FromString(value).details)
    return []
