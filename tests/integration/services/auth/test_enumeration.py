"""Nothing that anyone may call tells which addresses have accounts: not the answers, and not their times.

Times are compared by rank (Mann and Whitney): of two kinds of calls in turn, neither comes out ahead.
"""

import itertools
import math
import time
from collections.abc import Callable
from typing import Any

import pytest
from authmesh.auth.v1 import auth_service_pb2
from google.protobuf import descriptor_pb2

from mesh.contract import Contract
from mesh.errors import MeshError
from services.auth.hasher import Hasher
from tests.integration.services.auth.conftest import WEAK, Auth, serving

pytestmark = pytest.mark.slow

CALLS = 60
"""Of each kind."""
ANSWER_SECONDS = 0.03
Z_MOST = 4.5
"""A rank test of equal distributions goes beyond it once in 150,000 times."""

REQUESTS: dict[str, Callable[[str], Any]] = {
    "SignUp": lambda email: auth_service_pb2.SignUpRequest(email=email, password="correct horse battery"),
    "VerifyEmail": lambda email: auth_service_pb2.VerifyEmailRequest(email=email, code="12345678"),
    "ResendCode": lambda email: auth_service_pb2.ResendCodeRequest(email=email),
    "RequestPasswordReset": lambda email: auth_service_pb2.RequestPasswordResetRequest(email=email),
    "ResetPassword": lambda email: auth_service_pb2.ResetPasswordRequest(
        email=email, code="1234567812345678", new_password="a harbour without ships"
    ),
    "SignIn": lambda email: auth_service_pb2.SignInRequest(email=email, password="wrong", client_id="demo"),
}
MESSAGES = {"SignUp": 2 * CALLS, "RequestPasswordReset": CALLS}
"""How many are sent: to an address that is signed up a code, and to one that has an account what it needs."""


def test_every_public_method_with_an_address_is_tried() -> None:
    contract = Contract.load()
    files = descriptor_pb2.FileDescriptorSet.FromString(contract.descriptors).file
    with_address = {
        f"{file.package}.{message.name}"
        for file in files
        for message in file.message_type
        if any(field.name == "email" for field in message.field)
    }
    named = {rpc.name for rpc in contract.rpcs.values() if rpc.kind == "public" and rpc.input_type in with_address}
    assert named == REQUESTS.keys()


@pytest.mark.parametrize("name", REQUESTS)
async def test_answers_and_times_are_the_same_for_every_address(auth: Auth, name: str) -> None:
    auth.use_hasher(Hasher(**WEAK), ANSWER_SECONDS, factor=10_000)
    await auth.database.execute(
        """
        INSERT INTO accounts (user_id, email, password_hash, create_time)
        SELECT uuidv7(), 'known' || number || '@example.com', $2, now() FROM generate_series(0, $1::int) AS number
        """,
        CALLS,
        await auth.hasher.hash_password("correct horse battery"),
    )
    answers: dict[str, set[str]] = {"known": set(), "unknown": set()}
    times: dict[str, list[float]] = {"known": [], "unknown": []}
    async with serving(auth) as service:
        method = getattr(service.auth, name)
        # The first calls of a process are slower.
        for number in range(5):
            await answer(method(REQUESTS[name](f"first{number}@example.com")))
        before = await sent(auth)
        for number, kind in itertools.product(range(CALLS), times):
            request = REQUESTS[name](f"{kind}{number}@example.com")
            started = time.perf_counter()
            said = await answer(method(request))
            times[kind].append(time.perf_counter() - started)
            answers[kind].add(said)
        assert answers["known"] == answers["unknown"]
        assert len(answers["known"]) == 1
        assert await sent(auth) - before == MESSAGES.get(name, 0)
    assert abs(z_of_ranks(times["known"], times["unknown"])) < Z_MOST


async def answer(call: Any) -> str:
    """What a caller sees."""
    try:
        return f"OK {await call}"
    except MeshError as error:
        return f"{type(error).__name__} {error.reason} {error.message} {error.violations}"


async def sent(auth: Auth) -> int:
    return int(await auth.database.fetchval("SELECT count(*) FROM outbox WHERE kind = 'message'"))


def z_of_ranks(these: list[float], those: list[float]) -> float:
    """How many standard deviations the ranks of `these` are from what chance makes of them."""
    ranked = sorted([(value, 0) for value in these] + [(value, 1) for value in those])
    ranks = sum(rank for rank, (_, which) in enumerate(ranked, 1) if which == 0)
    first, second = len(these), len(those)
    expected = first * (first + second + 1) / 2
    return (ranks - expected) / math.sqrt(first * second * (first + second + 1) / 12)


def test_the_test_sees_a_difference() -> None:
    assert abs(z_of_ranks([1 + n / 1000 for n in range(60)], [1.02 + n / 1000 for n in range(60)])) > Z_MOST
