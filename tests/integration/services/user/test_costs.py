"""What each method of User costs at most: held to the contract, and so to docs/limits.md."""

from collections.abc import Awaitable, Callable
from typing import Any

from authmesh.auth.v1.credential_directory_pb2_grpc import add_CredentialDirectoryServicer_to_server
from authmesh.token.v1.token_issuer_pb2_grpc import add_TokenIssuerServicer_to_server
from authmesh.user.v1 import user_service_pb2
from authmesh.user.v1.user_service_pb2_grpc import UserServiceStub, add_UserServiceServicer_to_server
from google.protobuf.field_mask_pb2 import FieldMask

from services.user.administration import Administration
from services.user.command_pusher import ChannelCourier
from services.user.erasure import Erasure
from services.user.export import Export
from services.user.service import UserService
from tests.integration.services.user.conftest import UserParts
from tests.kit.metering import hold_to_contract, metered
from tests.kit.serving import TrustedCaller, served
from tests.kit.user_backends import Backends

NAME = "é" * 100
User = user_service_pb2.User


async def test_no_method_costs_more_than_the_contract_says(new_database_url: Callable[[str], Awaitable[str]]) -> None:
    async with metered(await new_database_url("services.user")) as (database, meter):
        parts, backends, caller = UserParts(database), Backends(), TrustedCaller()
        caller.scopes |= {"admin:users"}
        elsewhere = [
            (add_TokenIssuerServicer_to_server, backends),
            (add_CredentialDirectoryServicer_to_server, backends),
        ]
        async with served(elsewhere, TrustedCaller()) as egress:
            courier = ChannelCourier(egress, 1)
            administration = Administration(parts.work, courier)
            service: Any = UserService(
                parts.directory, administration, Erasure(parts.work, courier), Export(parts.work, [])
            )
            async with served([(add_UserServiceServicer_to_server, service)], caller) as channel:
                stub: Any = UserServiceStub(channel)
                address = f"{'x' * 50}@{'y' * 60}.example.com"
                people = [f"users/{await parts.new_user(f'{number}{address}', NAME)}" for number in range(210)]
                admins = [
                    f"users/{await parts.new_administrator(f'admin{number}@example.com')}" for number in range(10)
                ]
                caller.subject = people[0].removeprefix("users/")
                await database.execute("ANALYZE")

                def call(method: str, **fields: Any) -> Callable[[], Awaitable[Any]]:
                    request = getattr(user_service_pb2, f"{method}Request")(**fields)
                    return lambda: getattr(stub, method)(request)

                mask = FieldMask(paths=["display_name"])
                calls = {
                    "GetUser": [call("GetUser", name=name) for name in people[:10]],
                    "ListUsers": [call("ListUsers", page_size=200) for _ in range(10)],
                    "UpdateUser": [
                        call("UpdateUser", user=User(name=name, display_name="b"), update_mask=mask)
                        for name in people[:10]
                    ],
                    "SetRoles": [
                        *(call("SetRoles", name=name, roles=["admin"]) for name in people[:5]),
                        *(call("SetRoles", name=name, roles=[]) for name in admins[:5]),
                    ],
                    "DisableUser": [call("DisableUser", name=name) for name in (*people[:5], *admins[5:])],
                    "EnableUser": [call("EnableUser", name=name) for name in people[:5]],
                }
                measured = {name: await meter.measure(each) for name, each in calls.items()}
    hold_to_contract("authmesh.user.v1.UserService", measured)
