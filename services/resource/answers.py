"""What Resource answers with."""

from datetime import datetime

from authmesh.resource.v1 import resource_service_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from mesh.resources.name import USER
from services.resource.resource import Resource
from services.resource.share import Share


def resource_message(resource: Resource) -> resource_service_pb2.Resource:
    """A resource, as someone sees it."""
    return resource_service_pb2.Resource(
        name=resource.name,
        display_name=resource.draft.display_name,
        content=resource.draft.content,
        owner=USER.of(resource.owner),
        role=resource_service_pb2.Role.ValueType(resource.role or 0),
        create_time=_timestamp(resource.created_at),
        update_time=_timestamp(resource.updated_at),
        etag=resource.etag,
    )


def share_message(share: Share) -> resource_service_pb2.Share:
    """A share, with the grantee as the owner named them."""
    return resource_service_pb2.Share(
        **({"user": USER.of(share.grantee.user)} if share.grantee.email is None else {"email": share.grantee.email}),
        role=resource_service_pb2.Role.ValueType(share.role),
        create_time=_timestamp(share.created_at),
    )


def _timestamp(moment: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp
