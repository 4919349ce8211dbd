"""An event has one encoding, whatever a library thinks of maps."""

from authmesh.audit.v1.audit_event_pb2 import OUTCOME_SUCCESS, AuditEvent
from hypothesis import given
from hypothesis import strategies as st

from mesh.audit.canonical import canonical

_names = st.text(st.sampled_from("abä電_"), max_size=4)


def test_a_name_that_another_one_begins_with_comes_behind_it() -> None:
    encoded = canonical(
        AuditEvent(detail={"roles": "1", "version": "2", "": "3", "roles_before": "4"}, sealed=b"s", previous_hash=b"p")
    )
    places = [encoded.index(f"\x12\x01{value}".encode()) for value in "4123"]
    assert places == sorted(places)
    assert encoded.endswith(b"\x9a\x01\x01p\xa2\x01\x01s")


@given(st.dictionaries(_names, st.text(max_size=3)))
def test_it_is_what_the_library_wrote_when_the_first_trails_were(detail: dict[str, str]) -> None:
    # When this fails after an upgrade of protobuf, the library has changed, and `canonical` must not.
    event = AuditEvent(
        event_id="é",
        source="auth",
        sequence=7,
        outcome=OUTCOME_SUCCESS,
        detail=detail,
        previous_hash=bytes(32),
        sealed=b"x",
    )
    event.event_time.FromSeconds(1)
    assert canonical(event) == event.SerializeToString(deterministic=True)
    assert AuditEvent.FromString(canonical(event)) == event


@given(st.permutations(["a", "ab", "abc", "b", "", "電", "電a"]))
def test_the_order_in_which_details_were_set_does_not_matter(names: list[str]) -> None:
    event = AuditEvent()
    for name in names:
        event.detail[name] = name
    assert canonical(event) == canonical(AuditEvent(detail={name: name for name in sorted(names)}))
