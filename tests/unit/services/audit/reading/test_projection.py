"""How far a chain is beyond doubt."""

from services.audit.reading.projection import confirmed

A, B, C, D, E, X, Y = (bytes([value]) * 32 for value in range(1, 8))
CHAIN = [(1, b"", A), (2, A, B), (3, B, C), (4, C, D)]


def test_a_chain_reaches_to_its_end() -> None:
    assert confirmed(0, b"", CHAIN) == [A, B, C, D]
    assert confirmed(2, B, CHAIN[2:]) == [C, D]


def test_a_gap_ends_it() -> None:
    assert confirmed(0, b"", [CHAIN[0], CHAIN[1], CHAIN[3]]) == [A, B]
    assert confirmed(0, b"", CHAIN[1:]) == []
    assert confirmed(4, D, []) == []


def test_a_break_ends_it() -> None:
    assert confirmed(0, b"", [CHAIN[0], (2, X, B), CHAIN[2]]) == [A]


def test_what_does_not_link_is_passed_over() -> None:
    assert confirmed(0, b"", [CHAIN[0], (2, X, Y), CHAIN[1], CHAIN[2]]) == [A, B, C]


def test_of_two_that_link_the_next_one_decides() -> None:
    assert confirmed(0, b"", [CHAIN[0], (2, A, X), CHAIN[1]]) == [A]
    assert confirmed(0, b"", [CHAIN[0], (2, A, X), CHAIN[1], CHAIN[2]]) == [A, B, C]
    assert confirmed(0, b"", [CHAIN[0], (2, A, X), CHAIN[1], (3, X, Y), CHAIN[2], CHAIN[3]]) == [A, B, C, D]


def test_a_repetition_is_no_second_form() -> None:
    assert confirmed(0, b"", [CHAIN[0], CHAIN[1], CHAIN[1], CHAIN[2]]) == [A, B, C]
