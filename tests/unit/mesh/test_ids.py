import time

from mesh.ids import uuid7


def test_ids_are_version_7_and_sort_by_time() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid7()
    assert made.version == 7
    assert made.variant == "specified in RFC 4122"
    assert before <= made.int >> 80 <= time.time_ns() // 1_000_000


def test_each_id_is_greater_than_the_one_before_even_within_a_millisecond() -> None:
    made = [uuid7() for _ in range(10_000)]
    assert made == sorted(set(made))
