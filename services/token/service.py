"""TokenService and TokenIssuer: translate, delegate, and nothing else."""

import json
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from authmesh.export.v1 import export_pb2
from authmesh.token.v1 import (
    token_issuer_pb2,
    token_issuer_pb2_grpc,
    token_service_pb2,
    token_service_pb2_grpc,
    token_set_pb2,
)
from google.api import httpbody_pb2
from google.protobuf import empty_pb2
from grpc import aio

from mesh.resources.name import SESSION, USER
from mesh.resources.pagination import Paging
from mesh.rpc import refresh_cookie
from mesh.rpc.call import current_call, send_initial_metadata
from mesh.rpc.caller import caller_claims, user_of
from mesh.tokens.claims import Claims
from mesh.tokens.revocations import Revocation
from services.token.clients.credentials_grant import ClientCredentialsGrant
from services.token.revocation.log import RevocationLog
from services.token.sessions.answers import client_token_set, session_message, token_set
from services.token.sessions.export import Export
from services.token.sessions.introspection import Introspection
from services.token.sessions.refresh import Refresh, TokenRefresher
from services.token.sessions.sign_in import SessionIssuer, SignIn
from services.token.sessions.sign_out import SessionManager
from services.token.sessions.subjects import SubjectSync

Context = aio.ServicerContext[Any, Any]
JWKS_MAX_AGE = 60
"""Seconds that a browser or a proxy may keep the JWKS."""


class TokenService(token_service_pb2_grpc.TokenServiceServicer):
    """Sessions and tokens, for everyone."""

    def __init__(
        self,
        refreshes: TokenRefresher,
        client_tokens: ClientCredentialsGrant,
        sign_outs: SessionManager,
        introspection: Introspection,
        *,
        jwks: Callable[[], bytes],
        metadata: Mapping[str, Any],
        clock: Callable[[], datetime],
    ) -> None:
        """Initializes the instance.

        Args:
            refreshes: Spends refresh tokens.
            client_tokens: Gives clients tokens of their own.
            sign_outs: Lists and ends sessions.
            introspection: Describes tokens.
            jwks: The JWK set, as of now.
            metadata: The issuer's metadata.
            clock: The time.
        """
        self._refreshes = refreshes
        self._client_tokens = client_tokens
        self._sign_outs = sign_outs
        self._introspection = introspection
        self._jwks = jwks
        self._metadata = json.dumps(metadata).encode()
        self._clock = clock

    async def RefreshToken(
        self, request: token_service_pb2.RefreshTokenRequest, context: Context
    ) -> token_set_pb2.TokenSet:
        """Spends a refresh token."""
        call = current_call()
        refresh = Refresh(
            refresh_token=refresh_cookie.token_of_request(request.refresh_token, "refresh_token"),
            client_id=request.client_id,
            instance_id=uuid.UUID(request.device.instance_id) if request.device.instance_id else None,
            scopes=frozenset(request.scopes),
            address=call.address if call else "",
        )
        return await refresh_cookie.keep_in_cookie(
            context, token_set(await self._refreshes.refresh(refresh), self._clock())
        )

    async def RevokeToken(
        self, request: token_service_pb2.RevokeTokenRequest, context: Context
    ) -> token_service_pb2.RevokeTokenResponse:
        """Ends what a token stands for."""
        await self._sign_outs.revoke_token(refresh_cookie.token_of_request(request.token, "token"))
        await refresh_cookie.clear_cookie(context)
        return token_service_pb2.RevokeTokenResponse()

    async def IssueClientToken(
        self, request: token_service_pb2.IssueClientTokenRequest, context: Context
    ) -> token_set_pb2.TokenSet:
        """Gives a client a token of its own."""
        access_token, grant = await self._client_tokens.issue(request.client_assertion, frozenset(request.scopes))
        return client_token_set(access_token, grant, self._clock())

    async def IntrospectToken(
        self, request: token_service_pb2.IntrospectTokenRequest, context: Context
    ) -> httpbody_pb2.HttpBody:
        """Describes a token."""
        return _json(await self._introspection.introspect(request.token))

    async def ListSessions(
        self, request: token_service_pb2.ListSessionsRequest, context: Context
    ) -> token_service_pb2.ListSessionsResponse:
        """A page of sessions."""
        user, current = user_of(request.parent), _current(caller_claims())
        paging = Paging(request, f"{USER.of(user)}/sessions", uuid.UUID)
        found = await self._sign_outs.live_sessions(user, paging.after, paging.size + 1)
        page, next_page_token = paging.cut(found, lambda session: session.id)
        return token_service_pb2.ListSessionsResponse(
            sessions=[session_message(session, current) for session in page], next_page_token=next_page_token
        )

    async def RevokeSession(self, request: token_service_pb2.RevokeSessionRequest, context: Context) -> empty_pb2.Empty:
        """Ends a session."""
        session = SESSION.id(request.name)
        named = _current(caller_claims()) if session == "current" else uuid.UUID(session)
        if named is not None:
            await self._sign_outs.end_session(user_of(request.name), named)
        return empty_pb2.Empty()

    async def RevokeAllSessions(
        self, request: token_service_pb2.RevokeAllSessionsRequest, context: Context
    ) -> token_service_pb2.RevokeAllSessionsResponse:
        """Ends all sessions."""
        keep = _current(caller_claims()) if request.except_current else None
        count = await self._sign_outs.end_all_sessions(user_of(request.parent), keep)
        return token_service_pb2.RevokeAllSessionsResponse(revoked_count=count)

    async def GetJwks(self, request: token_service_pb2.GetJwksRequest, context: Context) -> httpbody_pb2.HttpBody:
        """The keys.

        Computed from their state for each caller; a cache keeps the answer for less time than a key is
        there unused.
        """
        document = self._jwks()
        await send_initial_metadata(context, ("cache-control", f"public, max-age={JWKS_MAX_AGE}"))
        return httpbody_pb2.HttpBody(content_type="application/jwk-set+json", data=document)

    async def GetDiscovery(
        self, request: token_service_pb2.GetDiscoveryRequest, context: Context
    ) -> httpbody_pb2.HttpBody:
        """The metadata."""
        return httpbody_pb2.HttpBody(content_type="application/json", data=self._metadata)


