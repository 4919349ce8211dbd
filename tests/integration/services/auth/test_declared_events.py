"""Each method of Auth that is served leaves exactly the events that the contract declares for it, in the ways in which
it can end."""

import uuid
from collections.abc import Awaitable, Callable

import pyotp
import pytest

from mesh.contract import Contract
from mesh.errors import MeshError, Reason, Unavailable
from services.auth.sign_in import MfaAnswer
from tests.integration.services.auth.conftest import EMAIL, HOME, PASSWORD, Auth

CONTRACT = Contract.load()
AT_FIRST_SIGHT = {"AuthService/SignIn": {"auth.email_verified"}, "AuthService/VerifyMfa": {"auth.email_verified"}}
"""Where Cognito keeps the passwords, a person becomes known by the first sign-in: test_identity_provider.py."""
Act = Callable[[Auth], Awaitable[object]]


async def refused(action: Awaitable[object]) -> None:
    with pytest.raises(MeshError):
        await action


async def nothing(_: Auth) -> None:
    """Nobody is there yet."""


async def signed_up(auth: Auth) -> None:
    await auth.sign_up()


async def verified(auth: Auth) -> None:
    await auth.verified()


async def verifies(auth: Auth) -> None:
    await refused(auth.desk.verify_email(EMAIL, "00000000", HOME))
    await auth.desk.verify_email(EMAIL, await auth.newest_code(), HOME)


async def signs_in(auth: Auth) -> None:
    await auth.sign_in()
    await auth.begin("bob@example.com")
    for _ in range(20):
        await refused(auth.sign_in(password="wrong"))


async def asks_for_a_reset(auth: Auth) -> None:
    await auth.reset_code()


async def resets(auth: Auth) -> None:
    code = await auth.newest_code()
    await refused(auth.passwords.reset(EMAIL, "0" * 16, "another fine password", HOME))
    await auth.passwords.reset(EMAIL, code, "another fine password", HOME)


async def awaits_a_reset(auth: Auth) -> None:
    await auth.verified()
    await auth.reset_code()


async def changes(auth: Auth) -> None:
    user_id = await auth.database.fetchval("SELECT user_id FROM accounts")
    for current in ("wrong", PASSWORD):
        change = auth.passwords.change(
            user_id, current, "another fine password", session=uuid.uuid4(), client_id="demo", address=HOME
        )
        await (change if current == PASSWORD else refused(change))


async def user(auth: Auth) -> uuid.UUID:
    found: uuid.UUID = await auth.database.fetchval("SELECT user_id FROM accounts")
    return found


async def enrolled(auth: Auth, email: str = EMAIL) -> None:
    auth.app = pyotp.parse_uri((await auth.mfa.enroll(await auth.verified(email))).uri)


async def has_an_app(auth: Auth, email: str = EMAIL) -> None:
    await enrolled(auth, email)
    user_id = await auth.database.fetchval("SELECT user_id FROM accounts WHERE email = $1", email)
    auth.recovery_codes = await auth.mfa.confirm(user_id, uuid.uuid4(), auth.app.at(auth.clock.now))
    auth.clock.pass_(seconds=30)


async def confirms(auth: Auth) -> None:
    await refused(auth.mfa.confirm(await user(auth), uuid.uuid4(), "000000"))
    await auth.mfa.confirm(await user(auth), uuid.uuid4(), auth.app.at(auth.clock.now))


async def disables(auth: Auth) -> None:
    await refused(auth.mfa.disable(await user(auth), "000000"))
    await auth.mfa.disable(await user(auth), auth.app.at(auth.clock.now))


async def verified_and_one_has_an_app(auth: Auth) -> None:
    await verified(auth)
    await has_an_app(auth, "bob@example.com")


async def is_challenged(auth: Auth) -> None:
    await has_an_app(auth)
    auth.challenges = [await auth.begin() for _ in range(2)]


async def verifies_mfa(auth: Auth) -> None:
    first, second = (challenge.challenge for challenge in auth.challenges)
    await refused(auth.gate.verify_mfa(MfaAnswer(first, "000000", "", HOME, "")))
    await auth.gate.verify_mfa(MfaAnswer(first, "", auth.recovery_codes[0], HOME, ""))
    auth.token.refusal = Unavailable(Reason.DEPENDENCY_UNAVAILABLE, "unavailable")
    await refused(auth.gate.verify_mfa(MfaAnswer(second, "", auth.recovery_codes[1], HOME, "")))


async def is_disabled(auth: Auth) -> None:
    user_id = await auth.database.fetchval("SELECT user_id FROM accounts")
    await auth.credentials.set_status(user_id, disabled=True, version=7)


async def act_on(auth: Auth, action: Callable[[uuid.UUID], Awaitable[object]]) -> None:
    await action(await user(auth))


async def is_reset(auth: Auth) -> None:
    await auth.mfa.reset(await user(auth), auth.clock.now)


async def is_deleted(auth: Auth) -> None:
    await auth.credentials.delete(await auth.database.fetchval("SELECT user_id FROM accounts"))


@pytest.mark.parametrize(
    ("method", "before", "act"),
    [
        ("AuthService/SignUp", nothing, signed_up),
        ("AuthService/ResendCode", signed_up, lambda auth: auth.desk.resend_code(EMAIL, HOME)),
        ("AuthService/VerifyEmail", signed_up, verifies),
        ("AuthService/SignIn", verified_and_one_has_an_app, signs_in),
        ("AuthService/RequestPasswordReset", verified, asks_for_a_reset),
        ("AuthService/ResetPassword", awaits_a_reset, resets),
        ("AuthService/ChangePassword", verified, changes),
        ("AuthService/VerifyMfa", is_challenged, verifies_mfa),
        ("AuthService/EnrollTotp", verified, lambda auth: act_on(auth, auth.mfa.enroll)),
        ("AuthService/ConfirmTotp", enrolled, confirms),
        ("AuthService/DisableTotp", has_an_app, disables),
        (
            "AuthService/RegenerateRecoveryCodes",
            has_an_app,
            lambda auth: act_on(auth, auth.mfa.regenerate_recovery_codes),
        ),
        ("CredentialDirectory/ResetMfa", has_an_app, is_reset),
        ("CredentialDirectory/SetSubjectStatus", verified, is_disabled),
        ("CredentialDirectory/DeleteSubject", verified, is_deleted),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_method_writes_what_it_declares(auth: Auth, method: str, before: Act, act: Act) -> None:
    await before(auth)
    earlier = len(await auth.events())
    await act(auth)
    written = {event.type for event in (await auth.events())[earlier:]}
    assert written == set(CONTRACT.rpcs[f"/authmesh.auth.v1.{method}"].audit) - AT_FIRST_SIGHT.get(method, set())


async def test_erased_credentials_take_the_key_of_the_persons_audit_data_along(auth: Auth) -> None:
    user_id = await auth.verified()
    await auth.credentials.delete(user_id)
    assert await auth.database.fetchval(
        "SELECT erase_time IS NOT NULL AND key IS NULL FROM subject_keys WHERE subject = $1", f"users/{user_id}"
    )
