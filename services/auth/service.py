"""Auth's gRPC servicers: they translate and delegate."""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC
from typing import Any

from authmesh.auth.v1 import (
    auth_service_pb2,
    auth_service_pb2_grpc,
    credential_directory_pb2,
    credential_directory_pb2_grpc,
)
from authmesh.export.v1 import export_pb2
from authmesh.token.v1 import token_set_pb2
from google.protobuf import empty_pb2

from mesh.resources.request_id import parse_request_id
from mesh.rpc import refresh_cookie
from mesh.rpc.call import current_call
from mesh.rpc.caller import caller_claims, caller_user
from services.auth.credential_lifecycle import CredentialLifecycle
from services.auth.export import Export
from services.auth.identities.identities import Exchange, IdentityLinks
from services.auth.identity_provider import IdentityProvider
from services.auth.mfa import Mfa
from services.auth.reauthentication import Answer, Caller, Reauthentication
from services.auth.sign_in import Attempt, Authenticator, MfaAnswer
from services.auth.sign_up import Application


class AuthService(auth_service_pb2_grpc.AuthServiceServicer):
    """`authmesh.auth.v1.AuthService`."""

    def __init__(
        self,
        provider: IdentityProvider,
        sign_ins: Authenticator,
        mfa: Mfa,
        reauthentication: Reauthentication,
        identities: IdentityLinks,
    ) -> None:
        self._provider = provider
        self._sign_ins = sign_ins
        self._mfa = mfa
        self._reauthentication = reauthentication
        self._identities = identities

    async def SignUp(self, request: auth_service_pb2.SignUpRequest, context: Any) -> auth_service_pb2.SignUpResponse:
        """Makes an account, once its address is verified."""
        request_id = parse_request_id(request.request_id)
        application = Application(request.email, request.password, request.display_name, request_id)
        await self._provider.sign_up(application, _address())
        return auth_service_pb2.SignUpResponse()

    async def VerifyEmail(
        self, request: auth_service_pb2.VerifyEmailRequest, context: Any
    ) -> auth_service_pb2.VerifyEmailResponse:
        """Proves an address."""
        await self._provider.verify_email(request.email, request.code, _address(), request.password)
        return auth_service_pb2.VerifyEmailResponse()

    async def ResendCode(
        self, request: auth_service_pb2.ResendCodeRequest, context: Any
    ) -> auth_service_pb2.ResendCodeResponse:
        """Sends another code."""
        await self._provider.resend_code(request.email, _address())
        return auth_service_pb2.ResendCodeResponse()

    async def SignIn(self, request: auth_service_pb2.SignInRequest, context: Any) -> auth_service_pb2.SignInResponse:
        """Starts a session for a password."""
        # A header that says nonsense is refused before there is a session that no one would have the tokens of.
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
        outcome = await self._sign_ins.sign_in(attempt)
        if isinstance(outcome, auth_service_pb2.MfaChallenge):
            return auth_service_pb2.SignInResponse(mfa_challenge=outcome)
        return auth_service_pb2.SignInResponse(tokens=await refresh_cookie.keep_in_cookie(context, outcome))

    async def VerifyMfa(self, request: auth_service_pb2.VerifyMfaRequest, context: Any) -> token_set_pb2.TokenSet:
        """Answers the challenge of a sign-in."""
        refresh_cookie.is_asked_for()
        call = current_call()
        answer = MfaAnswer(
            challenge=request.challenge,
            totp=request.totp,
            recovery_code=request.recovery_code,
            address=call.address if call else "",
            user_agent=call.user_agent if call else "",
            new_password=request.new_password,
        )
        return await refresh_cookie.keep_in_cookie(context, await self._sign_ins.verify_mfa(answer))

    async def ExchangeToken(
        self, request: auth_service_pb2.ExchangeTokenRequest, context: Any
    ) -> token_set_pb2.TokenSet:
        """Signs in with another provider's ID token."""
        refresh_cookie.is_asked_for()
        call = current_call()
        exchange = Exchange(
            id_token=request.id_token,
            nonce=request.nonce,
            client_id=request.client_id,
            device=request.device,
            address=call.address if call else "",
            user_agent=call.user_agent if call else "",
        )
        return await refresh_cookie.keep_in_cookie(context, await self._identities.exchange(exchange))

    async def RequestPasswordReset(
        self, request: auth_service_pb2.RequestPasswordResetRequest, context: Any
    ) -> auth_service_pb2.RequestPasswordResetResponse:
        """Sends a code for a new password."""
        await self._provider.request_reset(request.email, _address())
        return auth_service_pb2.RequestPasswordResetResponse()

    async def ResetPassword(
        self, request: auth_service_pb2.ResetPasswordRequest, context: Any
    ) -> auth_service_pb2.ResetPasswordResponse:
        """Sets a new password with a code."""
        await self._provider.reset(request.email, request.code, request.new_password, _address())
        return auth_service_pb2.ResetPasswordResponse()

    async def ChangePassword(
        self, request: auth_service_pb2.ChangePasswordRequest, context: Any
    ) -> auth_service_pb2.ChangePasswordResponse:
        """Sets a new password with the old one."""
        claims = caller_claims()
        await self._provider.change(
            caller_user(),
            request.current_password,
            request.new_password,
            session=uuid.UUID(claims.session),
            client_id=claims.client_id,
            address=_address(),
        )
        return auth_service_pb2.ChangePasswordResponse()

    async def BeginReauthentication(
        self, request: auth_service_pb2.BeginReauthenticationRequest, context: Any
    ) -> auth_service_pb2.MfaChallenge:
        """Asks who the person of a session is."""
        return await self._reauthentication.begin(_caller())

    async def FinishReauthentication(
        self, request: auth_service_pb2.FinishReauthenticationRequest, context: Any
    ) -> auth_service_pb2.FinishReauthenticationResponse:
        """Takes the answer."""
        answer = Answer(request.challenge, request.password, request.totp, request.passkey_credential_json)
        await self._reauthentication.finish(_caller(), answer)
        return auth_service_pb2.FinishReauthenticationResponse()

    async def EnrollTotp(
        self, request: auth_service_pb2.EnrollTotpRequest, context: Any
    ) -> auth_service_pb2.EnrollTotpResponse:
        """Begins to set up an authenticator app."""
        enrollment = await self._mfa.enroll(caller_user())
        return auth_service_pb2.EnrollTotpResponse(otpauth_uri=enrollment.uri, qr_svg=enrollment.qr_svg)

    async def ConfirmTotp(
        self, request: auth_service_pb2.ConfirmTotpRequest, context: Any
    ) -> auth_service_pb2.ConfirmTotpResponse:
        """Has the authenticator app demanded."""
        codes = await self._mfa.confirm(caller_user(), uuid.UUID(caller_claims().session), request.totp)
        return auth_service_pb2.ConfirmTotpResponse(recovery_codes=codes)

    async def DisableTotp(
        self, request: auth_service_pb2.DisableTotpRequest, context: Any
    ) -> auth_service_pb2.DisableTotpResponse:
        """Demands it no more."""
        await self._mfa.disable(caller_user(), request.totp)
        return auth_service_pb2.DisableTotpResponse()

    async def RegenerateRecoveryCodes(
        self, request: auth_service_pb2.RegenerateRecoveryCodesRequest, context: Any
    ) -> auth_service_pb2.RegenerateRecoveryCodesResponse:
        """New recovery codes."""
        codes = await self._mfa.regenerate_recovery_codes(caller_user())
        return auth_service_pb2.RegenerateRecoveryCodesResponse(recovery_codes=codes)


class CredentialDirectory(credential_directory_pb2_grpc.CredentialDirectoryServicer):
    """`authmesh.auth.v1.CredentialDirectory`."""

    def __init__(self, credentials: CredentialLifecycle, mfa: Mfa, export: Export) -> None:
        self._credentials = credentials
        self._mfa = mfa
        self._export = export

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

    async def ResetMfa(self, request: credential_directory_pb2.ResetMfaRequest, context: Any) -> empty_pb2.Empty:
        """Removes a second factor."""
        await self._mfa.reset(uuid.UUID(request.subject), request.before.ToDatetime(UTC))
        return empty_pb2.Empty()

    async def ExportSubject(
        self, request: export_pb2.ExportSubjectRequest, context: Any
    ) -> AsyncIterator[export_pb2.ExportedItem]:
        """What Auth holds of a person."""
        async for item in self._export.items(uuid.UUID(request.subject)):
            yield item


def _caller() -> Caller:
    claims = caller_claims()
    return Caller(caller_user(), uuid.UUID(claims.session), claims.client_id, _address())


def _address() -> str:
    call = current_call()
    return call.address if call else ""
