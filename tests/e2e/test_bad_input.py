"""Bad input gets the contract's status, reason and shape, with the field named, and writes nothing."""

import asyncio
import random
import re
import string
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from mesh.model.mesh import load_mesh
from mesh.rpc.fields import fields_of
from tests.e2e.conftest import Person, RunningMesh
from tests.kit.protocols import CONTRACT, Answer, Client, GrpcClient, GrpcWebClient, JsonClient, method

INVALID = ("INVALID_ARGUMENT", "FIELD_INVALID")
SIGN_UP = {"email": "someone@example.com", "password": "correct horse battery", "displayName": "Ada"}


@pytest.fixture
def json_client(mesh: RunningMesh) -> JsonClient:
    client = mesh.clients["json"]
    assert isinstance(client, JsonClient)
    return client


def assert_clean(answer: Answer) -> None:
    """No trace of our code leaves the process."""
    for leak in ("Traceback", ".py", "asyncpg", "psycopg", "SELECT", "google.protobuf"):
        assert leak not in answer.message


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (SIGN_UP | {"email": ""}, "email"),
        (SIGN_UP | {"email": "no address"}, "email"),
        (SIGN_UP | {"email": "a" * 250 + "@example.com"}, "email"),
        (SIGN_UP | {"email": "a" * 3_000}, "email"),
        (SIGN_UP | {"password": ""}, "password"),
        (SIGN_UP | {"displayName": "x" * 101}, "display_name"),
        (SIGN_UP | {"requestId": "not-a-uuid"}, "request_id"),
    ],
    ids=["empty", "no-address", "long", "longer", "no-password", "long-name", "bad-uuid"],
)
async def test_a_wrong_field_is_named(client: Client, request_: dict[str, Any], field: str) -> None:
    answer = await client.call("AuthService/SignUp", request_)
    assert answer.outcome == INVALID
    assert set(answer.fields) == {field}
    assert_clean(answer)


async def test_names_are_text_of_any_script_and_nothing_that_nobody_sees(client: Client, person: Person) -> None:
    for given, kept in (
        ("\u06a9\u062a\u0627\u0628\u200c\u0647\u0627", None),
        ("👩\u200d💻", None),
        (" Zoe\u0308 ", "Zo\u00eb"),
    ):
        made = await client.ok("ResourceService/CreateResource", {"resource": {"displayName": given}}, person.token)
        assert made["displayName"] == (kept or given)
    for unseen in ("\x1b[31mred", "\u202egnp.exe", "\u2066isolated", "zero\u200bwidth"):
        for name, request, field in (
            ("ResourceService/CreateResource", {"resource": {"displayName": unseen}}, "resource.display_name"),
            ("UserService/UpdateUser", {"user": {"name": "users/me", "displayName": unseen}}, "user.display_name"),
            ("AuthService/SignUp", SIGN_UP | {"displayName": unseen}, "display_name"),
        ):
            answer = await client.call(name, request, person.token)
            assert (answer.outcome, answer.fields) == (INVALID, (field,)), (name, unseen)


async def test_a_code_is_taken_as_it_was_pasted(mesh: RunningMesh, client: Client) -> None:
    email = f"{uuid.uuid4()}@example.com"
    await client.ok("AuthService/SignUp", SIGN_UP | {"email": email})
    code = await mesh.code(email)
    for typed in (code[:7], f"{code}1", "my code"):
        answer = await client.call("AuthService/VerifyEmail", {"email": email, "code": typed})
        assert (answer.outcome, answer.fields) == (("INVALID_ARGUMENT", "CODE_INVALID"), ("code",))
    full_width = code.translate({ord("0") + digit: 0xFF10 + digit for digit in range(10)})
    await client.ok(
        "AuthService/VerifyEmail", {"email": email, "code": f"\ufeff{full_width[:4]}\u00a0{full_width[4:]}\n"}
    )


@pytest.mark.parametrize("local_part", ["a" * 65, "a..b", ".a", "a."])
async def test_an_address_that_no_letter_reaches_is_refused(client: Client, local_part: str) -> None:
    answer = await client.call("AuthService/SignUp", SIGN_UP | {"email": f"{local_part}@example.com"})
    assert (answer.outcome, answer.fields) == (INVALID, ("email",))


@pytest.mark.parametrize("password", ["password", "aaaaaaaaaaaa", "short", "12345678", "x" * 200])
async def test_a_worthless_password_is_refused_by_name(client: Client, password: str) -> None:
    answer = await client.call("AuthService/SignUp", SIGN_UP | {"password": password})
    assert answer.outcome == ("INVALID_ARGUMENT", "PASSWORD_INVALID")
    assert answer.fields == ("password",)


