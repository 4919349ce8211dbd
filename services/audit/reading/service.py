"""The servicer: it translates between messages and values, and delegates."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from authmesh.audit.v1 import audit_service_pb2
from authmesh.audit.v1.audit_service_pb2_grpc import AuditServiceServicer
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio

from mesh.errors import field_invalid
from mesh.model.event_types import EVENT_TYPES
from mesh.resources.pagination import Paging
from services.audit.reading.projection import Filters, Projection, Standing
from services.audit.reading.watch import Watch

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_STANDINGS = {standing: audit_service_pb2.Standing.Value(f"STANDING_{standing.name}") for standing in Standing}

Context = aio.ServicerContext[Any, Any]


class AuditService(AuditServiceServicer):
    """`authmesh.audit.v1.AuditService`."""

    def __init__(self, projection: Projection, watch: Watch) -> None:
        self._projection = projection
        self._watch = watch

    async def QueryEvents(
        self, request: audit_service_pb2.QueryEventsRequest, context: Context
    ) -> audit_service_pb2.QueryEventsResponse:
        """See the contract."""
        interval = _time(request, "start_time"), _time(request, "end_time")
        filters = Filters(*interval, request.actor, request.subject, _known_type(request.type), request.show_off_chain)
        paging = Paging(request, f"audit-events/{filters}", _place)
        events, more = await self._projection.page(filters, paging.after, paging.size)
        response = audit_service_pb2.QueryEventsResponse(
            events=[stored.event for stored in events], standings=[_STANDINGS[stored.standing] for stored in events]
        )
        if more:
            last = events[-1]
            response.next_page_token = paging.token_behind(
                f"{(last.time - _EPOCH) // timedelta(microseconds=1)}.{last.position}"
            )
        return response

    async def WatchEvents(
        self, request: audit_service_pb2.WatchEventsRequest, context: Context
    ) -> AsyncIterator[audit_service_pb2.WatchEventsResponse]:
        """See the contract."""
        async for notice in self._watch.follow(
            _known_type(request.type), request.resume_token, off_chain=request.show_off_chain
        ):
            standing = _STANDINGS[notice.stored.standing] if notice.stored else audit_service_pb2.STANDING_UNSPECIFIED
            event = notice.stored.event if notice.stored else None
            yield audit_service_pb2.WatchEventsResponse(
                event=event, resume_token=notice.resume_token, standing=standing
            )


def _known_type(event_type: str) -> str:
    if event_type and event_type not in EVENT_TYPES:
        raise field_invalid("type", "is not an event type of the catalogue")
    return event_type


def _time(request: audit_service_pb2.QueryEventsRequest, field: str) -> datetime | None:
    value: Timestamp = getattr(request, field)
    if not request.HasField(field):  # type: ignore[arg-type]
        return None
    try:
        return value.ToDatetime(UTC)
    except (ValueError, OverflowError):
        raise field_invalid(field, "is not a time between the years 1 and 9999") from None


def _place(key: str) -> tuple[datetime, int]:
    """Time and position in a page token.

    Raises:
        ValueError, OverflowError: it is not a place.
    """
    micros, position = key.split(".")
    if len(position) > 18:
        raise ValueError(position)
    return _EPOCH + timedelta(microseconds=int(micros)), int(position)
