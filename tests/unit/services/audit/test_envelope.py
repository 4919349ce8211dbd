import json
from datetime import UTC, date, datetime
from typing import Any

import pytest
from authmesh.audit.v1.audit_event_pb2 import AuditEvent
from google.protobuf import json_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.audit.envelope import EnvelopeError, read
from tests.unit.services.audit.envelopes import envelope, event


def test_an_event_is_read_whole() -> None:
    sent = event(7, actor="users/ada", previous_hash=b"\x00\xff", detail={"k": "v\u2028é"})
    record = read(envelope(sent))
    assert (record.source, record.sequence, record.date) == ("auth", 7, date(2026, 11, 24))
    assert json_format.Parse(record.line, AuditEvent()) == sent
    assert record.line.isascii()
    assert b"\n" not in record.line


def test_the_day_is_the_events_own_in_utc() -> None:
    assert read(envelope(event(1, at=datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)))).date == date(2026, 12, 31)


def test_a_repetition_has_the_same_identity_whatever_its_envelope_and_order_of_members() -> None:
    body = json.loads(envelope(event(7)))
    shuffled = body | {"id": "other", "detail": dict(reversed(body["detail"].items()))}
    assert read(json.dumps(body)).identity == read(json.dumps(shuffled)).identity
    assert read(envelope(event(7))).identity != read(envelope(event(7, actor="users/eve"))).identity


def test_what_a_newer_source_knows_is_kept() -> None:
    body = json.loads(envelope(event(7)))
    body["detail"] |= {"type": "auth.invented", "newMember": {"a": 1}}
    body["detail-type"] = "auth.invented"
    record = read(json.dumps(body))
    assert json.loads(record.line)["newMember"] == {"a": 1}


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "authmesh.token"},
        {"source": "auth"},
        {"source": None},
        {"detail-type": "auth.signed_up"},
        {"detail": None},
        {"detail": []},
        {"detail": "text"},
        {"detail": {}},
        {"detail": {"source": "auth", "type": "auth.signed_in", "sequence": "1"}},
        {"detail": {"source": "auth", "type": "auth.signed_in", "sequence": "0", "eventTime": "2026-11-24T12:00:00Z"}},
        {"detail": {"source": "auth", "type": "auth.signed_in", "sequence": "-1", "eventTime": "2026-11-24T12:00:00Z"}},
        {"detail": {"source": "auth", "type": "auth.signed_in", "sequence": "1" * 30, "eventTime": "2026-11-24T12:00:00Z"}},
        {"detail": {"source": "auth", "type": "auth.signed_in", "sequence": "1", "eventTime": "yesterday"}},
        {"detail": {"source": "auth", "type": "auth.signed_in", "sequence": "1", "eventTime": "2026-11-24T12:00:00Z", "actor": "\ud800"}},
        {
            "source": "authmesh.../../x",
            "detail": {"source": "../../x", "type": "auth.signed_in", "sequence": "1", "eventTime": "2026-11-24T12:00:00Z"},
        },
        {"detail-type": "", "detail": {"source": "auth", "sequence": "1", "eventTime": "2026-11-24T12:00:00Z"}},
    ],
)
def test_a_message_without_a_good_event_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(EnvelopeError):
        read(envelope(event(1), **changes))


@pytest.mark.parametrize("body", ["", "{", "[]", "null", "5", '"text"', "[" * 100_000, '{"detail": NaN}', '{"detail": {"detail": {"a": ' * 10_000])
def test_what_is_no_envelope_is_refused(body: str) -> None:
    with pytest.raises(EnvelopeError):
        read(body)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


# The first input takes seconds on a machine that is busy.
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.sampled_from([*sorted(AuditEvent.DESCRIPTOR.fields_by_name), "eventTime", "eventId"]), _json))
def test_no_content_makes_anything_but_a_record_or_a_refusal(detail: dict[str, Any]) -> None:
    try:
        record = read(envelope(event(1), detail=detail))
    except EnvelopeError:
        return
    assert record.sequence >= 1


def test_a_number_that_json_has_no_word_for_is_refused() -> None:
    # Python reads it as infinity, and what it would write of that spoils the object for everybody else.
    with pytest.raises(EnvelopeError):
        read(envelope(event(1)).replace('"eventId"', '"newMember": 1e999, "eventId"'))


def test_a_refusal_does_not_repeat_the_content() -> None:
    with pytest.raises(EnvelopeError) as caught:
        read(envelope(event(1), detail={"email": ["ada@example.com"]}))
    assert "ada" not in str(caught.value)
