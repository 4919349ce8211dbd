"""Passkeys, on a real database, with an authenticator in software."""

import asyncio
import json
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from authmesh.token.v1 import token_set_pb2
from fido2.utils import websafe_decode

from mesh.errors import (
    AlreadyExists,
    InvalidArgument,
    MeshError,
    NotFound,
    Reason,
    ResourceExhausted,
    Unauthenticated,
    Unimplemented,
)
from mesh.ids import uuid7
from services.auth import throttle
from services.auth.passkeys.ceremony import LIFETIME
from services.auth.passkeys.passkeys import MOST, PasskeyRegistry
from services.auth.passkeys.relying_party import RelyingParty
from services.auth.passkeys.sign_in import PasskeyAuthenticator
from services.auth.passkeys.store import Passkey
from services.auth.reauthentication import Answer, Caller, Reauthentication
from services.auth.throttle import Throttle
from tests.integration.services.auth.conftest import HOME, Auth, refused
from tests.kit.authenticator import FLAG, SoftwareAuthenticator

ORIGIN = "https://app.example.com"
DEVICE = token_set_pb2.Device(display_name="laptop")


@dataclass
class Person:
    """Somebody who is signed in, and an authenticator of theirs."""

    auth: Auth
    id: uuid.UUID
    session: uuid.UUID
    registry: PasskeyRegistry
    gate: PasskeyAuthenticator
    authenticator: SoftwareAuthenticator

    async def register(self, authenticator: SoftwareAuthenticator | None = None, name: str = "phone") -> Passkey:
        ceremony, options, _ = await self.registry.begin(self.id, self.session)
        response = (authenticator or self.authenticator).create(options)
        return await self.registry.finish(self.id, self.session, ceremony, response, name)

    async def sign_in(self, authenticator: SoftwareAuthenticator | None = None) -> token_set_pb2.TokenSet:
        ceremony, options, _ = await self.gate.begin("demo", DEVICE, ["user:read"])
        used = authenticator or self.authenticator
        used.count += 1
        return await self.gate.finish(ceremony, used.get(options), HOME, "test/1")


@pytest.fixture
async def ada(auth: Auth) -> Person:
    party = RelyingParty("example.com", "authmesh", [ORIGIN])
    registry = PasskeyRegistry(auth.work, party, new_id=uuid7)
    gate = PasskeyAuthenticator(auth.work, party, auth.denials, Throttle(), auth.token.check, auth.gate)
    return Person(auth, await auth.verified(), uuid.uuid4(), registry, gate, SoftwareAuthenticator(ORIGIN))


async def field_refused(action: Any, field: str, reason: Reason = Reason.FIELD_INVALID) -> MeshError:
    return await refused(action, InvalidArgument, reason, field)


async def test_a_passkey_is_registered_and_signs_in(ada: Person) -> None:
    passkey = await ada.register()
    assert (passkey.display_name, passkey.credential.transports, passkey.last_used_time) == (
        "phone",
        ["internal"],
        None,
    )
    tokens = await ada.sign_in()
    assert tokens.access_token
    (order,) = ada.auth.token.orders
    assert (order.subject, order.client_id, list(order.amr)) == (str(ada.id), "demo", ["hwk", "user"])
    assert (order.device, list(order.scopes), order.address) == (DEVICE, ["user:read"], HOME)
    (used,) = await ada.registry.of_user(ada.id)
    assert (used.credential.sign_count, used.last_used_time) == (1, ada.auth.clock.now)
    assert [event.type for event in await ada.auth.events() if "passkey" in event.type] == ["auth.passkey_added"]
    (signed_in,) = await ada.auth.events("auth.signed_in")
    assert signed_in.detail["amr"] == "hwk user"
    assert await ada.auth.kinds() == ["passkey_added"]


