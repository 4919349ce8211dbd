"""What goes wrong between us and AWS, in one line that says what to do."""

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOTokenLoadError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)

_EXPIRED = frozenset(("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"))
_UNKNOWN = frozenset(
    (
        "InvalidClientTokenId",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
        "AuthFailure",
        "InvalidAccessKeyId",
    )
)
_REFUSED = frozenset(("AccessDenied", "AccessDeniedException", "UnauthorizedOperation"))


class AwsError(Exception):
    """For the person at the keyboard: one line."""


def explained(error: BotoCoreError | ClientError | OSError | TimeoutError, *, region: str | None) -> AwsError:
    """The error as one line.

    Args:
        error: As botocore raised it.
        region: Which was asked.
    """
    match error:
        case NoCredentialsError() | PartialCredentialsError():
            return AwsError(
                "there are no AWS credentials: sign in (`aws sso login`, `aws configure`), or set AWS_PROFILE"
            )
        case ProfileNotFound():
            return AwsError(f"{error}: AWS_PROFILE names it, and no configuration file has it")
        case NoRegionError():
            return AwsError("no region is chosen: set AWS_REGION, or name one with --region")
        case SSOTokenLoadError() | UnauthorizedSSOTokenError() | TokenRetrievalError():
            return AwsError("the AWS session has ended: sign in again (`aws sso login`)")
        case EndpointConnectionError() | ConnectTimeoutError():
            return AwsError(f"AWS does not answer in {region}: is that the name of a region, and is there a network?")
        case ClientError():
            return _answered(error)
        case HTTPClientError() | OSError() | TimeoutError():
            return AwsError(
                f"the connection to AWS in {region} broke: {_line(error)}. Say it again; it goes on from there"
            )
    return AwsError(f"AWS can't be asked: {_line(error)}")


def _answered(error: ClientError) -> AwsError:
    code, message = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")
    if code in _EXPIRED:
        return AwsError("the AWS credentials have expired: sign in again (`aws sso login`), or get new ones")
    if code in _UNKNOWN:
        return AwsError(f"AWS does not know these credentials ({code}): look at AWS_PROFILE and AWS_ACCESS_KEY_ID")
    if code in _REFUSED:
        return AwsError(f"AWS does not permit {error.operation_name} to these credentials: {_line(message)}")
    return AwsError(f"AWS refuses {error.operation_name} ({code}): {_line(message)}")


def _line(text: object) -> str:
    return " ".join(str(text).split())