async def test_a_code_for_nobody_is_refused_like_a_wrong_one(client: Client) -> None:
    answer = await client.call("AuthService/VerifyEmail", {"email": f"{uuid.uuid4()}@example.com", "code": "12345678"})
    assert answer.outcome == ("INVALID_ARGUMENT", "CODE_INVALID")


@pytest.mark.parametrize("name", ["resources/nope", "resources/", "resources/../../etc", "users/me"])
async def test_a_bad_resource_name_is_refused(mesh: RunningMesh, person: Person, name: str) -> None:
    for client in (mesh.clients["grpc"], mesh.clients["grpc-web"]):
        answer = await client.call("ResourceService/GetResource", {"name": name}, person.token)
        assert answer.outcome == INVALID
        assert answer.fields == ("name",)


async def test_a_resource_that_is_not_there_is_not_found(client: Client, person: Person) -> None:
    answer = await client.call("ResourceService/GetResource", {"name": f"resources/{uuid.uuid4()}"}, person.token)
    assert answer.outcome == ("NOT_FOUND", "RESOURCE_NOT_FOUND")


@pytest.mark.parametrize(
    "payload", [b"\xff\xff\xff\xff", b"\x0a\x05ab", b"\x0a\x02\xc3\x28"], ids=["garbage", "truncated", "invalid-utf8"]
)
async def test_malformed_protobuf_is_invalid_argument(mesh: RunningMesh, payload: bytes) -> None:
    for client in (mesh.clients["grpc"], mesh.clients["grpc-web"]):
        assert isinstance(client, GrpcClient | GrpcWebClient)
        answer = await client.send(method("AuthService/SignUp"), payload)
        assert answer.outcome == INVALID
        assert_clean(answer)


@pytest.mark.parametrize(
    "body",
    ['{"email": 5}', '{"email": {"a": 1}}', '{"email": "a@example.com"', "nonsense", "[]", b'{"email": "\xc3\x28"}'],
    ids=["wrong-type", "object", "broken", "no-json", "array", "invalid-utf8"],
)
async def test_broken_json_is_invalid_argument_in_the_contracts_shape(
    json_client: JsonClient, body: str | bytes
) -> None:
    answer = await json_client.send("POST", "/v1/auth:signUp", body)
    assert answer.outcome == INVALID
    assert_clean(answer)


@pytest.mark.parametrize("length", [5_000, 20_000])
async def test_a_mask_of_any_length_has_a_short_answer(client: Client, person: Person, length: int) -> None:
    request = {"user": {"name": "users/me", "displayName": "Ada"}, "updateMask": "x" * length}
    answer = await client.call("UserService/UpdateUser", request, person.token)
    assert answer.status in ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"), answer
    assert answer.reason in ("FIELD_INVALID", "MESSAGE_TOO_LARGE"), answer
    assert len(answer.message) < 500


@pytest.mark.parametrize("scopes", [[""] * 900, ["\x1b" * 9] * 60, ["x" * 3_000]], ids=["many", "no text", "long"])
async def test_a_list_out_of_bounds_is_refused_at_once_and_costs_nobody_else_a_call(
    client: Client, scopes: list[str]
) -> None:
    bomb = {"email": "ada@example.com", "password": "p", "clientId": "demo", "scopes": scopes}
    calls = [client.call("AuthService/SignIn", bomb) for _ in range(10)]
    good = [client.call("TokenService/GetJwks", {}) for _ in range(20)]
    answers = await asyncio.gather(*calls, *good)
    assert {answer.outcome for answer in answers[:10]} == {INVALID}
    assert {answer.fields for answer in answers[:10]} == {("scopes",)} or {
        len(answer.fields) for answer in answers[:10]
    } == {5}
    assert {answer.status for answer in answers[10:]} == {"OK"}


