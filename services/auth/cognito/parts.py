"""The adapter, put together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from mesh.aws import open_client
from mesh.outbox.work import Work
from mesh.secrets.source import secret_source
from services.auth.cognito.pool import UserPool
from services.auth.cognito.provider import CognitoIdentityProvider
from services.auth.constant_time import ConstantTime
from services.auth.denials import AnonymousDenials
from services.auth.identities.provider_keys import ProviderKeys
from services.auth.identities.providers import Provider
from services.auth.password_policy import PasswordPolicy
from services.auth.settings import AuthSettings
from services.auth.sign_out import SignOut
from services.auth.throttle import Throttle
from services.auth.turns import Turns


def pool_keys(settings: AuthSettings) -> ProviderKeys:
    """The keys of the user pool. Where Cognito is emulated they are read from the emulator, without TLS."""
    issuer, emulator = issuer_of(settings), settings.aws_endpoint_url
    base = f"{emulator.rstrip('/')}/{settings.cognito_user_pool_id}" if emulator else issuer
    provider = Provider.model_construct(
        issuer=issuer,
        audiences=frozenset({settings.cognito_client_id}),
        jwks_uri=f"{base}/.well-known/jwks.json",
        ca_file=None,
    )
    return ProviderKeys("user_pool", provider)


def issuer_of(settings: AuthSettings) -> str:
    """`iss` of the pool's ID tokens."""
    pool_id = settings.cognito_user_pool_id
    return f"https://cognito-idp.{pool_id.partition('_')[0]}.amazonaws.com/{pool_id}"


@asynccontextmanager
async def open_provider(
    settings: AuthSettings,
    work: Work,
    keys: ProviderKeys,
    policy: PasswordPolicy,
    denials: AnonymousDenials,
    constant_time: ConstantTime,
    throttle: Throttle,
    turns: Turns,
    sign_out: SignOut,
) -> AsyncIterator[CognitoIdentityProvider]:
    """The provider, with connections to the user pool for the length of a block."""
    pool = UserPool(
        partial(open_client, "cognito-idp", settings),
        secret_source(settings.cognito_client_secret),
        pool_id=settings.cognito_user_pool_id,
        client_id=settings.cognito_client_id,
        srp=settings.cognito_auth_flow == "srp",
    )
    async with pool.connected():
        yield CognitoIdentityProvider(
            work,
            pool,
            keys,
            policy,
            denials,
            constant_time,
            throttle,
            turns,
            sign_out,
            issuer=issuer_of(settings),
            client_id=settings.cognito_client_id,
        )
