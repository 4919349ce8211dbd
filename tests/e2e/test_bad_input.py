"""Bad input gets the contract's status, reason and shape, with the field named, and writes nothing."""

import uuid
from typing import Any

import pytest

from tests.e2e.conftest import Person, RunningMesh
from tests.e2e.protocols import Answer, Client, GrpcClient, GrpcWebClient, JsonClient, method

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


@pytest.mark.parametrize("payload", [b"\xff\xff\xff\xff", b"\x0a\x05ab", b"\x0a\x02\xc3\x28"], ids=["garbage", "truncated", "invalid-utf8"])
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
async def test_broken_json_is_invalid_argument_in_the_contracts_shape(json_client: JsonClient, body: str | bytes) -> None:
    answer = await json_client.send("POST", "/v1/auth:signUp", body)
    assert answer.outcome == INVALID
    assert_clean(answer)


async def test_an_unknown_query_parameter_is_refused(json_client: JsonClient, person: Person) -> None:
    answer = await json_client.send("GET", "/v1/resources?no_such=1", token=person.token)
    assert answer.outcome == INVALID


async def test_an_unknown_path_is_answered_in_the_contracts_shape(json_client: JsonClient, person: Person) -> None:
    answer = await json_client.send("GET", "/v1/nothing/here", token=person.token)
    assert answer.reason == "NOT_IMPLEMENTED"


async def test_a_request_larger_than_any_that_its_method_could_have_is_too_large(client: Client, person: Person) -> None:
    for size in (5_000, 60_000):
        answer = await client.call("AuthService/SignUp", SIGN_UP | {"displayName": "x" * size})
        assert answer.outcome == ("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE")


async def test_a_message_of_5_mb_is_too_large(mesh: RunningMesh, person: Person) -> None:
    client = mesh.clients["grpc"]
    answer = await client.call("ResourceService/CreateResource", {"resource": {"content": "x" * 5_000_000}}, person.token)
    assert answer.outcome == ("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE")
    listed = await client.ok("ResourceService/ListResources", {}, person.token)
    assert not listed.get("resources")


async def test_a_page_token_of_another_list_is_refused(client: Client, person: Person, administrator: Person) -> None:
    for number in range(2):
        await client.ok("ResourceService/CreateResource", {"resource": {"displayName": f"{number}"}}, person.token)
    page = await client.ok("ResourceService/ListResources", {"pageSize": 1}, person.token)
    assert page["nextPageToken"]
    second = await client.ok("ResourceService/ListResources", {"pageSize": 1, "pageToken": page["nextPageToken"]}, person.token)
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
    update = {"resource": {"name": made["name"], "displayName": "two", "etag": made["etag"]}, "updateMask": "displayName"}
    changed = await client.ok("ResourceService/UpdateResource", update, person.token)
    assert (changed["displayName"], changed["etag"] != made["etag"]) == ("two", True)
    stale = await client.call("ResourceService/UpdateResource", update | {"resource": {**update["resource"], "displayName": "three"}}, person.token)  # type: ignore[dict-item]
    assert stale.outcome == ("ABORTED", "ETAG_MISMATCH")
    deleted = await client.call("ResourceService/DeleteResource", {"name": made["name"], "etag": made["etag"]}, person.token)
    assert deleted.outcome == ("ABORTED", "ETAG_MISMATCH")
    assert (await client.ok("ResourceService/GetResource", {"name": made["name"]}, person.token))["displayName"] == "two"


async def test_a_repeated_create_gives_the_same_resource_and_another_body_is_refused(client: Client, person: Person) -> None:
    request = {"resource": {"displayName": "once"}, "requestId": str(uuid.uuid4())}
    first = await client.ok("ResourceService/CreateResource", request, person.token)
    assert (await client.ok("ResourceService/CreateResource", request, person.token))["name"] == first["name"]
    other = await client.call("ResourceService/CreateResource", request | {"resource": {"displayName": "twice"}}, person.token)
    assert other.outcome == ("INVALID_ARGUMENT", "REQUEST_ID_REUSED")
