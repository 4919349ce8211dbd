"""PasskeyService's gRPC servicer: it translates and delegates."""

import uuid
from typing import Any

from authmesh.auth.v1 import passkey_service_pb2, passkey_service_pb2_grpc
from authmesh.token.v1 import token_set_pb2
from google.protobuf import empty_pb2

from mesh.rpc import refresh_cookie
from mesh.rpc.call import current_call
from mesh.rpc.caller import caller_claims, caller_user, user_of
from services.auth.passkeys.passkeys import PasskeyRegistry
from services.auth.passkeys.sign_in import PasskeyAuthenticator
from services.auth.passkeys.store import PASSKEY, Passkey


class PasskeyService(passkey_service_pb2_grpc.PasskeyServiceServicer):
    """`authmesh.auth.v1.PasskeyService`."""

    def __init__(self, registry: PasskeyRegistry, sign_ins: PasskeyAuthenticator) -> None:
        self._registry = registry
        self._sign_ins = sign_ins

    async def BeginRegistration(
        self, request: passkey_service_pb2.BeginRegistrationRequest, context: Any
    ) -> passkey_service_pb2.BeginRegistrationResponse:
        """Begins to register a passkey."""
        ceremony, options, expire_time = await self._registry.begin(caller_user(), _session())
        answer = passkey_service_pb2.BeginRegistrationResponse(ceremony=ceremony, creation_options_json=options)
        answer.expire_time.FromDatetime(expire_time)
        return answer

    async def FinishRegistration(
        self, request: passkey_service_pb2.FinishRegistrationRequest, context: Any
    ) -> passkey_service_pb2.Passkey:
        """Registers a passkey."""
        passkey = await self._registry.finish(
            caller_user(), _session(), request.ceremony, request.credential_json, request.display_name
        )
        return passkey_message(passkey)

    async def ListPasskeys(
        self, request: passkey_service_pb2.ListPasskeysRequest, context: Any
    ) -> passkey_service_pb2.ListPasskeysResponse:
        """Lists a person's passkeys."""
        passkeys = await self._registry.of_user(user_of(request.parent))
        return passkey_service_pb2.ListPasskeysResponse(passkeys=map(passkey_message, passkeys))

    async def RenamePasskey(
        self, request: passkey_service_pb2.RenamePasskeyRequest, context: Any
    ) -> passkey_service_pb2.Passkey:
        """Renames a passkey."""
        renamed = await self._registry.rename(user_of(request.name), _id(request.name), request.display_name)
        return passkey_message(renamed)

    async def DeletePasskey(self, request: passkey_service_pb2.DeletePasskeyRequest, context: Any) -> empty_pb2.Empty:
        """Deletes a passkey."""
        await self._registry.delete(user_of(request.name), _id(request.name))
        return empty_pb2.Empty()

    async def BeginSignIn(
        self, request: passkey_service_pb2.BeginSignInRequest, context: Any
    ) -> passkey_service_pb2.BeginSignInResponse:
        """Begins to sign in."""
        ceremony, options, expire_time = await self._sign_ins.begin(request.client_id, request.device, request.scopes)
        answer = passkey_service_pb2.BeginSignInResponse(ceremony=ceremony, request_options_json=options)
        answer.expire_time.FromDatetime(expire_time)
        return answer

    async def FinishSignIn(
        self, request: passkey_service_pb2.FinishSignInRequest, context: Any
    ) -> token_set_pb2.TokenSet:
        """Starts a session."""
        refresh_cookie.is_asked_for()
        call = current_call()
        tokens = await self._sign_ins.finish(
            request.ceremony,
            request.credential_json,
            call.address if call else "",
            call.user_agent if call else "",
        )
        return await refresh_cookie.keep_in_cookie(context, tokens)


def _session() -> uuid.UUID:
    return uuid.UUID(caller_claims().session)


def _id(name: str) -> uuid.UUID:
    return uuid.UUID(PASSKEY.id(name))


def passkey_message(passkey: Passkey) -> passkey_service_pb2.Passkey:
    """A passkey, as its person sees it."""
    message = passkey_service_pb2.Passkey(
        name=passkey.name,
        display_name=passkey.display_name,
        synced=passkey.credential.backup_eligible,
    )
    message.create_time.FromDatetime(passkey.create_time)
    if passkey.last_used_time:
        message.last_used_time.FromDatetime(passkey.last_used_time)
    return message
