"""Sharing, and the stream of changes."""

import asyncio
from collections.abc import AsyncIterator

from grpc import aio

from tests.e2e.conftest import Person, RunningMesh, eventually, sign_up
from tests.kit.protocols import Client, GrpcClient


async def test_a_reader_reads_an_editor_edits_and_only_the_owner_shares(
    mesh: RunningMesh, client: Client, person: Person
) -> None:
    friend = await sign_up(mesh, mesh.clients["grpc"])
    made = await client.ok(
        "ResourceService/CreateResource", {"resource": {"displayName": "plan", "content": "a"}}, person.token
    )
    name = made["name"]
    assert (await client.call("ResourceService/GetResource", {"name": name}, friend.token)).outcome == (
        "NOT_FOUND",
        "RESOURCE_NOT_FOUND",
    )

    await client.ok(
        "ResourceService/ShareResource", {"name": name, "user": friend.name, "role": "ROLE_READER"}, person.token
    )
    assert (await client.ok("ResourceService/GetResource", {"name": name}, friend.token))["role"] == "ROLE_READER"
    edit = {"resource": {"name": name, "content": "b"}, "updateMask": "content"}
    assert (await client.call("ResourceService/UpdateResource", edit, friend.token)).outcome == (
        "PERMISSION_DENIED",
        "ROLE_MISSING",
    )

    await client.ok(
        "ResourceService/ShareResource", {"name": name, "user": friend.name, "role": "ROLE_EDITOR"}, person.token
    )
    assert (await client.ok("ResourceService/UpdateResource", edit, friend.token))["content"] == "b"
    for call, request in (
        ("DeleteResource", {"name": name}),
        ("ListShares", {"name": name}),
        ("ShareResource", {"name": name, "email": "x@example.com", "role": "ROLE_READER"}),
    ):
        assert (await client.call(f"ResourceService/{call}", request, friend.token)).outcome == (
            "PERMISSION_DENIED",
            "ROLE_MISSING",
        )

    await client.ok("ResourceService/UnshareResource", {"name": name, "user": friend.name}, person.token)
    assert (await client.call("ResourceService/GetResource", {"name": name}, friend.token)).outcome == (
        "NOT_FOUND",
        "RESOURCE_NOT_FOUND",
    )


async def test_a_share_waits_for_its_address_to_sign_up(mesh: RunningMesh, client: Client, person: Person) -> None:
    friend = await sign_up(mesh, client, verify=False)
    made = await client.ok("ResourceService/CreateResource", {"resource": {"displayName": "plan"}}, person.token)
    shared = await client.ok(
        "ResourceService/ShareResource",
        {"name": made["name"], "email": friend.email, "role": "ROLE_READER"},
        person.token,
    )
    known = await client.ok(
        "ResourceService/ShareResource",
        {"name": made["name"], "email": person.email, "role": "ROLE_READER"},
        person.token,
    )
    assert shared.keys() == known.keys()

    await client.ok("AuthService/VerifyEmail", {"email": friend.email, "code": await mesh.code(friend.email)})
    signed_in = await client.ok(
        "AuthService/SignIn", {"email": friend.email, "password": friend.password, "clientId": "demo"}
    )

    async def visible() -> bool:
        return (
            await client.call("ResourceService/GetResource", {"name": made["name"]}, signed_in["tokens"]["accessToken"])
        ).status == "OK"

    await eventually(visible)


async def test_a_broken_stream_of_changes_is_resumed_without_a_loss(mesh: RunningMesh, person: Person) -> None:
    client = mesh.clients["grpc"]
    assert isinstance(client, GrpcClient)

    async def change(number: int) -> None:
        await client.ok("ResourceService/CreateResource", {"resource": {"displayName": f"{number}"}}, person.token)

    async with client.stream("ResourceService/WatchResources", {}, person.token) as changes:
        beginning = await anext(changes)
        await change(1)
        async for message in changes:
            if message["change"] == "CHANGE_ADDED":
                break
        assert message["resource"]["displayName"] == "1"
    assert beginning["resumeToken"]
    await change(2)
    await change(3)
    seen: list[str] = []
    async with client.stream(
        "ResourceService/WatchResources", {"resumeToken": message["resumeToken"]}, person.token
    ) as changes:
        async for message in changes:
            if message["change"] == "CHANGE_ADDED":
                seen.append(message["resource"]["displayName"])
            if len(seen) == 2:
                break
    assert seen == ["2", "3"]


async def test_an_open_stream_ends_when_its_session_does(mesh: RunningMesh, person: Person) -> None:
    client = mesh.clients["grpc"]
    assert isinstance(client, GrpcClient)
    async with client.stream("ResourceService/WatchResources", {}, person.token) as changes:
        await anext(changes)
        await client.ok("TokenService/RevokeToken", {"token": person.tokens["refreshToken"]})
        answer = await ended(changes)
    assert answer == "UNAUTHENTICATED"


async def ended(changes: AsyncIterator[object]) -> str:
    """The status that a stream ends with."""
    try:
        async with asyncio.timeout(5):
            async for _ in changes:
                pass
    except aio.AioRpcError as error:
        return error.code().name
    return "OK"
