"""Auth's gRPC servicers: they translate and delegate. What they don't override answers UNIMPLEMENTED by the generated
base class.
"""

import uuid
from typing import Any

from authmesh.auth.v1 import (
    auth_service_pb2,
    auth_service_pb2_grpc,
    credential_directory_pb2,
    credential_directory_pb2_grpc,
)
from google.protobuf import empty_pb2

from mesh.resources.request_id import parse_request_id
from mesh.rpc import refresh_cookie
from mesh.rpc.call import current_call
from mesh.rpc.caller import caller_claims, caller_user
from services.auth.credential_lifecycle import CredentialLifecycle
from services.auth.passwords import Passwords
from services.auth.sign_in import Attempt, Authenticator
from services.auth.sign_up import Application, Registration


class AuthService(auth_service_pb2_grpc.AuthServiceServicer):
    """`authmesh.auth.v1.AuthService`."""

    def __init__(self, sign_ups: Registration, sign_ins: Authenticator, passwords: Passwords) -> None:
        self._sign_ups = sign_ups
        self._sign_ins = sign_ins
        self._passwords = passwords

    async def SignUp(self, request: auth_service_pb2.SignUpRequest, context: Any) -> auth_service_pb2.SignUpResponse:
        """Makes an account, once its address is verified."""
        request_id = parse_request_id(request.request_id)
        application = Application(request.email, request.password, request.display_name, request_id)
        await self._sign_ups.sign_up(application, _address())
        return auth_service_pb2.SignUpResponse()

    async def VerifyEmail(
        self, request: auth_service_pb2.VerifyEmailRequest, context: Any
    ) -> auth_service_pb2.VerifyEmailResponse:
        """Proves an address."""
        await self._sign_ups.verify_email(request.email, request.code, _address(), request.password)
        return auth_service_pb2.VerifyEmailResponse()

    async def ResendCode(
        self, request: auth_service_pb2.ResendCodeRequest, context: Any
    ) -> auth_service_pb2.ResendCodeResponse:
        """Sends another code."""
        await self._sign_ups.resend_code(request.email, _address())
        return auth_service_pb2.ResendCodeResponse()

    async def SignIn(self, request: auth_service_pb2.SignInRequest, context: Any) -> auth_service_pb2.SignInResponse:
        """Starts a session for a password."""
        # A header that says nonsense is refused before there is a session that nobody would have the tokens of.
        refresh_cookie.is_asked_for()
        call = current_call()
        attempt = Attempt(
            email=request.email,
            password=request.password,
            client_id=request.client_id,
            device=request.device,
            scopes=request.scopes,
            address=call.address if call else "",
            user_agent=call.user_agent if call else "",
        )
        tokens = await refresh_cookie.keep_in_cookie(context, await self._sign_ins.sign_in(attempt))
        return auth_service_pb2.SignInResponse(tokens=tokens)

    async def RequestPasswordReset(
        self, request: auth_service_pb2.RequestPasswordResetRequest, context: Any
    ) -> auth_service_pb2.RequestPasswordResetResponse:
        """Sends a code for a new password."""
        await self._passwords.request_reset(request.email, _address())
        return auth_service_pb2.RequestPasswordResetResponse()

    async def ResetPassword(
        self, request: auth_service_pb2.ResetPasswordRequest, context: Any
    ) -> auth_service_pb2.ResetPasswordResponse:
        """Sets a new password with a code."""
        await self._passwords.reset(request.email, request.code, request.new_password, _address())
        return auth_service_pb2.ResetPasswordResponse()

    async def ChangePassword(
        self, request: auth_service_pb2.ChangePasswordRequest, context: Any
    ) -> auth_service_pb2.ChangePasswordResponse:
        """Sets a new password with the old one."""
        claims = caller_claims()
        await self._passwords.change(
            caller_user(),
            request.current_password,
            request.new_password,
            session=uuid.UUID(claims.session),
            client_id=claims.client_id,
            address=_address(),
        )
        return auth_service_pb2.ChangePasswordResponse()


class CredentialDirectory(credential_directory_pb2_grpc.CredentialDirectoryServicer):
    """`authmesh.auth.v1.CredentialDirectory`."""

    def __init__(self, credentials: CredentialLifecycle) -> None:
        self._credentials = credentials

    async def SetSubjectStatus(
        self, request: credential_directory_pb2.SetSubjectStatusRequest, context: Any
    ) -> empty_pb2.Empty:
        """Allows or forbids sign-in."""
        await self._credentials.set_status(
            uuid.UUID(request.subject), disabled=request.disabled, version=request.version
        )
        return empty_pb2.Empty()

    async def DeleteSubject(
        self, request: credential_directory_pb2.DeleteSubjectRequest, context: Any
    ) -> empty_pb2.Empty:
        """Erases credentials."""
        await self._credentials.delete(uuid.UUID(request.subject))
        return empty_pb2.Empty()


def _address() -> str:
    call = current_call()
    return call.address if call else ""
