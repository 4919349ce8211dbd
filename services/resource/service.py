"""The servicers: they translate between messages and values, and delegate."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from authmesh.export.v1 import export_pb2
from authmesh.resource.v1 import resource_directory_pb2, resource_service_pb2
from authmesh.resource.v1.resource_directory_pb2_grpc import ResourceDirectoryServicer
from authmesh.resource.v1.resource_service_pb2_grpc import ResourceServiceServicer
from google.protobuf import empty_pb2
from grpc import aio

from mesh.resources.pagination import Paging
from mesh.resources.request_id import parse_request_id
from mesh.rpc.caller import caller_user, user_of
from services.resource.answers import resource_message, share_message
from services.resource.erasure import Erasure
from services.resource.export import Export
from services.resource.resource import RESOURCE, Draft, Role
from services.resource.resources import Resources
from services.resource.share import Grantee
from services.resource.share_claims import ShareClaims
from services.resource.sharing import Sharing
from services.resource.watch import Notice, Watch

_FIRST = UUID(int=0)
_LAST = UUID(int=2**128 - 1)

Context = aio.ServicerContext[Any, Any]


class ResourceService(ResourceServiceServicer):
    """`authmesh.resource.v1.ResourceService`."""

    def __init__(self, resources: Resources, sharing: Sharing, watch: Watch) -> None:
        self._resources = resources
        self._sharing = sharing
        self._watch = watch

    async def CreateResource(
        self, request: resource_service_pb2.CreateResourceRequest, context: Context
    ) -> resource_service_pb2.Resource:
        """See the contract."""
        request_id = parse_request_id(request.request_id)
        return resource_message(await self._resources.create(caller_user(), _draft(request.resource), request_id))

    async def GetResource(
        self, request: resource_service_pb2.GetResourceRequest, context: Context
    ) -> resource_service_pb2.Resource:
        """See the contract."""
        return resource_message(await self._resources.get(caller_user(), _id(request.name)))

    async def ListResources(
        self, request: resource_service_pb2.ListResourcesRequest, context: Context
    ) -> resource_service_pb2.ListResourcesResponse:
        """See the contract."""
        caller = caller_user()
        paging = Paging(request, RESOURCE.of(caller), UUID)
        page = await self._resources.page(caller, paging.after or _LAST, paging.size)
        response = resource_service_pb2.ListResourcesResponse(resources=map(resource_message, page.resources))
        if page.more:
            response.next_page_token = paging.token_behind(page.resources[-1].id)
        return response

    async def UpdateResource(
        self, request: resource_service_pb2.UpdateResourceRequest, context: Context
    ) -> resource_service_pb2.Resource:
        """See the contract."""
        given = request.resource
        return resource_message(
            await self._resources.update(
                caller_user(), _id(given.name), _draft(given), request.update_mask.paths, given.etag
            )
        )

    async def DeleteResource(
        self, request: resource_service_pb2.DeleteResourceRequest, context: Context
    ) -> empty_pb2.Empty:
        """See the contract."""
        await self._resources.delete(caller_user(), _id(request.name), request.etag)
        return empty_pb2.Empty()

    async def ShareResource(
        self, request: resource_service_pb2.ShareResourceRequest, context: Context
    ) -> resource_service_pb2.Share:
        """See the contract."""
        caller = caller_user()
        return share_message(
            await self._sharing.share(caller, _id(request.name), _grantee(request, caller), Role(request.role))
        )

    async def ListShares(
        self, request: resource_service_pb2.ListSharesRequest, context: Context
    ) -> resource_service_pb2.ListSharesResponse:
        """See the contract."""
        caller, resource_id = caller_user(), _id(request.name)
        paging = Paging(request, f"shares/{resource_id}/{caller}", UUID)
        found = await self._sharing.page(caller, resource_id, paging.after or _FIRST, paging.size + 1)
        shares, next_page_token = paging.cut(found, lambda share: share.id)
        return resource_service_pb2.ListSharesResponse(
            shares=map(share_message, shares), next_page_token=next_page_token
        )

    async def UnshareResource(
        self, request: resource_service_pb2.UnshareResourceRequest, context: Context
    ) -> empty_pb2.Empty:
        """See the contract."""
        caller = caller_user()
        await self._sharing.unshare(caller, _id(request.name), _grantee(request, caller))
        return empty_pb2.Empty()

    async def WatchResources(
        self, request: resource_service_pb2.WatchResourcesRequest, context: Context
    ) -> AsyncIterator[resource_service_pb2.WatchResourcesResponse]:
        """See the contract."""
        async for notice in self._watch.follow(caller_user(), request.resume_token):
            yield _notice(notice)


class ResourceDirectory(ResourceDirectoryServicer):
    """`authmesh.resource.v1.ResourceDirectory`."""

    def __init__(self, claims: ShareClaims, erasure: Erasure, export: Export) -> None:
        self._claims = claims
        self._erasure = erasure
        self._export = export

    async def ClaimShares(
        self, request: resource_directory_pb2.ClaimSharesRequest, context: Context
    ) -> empty_pb2.Empty:
        """See the contract."""
        await self._claims.claim(UUID(request.user_id), request.email)
        return empty_pb2.Empty()

    async def DeleteSubject(
        self, request: resource_directory_pb2.DeleteSubjectRequest, context: Context
    ) -> empty_pb2.Empty:
        """See the contract."""
        new_owner = UUID(request.new_owner) if request.new_owner else None
        await self._erasure.erase(UUID(request.subject), request.email, new_owner)
        return empty_pb2.Empty()

    async def ExportSubject(
        self, request: export_pb2.ExportSubjectRequest, context: Context
    ) -> AsyncIterator[export_pb2.ExportedItem]:
        """See the contract."""
        async for item in self._export.items(UUID(request.subject), request.email):
            yield item


def _id(name: str) -> UUID:
    return UUID(RESOURCE.id(name))


def _draft(message: resource_service_pb2.Resource) -> Draft:
    return Draft(message.display_name, message.content)


def _grantee(
    request: resource_service_pb2.ShareResourceRequest | resource_service_pb2.UnshareResourceRequest, caller: UUID
) -> Grantee:
    if request.WhichOneof("grantee") == "email":
        return Grantee(email=request.email)
    return Grantee(user=user_of(request.user))


def _notice(notice: Notice) -> resource_service_pb2.WatchResourcesResponse:
    response = resource_service_pb2.WatchResourcesResponse(resume_token=notice.resume_token)
    if notice.change is None:
        response.change = response.CHANGE_HEARTBEAT
        return response
    response.change = response.Change.ValueType(notice.change)
    if notice.resource is not None:
        response.resource.CopyFrom(resource_message(notice.resource))
    else:
        response.resource.name = RESOURCE.of(notice.resource_id)
    return response
