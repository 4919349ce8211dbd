"""The catalogue of events says what each may tell, and nothing else is written."""

import pytest
from authmesh.audit.v1.audit_event_pb2 import AuditEvent

from mesh.model.event_types import DETAILS, EVENT_TYPES, LEFT_OUT
from mesh.outbox.outbox import Outbox


def test_the_details_of_an_event_stand_beside_its_type() -> None:
    assert DETAILS["token.revoked"] == {"cause", LEFT_OUT}
    assert DETAILS["token.refreshed"] == {LEFT_OUT}
    assert "token.issued" in EVENT_TYPES


def test_an_event_with_an_unlisted_detail_is_not_written() -> None:
    outbox = Outbox("token")
    assert outbox.event(AuditEvent(type="token.revoked", detail={"cause": "sign_out"})).source == "token"
    with pytest.raises(ValueError, match=r"token\.revoked lists no detail email"):
        outbox.event(AuditEvent(type="token.revoked", detail={"cause": "sign_out", "email": "ada@example.org"}))
    with pytest.raises(ValueError, match="not an event of the catalogue"):
        outbox.event(AuditEvent(type="token.sold"))
