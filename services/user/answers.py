"""What User answers with."""

from authmesh.user.v1 import user_service_pb2

from services.user.profile import User


def user_message(user: User) -> user_service_pb2.User:
    """A profile, as its owner and administrators see it."""
    message = user_service_pb2.User(
        name=user.name,
        email=user.email,
        display_name=user.display_name,
        roles=user.roles,
        disabled=user.disabled,
        etag=user.etag,
    )
    message.create_time.FromDatetime(user.create_time)
    message.update_time.FromDatetime(user.update_time)
    return message