def strings(request: str, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The string fields of a request type, by their JSON names."""
    for field in fields_of(CONTRACT.message_type(request).DESCRIPTOR):
        name = field.name.split("_")[0] + "".join(map(str.capitalize, field.name.split("_")[1:]))
        if field.message is not None and field.message.full_name != "google.protobuf.FieldMask":
            yield from strings(field.message.full_name, (*path, name))
        elif field.is_string or field.message is not None:
            yield (*path, name)


async def test_no_answer_repeats_more_than_100_characters_of_a_request(client: Client, administrator: Person) -> None:
    """Of every RPC that the edge opens and every string in its request, also where the string is allowed to be
    longer."""
    opened = {route.match.service_name for route in load_mesh().gateway_routes}
    rpcs = [
        rpc
        for rpc in CONTRACT.rpcs.values()
        if rpc.service in opened and rpc.access.WhichOneof("kind") != "internal" and not rpc.server_streaming
    ]
    assert len(rpcs) > 30
    for rpc in rpcs:
        for path in strings(rpc.input_type):
            for length in (101, 190, 990, 3_000):
                canary = "".join(random.choices(string.ascii_letters, k=length))
                value: Any = canary if path[-1] not in ("scopes", "roles") else [canary]
                request: Any = value
                for name in reversed(path):
                    request = {name: request}
                for name, kind in re.findall(r"{(\w+)(?:\.name)?=(\w+/)", rpc.http[0].template):
                    # JSON has no path without these.
                    resource = request.setdefault(name, {} if f"{{{name}.name" in rpc.http[0].template else f"{kind}me")
                    if isinstance(resource, dict):
                        resource.setdefault("name", f"{kind}me")
                answer = await client.call(f"{rpc.service.rpartition('.')[2]}/{rpc.name}", request, administrator.token)
                said = f"{answer.message} {answer.fields}"
                assert not any(canary[at : at + 101] in said for at in range(length - 100)), (rpc.name, path, answer)


async def test_an_unknown_query_parameter_is_refused(json_client: JsonClient, person: Person) -> None:
    answer = await json_client.send("GET", "/v1/resources?no_such=1", token=person.token)
    assert answer.outcome == INVALID


async def test_an_unknown_path_is_answered_in_the_contracts_shape(json_client: JsonClient, person: Person) -> None:
    answer = await json_client.send("GET", "/v1/nothing/here", token=person.token)
    assert answer.reason == "NOT_IMPLEMENTED"


async def test_a_request_larger_than_any_that_its_method_could_have_is_too_large(
    client: Client, person: Person
) -> None:
    for size in (5_000, 60_000):
        answer = await client.call("AuthService/SignUp", SIGN_UP | {"displayName": "x" * size})
        assert answer.outcome == ("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE")


async def test_a_message_of_5_mb_is_too_large(mesh: RunningMesh, person: Person) -> None:
    client = mesh.clients["grpc"]
    answer = await client.call(
        "ResourceService/CreateResource", {"resource": {"content": "x" * 5_000_000}}, person.token
    )
    assert answer.outcome == ("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE")
    listed = await client.ok("ResourceService/ListResources", {}, person.token)
    assert not listed.get("resources")


async def test_a_page_token_of_another_list_is_refused(client: Client, person: Person, administrator: Person) -> None:
    for number in range(2):
        await client.ok("ResourceService/CreateResource", {"resource": {"displayName": f"{number}"}}, person.token)
    page = await client.ok("ResourceService/ListResources", {"pageSize": 1}, person.token)
    assert page["nextPageToken"]
    second = await client.ok(
        "ResourceService/ListResources", {"pageSize": 1, "pageToken": page["nextPageToken"]}, person.token
    )
    assert [item["displayName"] for item in (*page["resources"], *second["resources"])] == ["1", "0"]
    for name, request, token in (
        ("UserService/ListUsers", {}, administrator.token),
        ("TokenService/ListSessions", {"parent": "users/me"}, person.token),
    ):
        answer = await client.call(name, request | {"pageToken": page["nextPageToken"]}, token)
        assert answer.outcome == INVALID
        assert answer.fields == ("page_token",)
    garbage = await client.call("ResourceService/ListResources", {"pageToken": "garbage"}, person.token)
    assert (garbage.outcome, garbage.fields) == (INVALID, ("page_token",))


async def test_a_stale_etag_changes_nothing(client: Client, person: Person) -> None:
    made = await client.ok("ResourceService/CreateResource", {"resource": {"displayName": "one"}}, person.token)
    update = {
        "resource": {"name": made["name"], "displayName": "two", "etag": made["etag"]},
        "updateMask": "displayName",
    }
    changed = await client.ok("ResourceService/UpdateResource", update, person.token)
    assert (changed["displayName"], changed["etag"] != made["etag"]) == ("two", True)
    stale = await client.call(
        "ResourceService/UpdateResource",
        update | {"resource": {**update["resource"], "displayName": "three"}},  # type: ignore[dict-item]
        person.token,
    )
    assert stale.outcome == ("ABORTED", "ETAG_MISMATCH")
    deleted = await client.call(
        "ResourceService/DeleteResource", {"name": made["name"], "etag": made["etag"]}, person.token
    )
    assert deleted.outcome == ("ABORTED", "ETAG_MISMATCH")
    assert (await client.ok("ResourceService/GetResource", {"name": made["name"]}, person.token))[
        "displayName"
    ] == "two"


async def test_a_repeated_create_gives_the_same_resource_and_another_body_is_refused(
    client: Client, person: Person
) -> None:
    request = {"resource": {"displayName": "once"}, "requestId": str(uuid.uuid4())}
    first = await client.ok("ResourceService/CreateResource", request, person.token)
    assert (await client.ok("ResourceService/CreateResource", request, person.token))["name"] == first["name"]
    other = await client.call(
        "ResourceService/CreateResource", request | {"resource": {"displayName": "twice"}}, person.token
    )
    assert other.outcome == ("INVALID_ARGUMENT", "REQUEST_ID_REUSED")
