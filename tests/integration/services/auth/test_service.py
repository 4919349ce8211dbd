"""The gRPC face of Auth: requests are translated, refusals carry their fields, and what is to come says so."""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
from authmesh.auth.v1 import auth_service_pb2, credential_directory_pb2
from grpc import aio

from mesh.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    MeshError,
    Reason,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from mesh.rpc import refresh_cookie
from services.auth.hasher import Hasher
from tests.integration.services.audit.conftest import until
from tests.integration.services.auth.conftest import Served, serving

if TYPE_CHECKING:
    from .conftest import Auth

EMAIL, PASSWORD = "ada@example.com", "correct horse battery"


@pytest.fixture
async def service(auth: "Auth") -> AsyncIterator[Served]:
    async with serving(auth) as service:
        yield service


async def refused(call: Any, kind: type[MeshError], reason: Reason, *fields: str) -> None:
    with pytest.raises(kind) as refusal:
        await call
    assert refusal.value.reason is reason
    assert {violation.field for violation in refusal.value.violations} == set(fields)


async def test_from_sign_up_to_sign_in(service: Served) -> None:
    request_id = str(uuid.uuid4())
    sign_up = auth_service_pb2.SignUpRequest(email=EMAIL, password=PASSWORD, display_name="Ada", request_id=request_id)
    await service.auth.SignUp(sign_up)
    await service.auth.SignUp(sign_up)
    sign_in = auth_service_pb2.SignInRequest(email=EMAIL, password=PASSWORD, client_id="demo", scopes=["user:read"])
    sign_in.device.instance_id = str(uuid.uuid4())
    await refused(service.auth.SignIn(sign_in), FailedPrecondition, Reason.EMAIL_UNVERIFIED)
    await service.auth.ResendCode(auth_service_pb2.ResendCodeRequest(email=EMAIL))
    code = await service.parts.newest_code()
    await service.auth.VerifyEmail(auth_service_pb2.VerifyEmailRequest(email=EMAIL, code=code))
    nonsense = service.auth.SignIn(sign_in, metadata=((refresh_cookie.ASKED_BY, "Cookie"),))
    await refused(nonsense, InvalidArgument, Reason.FIELD_INVALID, refresh_cookie.ASKED_BY)
    # Before there was a session: the one order is that of the sign-in that works.
    answer = await service.auth.SignIn(sign_in)
    assert answer.tokens.access_token
    (order,) = service.parts.token.orders
    assert order.device == sign_in.device
    await service.credentials.SetSubjectStatus(
        credential_directory_pb2.SetSubjectStatusRequest(subject=order.subject, disabled=True, version=2)
    )
    await refused(service.auth.SignIn(sign_in), Unauthenticated, Reason.CREDENTIALS_INVALID)
    await service.credentials.DeleteSubject(credential_directory_pb2.DeleteSubjectRequest(subject=order.subject))
    await refused(service.auth.SignIn(sign_in), Unauthenticated, Reason.CREDENTIALS_INVALID)


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        ({"email": ""}, Reason.FIELD_INVALID, "email"),
        ({"email": "a" * 1_000_000}, Reason.FIELD_INVALID, "email"),
        ({"email": "ädä@example.com"}, Reason.FIELD_INVALID, "email"),
        ({"password": "1"}, Reason.PASSWORD_INVALID, "password"),
        ({"password": "iloveyou2"}, Reason.PASSWORD_INVALID, "password"),
        ({"display_name": "a\0b"}, Reason.FIELD_INVALID, "display_name"),
        ({"request_id": "1"}, Reason.FIELD_INVALID, "request_id"),
    ],
)
async def test_the_field_at_fault_is_named_and_nothing_is_written(
    service: Served, change: dict[str, str], reason: Reason, field: str
) -> None:
    request = auth_service_pb2.SignUpRequest(**{"email": EMAIL, "password": PASSWORD, "display_name": "Ada"} | change)
    await refused(service.auth.SignUp(request), InvalidArgument, reason, field)
    assert await service.parts.database.fetchval("SELECT count(*) FROM outbox") == 0


async def test_a_deadline_that_ends_behind_a_right_password_leaves_a_trace(service: Served) -> None:
    await service.parts.verified(EMAIL, PASSWORD)
    service.parts.token.may_answer.clear()
    service.parts.token.refusal = Unavailable(Reason.DEPENDENCY_UNAVAILABLE, "gone")
    request = auth_service_pb2.SignInRequest(email=EMAIL, password=PASSWORD, client_id="demo")
    call = service.auth.SignIn(request, timeout=2)
    await service.parts.token.issuing.wait()
    await refused(call, DeadlineExceeded, Reason.DEADLINE)
    service.parts.token.may_answer.set()

    async def written() -> bool:
        return [event.detail["password"] for event in await service.parts.events("auth.sign_in_failed")] == ["right"]

    await until(written)
    assert await service.parts.kinds() == ["sign_in_stopped"]


def from_(address: str) -> aio.Metadata:
    """What the edge's sidecar forwards of a caller."""
    return aio.Metadata(
        ("x-forwarded-client-cert", "URI=spiffe://authmesh/edge"), ("x-envoy-external-address", address)
    )


async def test_people_sign_in_while_many_networks_each_below_its_limit_ask_for_more_than_there_is(auth: "Auth") -> None:
    await auth.verified(EMAIL, PASSWORD)
    auth.use_hasher(Hasher(time_cost=2, memory_kib=19 * 1024, lanes=1, threads=2), waiting=10)
    right = auth_service_pb2.SignInRequest(email=EMAIL, password=PASSWORD, client_id="demo")
    answers: Counter[Reason] = Counter()
    had: set[int] = set()
    people = 0

    async def guess(service: Served, network: int) -> None:
        while people < 5:
            request = auth_service_pb2.SignInRequest(
                email=f"{uuid.uuid4()}@example.com", password="a guess", client_id="demo"
            )
            try:
                await service.auth.SignIn(request, metadata=from_(f"10.0.{network}.1"), timeout=30)
            except MeshError as error:
                answers[error.reason] += 1
                had.update([network] if error.reason is Reason.CREDENTIALS_INVALID else [])
            # Two a second from each: the edge admits that, and the threads do a third of it.
            await asyncio.sleep(0.5)

    async with serving(auth) as service, asyncio.TaskGroup() as attack:
        for network in range(40):
            attack.create_task(guess(service, network))
        while len(had) < 40:
            await asyncio.sleep(0.01)
        for person in range(5):
            assert (
                await service.auth.SignIn(right, metadata=from_(f"192.0.{person}.1"), timeout=30)
            ).tokens.access_token
            people += 1
    # Much of what they asked for was shed, and none of the people.
    assert set(answers) == {Reason.OVERLOADED, Reason.CREDENTIALS_INVALID}
    assert answers[Reason.OVERLOADED] > 40


async def test_a_wrong_code_names_the_code(service: Served) -> None:
    request = auth_service_pb2.VerifyEmailRequest(email="nobody@example.com", code="12345678")
    await refused(service.auth.VerifyEmail(request), InvalidArgument, Reason.CODE_INVALID, "code")


async def test_what_this_deployment_does_not_offer_says_so(service: Served) -> None:
    request = auth_service_pb2.ExchangeTokenRequest(id_token="x", nonce="x", client_id="demo")
    await refused(service.auth.ExchangeToken(request), Unimplemented, Reason.NOT_IMPLEMENTED)
