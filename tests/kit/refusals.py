"""What a refusal says, in one line."""

from google.rpc import error_details_pb2, status_pb2
from grpc import aio


def described(error: aio.AioRpcError) -> str:
    """`UNAUTHENTICATED TOKEN_INVALID`, with `+RetryInfo` where there is one."""
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    kinds = [(item.Unpack(info), item.Unpack(retry)) for item in status_pb2.Status.FromString(bytes(details)).details]
    return f"{error.code().name} {info.reason}" + (" +RetryInfo" if any(has_retry for _, has_retry in kinds) else "")