class TokenIssuer(token_issuer_pb2_grpc.TokenIssuerServicer):
    """Token, as the other services use it."""

    def __init__(
        self,
        sign_ins: SessionIssuer,
        subjects: SubjectSync,
        export: Export,
        log: RevocationLog,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        """Initializes the instance.

        Args:
            sign_ins: Starts sessions.
            subjects: Follows what User decides.
            export: Hands out what is held of a person.
            log: What is revoked.
            clock: The time.
        """
        self._sign_ins = sign_ins
        self._subjects = subjects
        self._export = export
        self._log = log
        self._clock = clock

    async def CheckSignIn(self, request: token_issuer_pb2.CheckSignInRequest, context: Context) -> empty_pb2.Empty:
        """Judges what a sign-in asks for."""
        instance_id = uuid.UUID(request.device.instance_id) if request.device.instance_id else None
        await self._sign_ins.check(request.client_id, instance_id, frozenset(request.scopes))
        return empty_pb2.Empty()

    async def IssueTokens(
        self, request: token_issuer_pb2.IssueTokensRequest, context: Context
    ) -> token_set_pb2.TokenSet:
        """Starts a session."""
        device = request.device
        sign_in = SignIn(
            subject=uuid.UUID(request.subject),
            client_id=request.client_id,
            instance_id=uuid.UUID(device.instance_id) if device.instance_id else None,
            display_name=device.display_name,
            platform=device.platform,
            scopes=frozenset(request.scopes),
            auth_time=request.auth_time.ToDatetime(UTC),
            amr=tuple(request.amr),
            address=request.address,
            # No one types it, so there is no one to tell that it is not text.
            user_agent="".join(filter(str.isprintable, request.user_agent)),
        )
        return token_set(await self._sign_ins.issue(sign_in), self._clock())

    async def Reauthenticate(
        self, request: token_issuer_pb2.ReauthenticateRequest, context: Context
    ) -> empty_pb2.Empty:
        """Notes when and how the person of a session showed again who they are."""
        await self._sign_ins.reauthenticate(
            uuid.UUID(request.subject), uuid.UUID(request.session), request.auth_time.ToDatetime(UTC), request.amr
        )
        return empty_pb2.Empty()

    async def SetSubjectGrants(
        self, request: token_issuer_pb2.SetSubjectGrantsRequest, context: Context
    ) -> empty_pb2.Empty:
        """Takes over roles and status."""
        await self._subjects.set_grants(uuid.UUID(request.subject), request.roles, request.disabled, request.version)
        return empty_pb2.Empty()

    async def RevokeSubject(self, request: token_issuer_pb2.RevokeSubjectRequest, context: Context) -> empty_pb2.Empty:
        """Ends everything of a person."""
        keep = uuid.UUID(request.keep_session) if request.keep_session else None
        await self._subjects.revoke(uuid.UUID(request.subject), uuid.UUID(request.request_id), keep=keep)
        return empty_pb2.Empty()

    async def DeleteSubject(self, request: token_issuer_pb2.DeleteSubjectRequest, context: Context) -> empty_pb2.Empty:
        """Ends everything of a person for good."""
        await self._subjects.delete(uuid.UUID(request.subject))
        return empty_pb2.Empty()

    async def ExportSubject(
        self, request: export_pb2.ExportSubjectRequest, context: Context
    ) -> AsyncIterator[export_pb2.ExportedItem]:
        """What Token holds of a person."""
        async for item in self._export.items(uuid.UUID(request.subject)):
            yield item

    async def GetRevocationSnapshot(
        self, request: token_issuer_pb2.GetRevocationSnapshotRequest, context: Context
    ) -> AsyncIterator[token_issuer_pb2.GetRevocationSnapshotResponse]:
        """Everything that is revoked. An empty log is one message without entries."""
        async with aclosing(self._log.snapshot(self._clock())) as pieces:
            async for piece in pieces:
                yield token_issuer_pb2.GetRevocationSnapshotResponse(
                    epoch=piece.epoch,
                    sequence=piece.sequence,
                    revocations=[_message(revocation) for revocation in piece.revocations],
                )


def _current(claims: Claims) -> uuid.UUID | None:
    return uuid.UUID(claims.session) if claims.session else None


def _json(content: Mapping[str, Any]) -> httpbody_pb2.HttpBody:
    return httpbody_pb2.HttpBody(content_type="application/json", data=json.dumps(content).encode())


def _message(revocation: Revocation) -> token_issuer_pb2.Revocation:
    return token_issuer_pb2.Revocation(
        sequence=revocation.sequence,
        kind=token_issuer_pb2.Revocation.Kind.ValueType(revocation.kind),
        value=revocation.value,
        not_before=revocation.not_before,
        expire_time=revocation.expires_at,
    )