async def test_options_ask_for_discoverable_verified_credentials_and_tell_nothing(ada: Person) -> None:
    _, options, _ = await ada.registry.begin(ada.id, ada.session)
    creation = json.loads(options)
    assert creation["authenticatorSelection"]["residentKey"] == "required"
    assert creation["authenticatorSelection"]["userVerification"] == "required"
    assert (creation["rp"], creation["attestation"]) == ({"id": "example.com", "name": "authmesh"}, "none")
    assert ada.id.hex not in options
    assert str(ada.id) not in options
    _, options, _ = await ada.gate.begin("demo", DEVICE, [])
    request = json.loads(options)
    assert not request.get("allowCredentials")
    assert (request["rpId"], request["userVerification"]) == ("example.com", "required")


async def test_one_person_has_one_handle_and_an_authenticator_one_passkey(ada: Person) -> None:
    first = await ada.register()
    ceremony, options, _ = await ada.registry.begin(ada.id, ada.session)
    assert [item["id"] for item in json.loads(options)["excludeCredentials"]]
    again = ada.registry.finish(ada.id, ada.session, ceremony, ada.authenticator.create(options), "again")
    await refused(again, AlreadyExists, Reason.PASSKEY_ALREADY_EXISTS)
    second = await ada.register(SoftwareAuthenticator(ORIGIN))
    assert first.user_handle == second.user_handle


async def test_a_synced_passkey_says_so(ada: Person) -> None:
    synced = SoftwareAuthenticator(ORIGIN, flags=FLAG.UP | FLAG.UV | FLAG.BE | FLAG.BS)
    assert (await ada.register(synced)).credential.backup_eligible
    await ada.sign_in(synced)
    assert list(ada.auth.token.orders[-1].amr) == ["swk", "user"]
    synced.flags = FLAG.UP | FLAG.UV
    await field_refused(ada.sign_in(synced), "credential")


