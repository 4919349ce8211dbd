import gzip
import json
import random
import re
from datetime import timedelta

from services.audit.pipeline.envelope import Record, read
from services.audit.trail.objects import lay_out
from tests.kit.envelopes import NOON, envelope, event


def record(sequence: int, **fields: object) -> Record:
    return read(envelope(event(sequence, **fields)))  # type: ignore[arg-type]


def sequences(body: bytes) -> list[int]:
    return [int(json.loads(line)["sequence"]) for line in gzip.decompress(body).split(b"\n")[:-1]]


def test_events_are_grouped_by_source_and_day_and_sorted() -> None:
    records = [
        record(12),
        record(3),
        record(11, at=NOON + timedelta(days=1)),
        record(5, source="token"),
        record(4),
    ]
    objects = lay_out(records)
    assert [item.key.rpartition("/")[0] for item in objects] == [
        "audit/source=auth/dt=2026-11-24",
        "audit/source=auth/dt=2026-11-25",
        "audit/source=token/dt=2026-11-24",
    ]
    assert [sequences(item.body) for item in objects] == [[3, 4, 12], [11], [5]]
    assert [item.events for item in objects] == [3, 1, 1]
    assert re.fullmatch(r"0000000000000003-0000000000000012-[0-9a-f]{32}\.jsonl\.gz", objects[0].key.rpartition("/")[2])


def test_the_same_events_are_the_same_object_in_any_order_and_however_often() -> None:
    records = [record(number) for number in range(1, 50)]
    [object_] = lay_out(records)
    shuffled = records * 2
    random.shuffle(shuffled)
    assert lay_out(shuffled) == [object_]


def test_other_events_are_another_object() -> None:
    [one], [other] = lay_out([record(1)]), lay_out([record(1, actor="users/eve")])
    assert one.key != other.key


def test_a_forged_event_does_not_displace_the_true_one() -> None:
    [object_] = lay_out([record(1), record(1, actor="users/eve"), record(2)])
    assert sequences(object_.body) == [1, 1, 2]


def test_nothing_is_no_object() -> None:
    assert lay_out([]) == []