FAULTS: dict[str, Callable[[SoftwareAuthenticator], None]] = {
    "origin": lambda one: setattr(one, "origin", "https://evil.example.com"),
    "plain origin": lambda one: setattr(one, "origin", "http://app.example.com"),
    "party": lambda one: setattr(one, "rp_id", "example.org"),
    "challenge": lambda one: setattr(one, "challenge", secrets.token_bytes(32)),
    "foreign frame": lambda one: setattr(one, "cross_origin", True),
    "no user verification": lambda one: setattr(one, "flags", FLAG.UP),
    "no user presence": lambda one: setattr(one, "flags", FLAG.UV),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_a_response_of_another_ceremony_is_refused(
    ada: Person, fault: Callable[[SoftwareAuthenticator], None]
) -> None:
    wrong = SoftwareAuthenticator(ORIGIN)
    fault(wrong)
    await field_refused(ada.register(wrong), "credential")
    assert await ada.registry.of_user(ada.id) == []
    await ada.register()
    fault(ada.authenticator)
    await field_refused(ada.sign_in(), "credential")
    assert ada.auth.token.orders == []
    (event,) = await ada.auth.events("auth.passkey_refused")
    assert event.subject == f"users/{ada.id}"


async def test_another_key_or_handle_does_not_sign_in(ada: Person) -> None:
    await ada.register()
    forged = SoftwareAuthenticator(
        ORIGIN, credential_id=ada.authenticator.credential_id, user_handle=ada.authenticator.user_handle
    )
    await field_refused(ada.sign_in(forged), "credential")
    ada.authenticator.user_handle = secrets.token_bytes(32)
    await refused(ada.sign_in(), Unauthenticated, Reason.CREDENTIALS_INVALID)
    stranger = SoftwareAuthenticator(ORIGIN, user_handle=secrets.token_bytes(32))
    await refused(ada.sign_in(stranger), Unauthenticated, Reason.CREDENTIALS_INVALID)


async def test_a_ceremony_is_finished_once_in_its_session_and_time(ada: Person) -> None:
    ceremony, options, expire_time = await ada.registry.begin(ada.id, ada.session)
    assert expire_time == ada.auth.clock.now + LIFETIME
    response = ada.authenticator.create(options)
    for session, carried in (
        (uuid.uuid4(), ceremony),
        (ada.session, ceremony[:-2]),
        (ada.session, "x"),
        (ada.session, "ä"),
    ):
        action = ada.registry.finish(ada.id, session, carried, response, "phone")
        await field_refused(action, "ceremony", Reason.CODE_INVALID)
    tries = [ada.registry.finish(ada.id, ada.session, ceremony, response, "phone") for _ in range(10)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(outcome, Passkey) for outcome in outcomes) == 1
    of_sign_in, options, _ = await ada.gate.begin("demo", DEVICE, [])
    await field_refused(
        ada.registry.finish(ada.id, ada.session, of_sign_in, response, "phone"), "ceremony", Reason.CODE_INVALID
    )
    presented = ada.authenticator.get(options)
    signed_in = await asyncio.gather(
        *(ada.gate.finish(of_sign_in, presented, HOME, "test/1") for _ in range(10)), return_exceptions=True
    )
    assert sum(isinstance(outcome, token_set_pb2.TokenSet) for outcome in signed_in) == 1
    assert len(ada.auth.token.orders) == 1
    of_registration, _, _ = await ada.registry.begin(ada.id, ada.session)
    await field_refused(ada.gate.finish(of_registration, presented, HOME, "test/1"), "ceremony", Reason.CODE_INVALID)
    late, options, _ = await ada.gate.begin("demo", DEVICE, [])
    ada.auth.clock.pass_(seconds=LIFETIME.total_seconds())
    await field_refused(
        ada.gate.finish(late, ada.authenticator.get(options), HOME, "test/1"), "ceremony", Reason.CODE_INVALID
    )


async def test_what_is_no_credential_is_refused(ada: Person) -> None:
    await ada.register()
    ceremony, options, _ = await ada.registry.begin(ada.id, ada.session)
    good = SoftwareAuthenticator(ORIGIN).create(options)
    cut = json.loads(good)
    cut["response"]["attestationObject"] = cut["response"]["attestationObject"][:40]
    bad = ["", "{", "[]", "null", '{"response": 1}', '{"response": {}}', "[" * 10_000, json.dumps(cut), good[:-9]]
    sign_in, _, _ = await ada.gate.begin("demo", DEVICE, [])
    for text in bad:
        await field_refused(ada.registry.finish(ada.id, ada.session, ceremony, text, "phone"), "credential")
        await field_refused(ada.gate.finish(sign_in, text, HOME, "test/1"), "credential")
    # None of it has used the ceremony up.
    await ada.registry.finish(ada.id, ada.session, ceremony, good, "phone")


async def test_a_count_that_goes_back_is_told_and_not_refused(ada: Person) -> None:
    await ada.register()
    await ada.sign_in()
    await ada.sign_in()
    ada.authenticator.count = 0
    await ada.sign_in()
    (event,) = await ada.auth.events("auth.passkey_count_regressed")
    assert (event.detail["count_before"], event.detail["count"]) == ("2", "1")
    unaware = SoftwareAuthenticator(ORIGIN)
    await ada.register(unaware)
    for _ in range(2):
        unaware.count = -1
        await ada.sign_in(unaware)
    assert len(await ada.auth.events("auth.passkey_count_regressed")) == 1


async def test_passkeys_are_renamed_and_deleted_by_their_owner(ada: Person) -> None:
    passkey = await ada.register()
    other = await ada.auth.verified("bob@example.com")
    for action in (ada.registry.rename(other, passkey.id, "mine"), ada.registry.delete(other, passkey.id)):
        await refused(action, NotFound, Reason.PASSKEY_NOT_FOUND)
    assert (await ada.registry.rename(ada.id, passkey.id, "tablet")).display_name == "tablet"
    await ada.registry.delete(ada.id, passkey.id)
    await refused(ada.sign_in(), Unauthenticated, Reason.CREDENTIALS_INVALID)
    assert await ada.auth.kinds() == ["passkey_added", "passkey_removed"]


async def test_nobody_has_more_than_some(ada: Person) -> None:
    for _ in range(MOST):
        await ada.register(SoftwareAuthenticator(ORIGIN))
    await refused(ada.register(SoftwareAuthenticator(ORIGIN)), ResourceExhausted, Reason.QUOTA_EXCEEDED)


async def test_a_disabled_account_and_an_erased_one_sign_in_with_nothing(ada: Person) -> None:
    await ada.register()
    await ada.auth.credentials.set_status(ada.id, disabled=True, version=2)
    await refused(ada.sign_in(), Unauthenticated, Reason.CREDENTIALS_INVALID)
    await ada.auth.credentials.delete(ada.id)
    await refused(ada.sign_in(), Unauthenticated, Reason.CREDENTIALS_INVALID)
    assert await ada.auth.database.fetchval("SELECT count(*) FROM passkeys") == 0


async def test_refusals_of_one_network_are_bounded_while_others_sign_in(ada: Person) -> None:
    await ada.register()
    stranger = SoftwareAuthenticator(ORIGIN, user_handle=secrets.token_bytes(32))
    ceremony, options, _ = await ada.gate.begin("demo", DEVICE, [])
    for _ in range(throttle.GUESSES_BY_NETWORK.burst):
        with pytest.raises(Unauthenticated):
            await ada.gate.finish(ceremony, stranger.get(options), "198.51.100.1", "test/1")
    with pytest.raises(ResourceExhausted):
        await ada.gate.finish(ceremony, stranger.get(options), "198.51.100.1", "test/1")
    assert await ada.sign_in()
    # A begun sign-in is no row.
    assert await ada.auth.database.fetchval("SELECT count(*) FROM spent") == 2


async def test_without_a_relying_party_none_are_offered(auth: Auth) -> None:
    registry = PasskeyRegistry(auth.work, None, new_id=uuid7)
    gate = PasskeyAuthenticator(auth.work, None, auth.denials, Throttle(), auth.token.check, auth.gate)
    for action in (
        registry.begin(uuid.uuid4(), uuid.uuid4()),
        registry.finish(uuid.uuid4(), uuid.uuid4(), "x", "x", "x"),
        gate.begin("demo", DEVICE, []),
        gate.finish("x", "x", HOME, ""),
    ):
        await refused(action, Unimplemented, Reason.NOT_IMPLEMENTED)


async def test_a_passkey_answers_who_the_person_of_a_session_is(ada: Person) -> None:
    auth = ada.auth
    reauthentication = Reauthentication(
        auth.work,
        auth.provider,
        Throttle(),
        auth.turns,
        auth.factors,
        auth.mfa,
        ada.gate._party,
        auth.token.reauthenticate,
    )
    caller = Caller(ada.id, ada.session, "demo", HOME)
    assert list((await reauthentication.begin(caller)).methods) == ["password"]
    passkey = await ada.register()
    challenge = await reauthentication.begin(caller)
    assert list(challenge.methods) == ["password", "passkey"]
    options = challenge.passkey_request_options_json
    assert [websafe_decode(item["id"]) for item in json.loads(options)["allowCredentials"]] == [
        passkey.credential.data.credential_id
    ]
    stranger = SoftwareAuthenticator(ORIGIN, user_handle=secrets.token_bytes(32))
    for wrong in (stranger.get(options), "{"):
        await field_refused(
            reauthentication.finish(caller, Answer(challenge.challenge, passkey=wrong)), "passkey_credential_json"
        )
    # One of a sign-in is for another challenge.
    _, of_sign_in, _ = await ada.gate.begin("demo", DEVICE, [])
    await field_refused(
        reauthentication.finish(caller, Answer(challenge.challenge, passkey=ada.authenticator.get(of_sign_in))),
        "passkey_credential_json",
    )
    ada.authenticator.count += 1
    presented = ada.authenticator.get(options)
    tries = [reauthentication.finish(caller, Answer(challenge.challenge, passkey=presented)) for _ in range(2)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert outcomes.count(None) == 1
    (order,) = auth.token.reauthenticated
    assert (order.session, list(order.amr)) == (str(ada.session), ["hwk", "user"])
