"""Background work that can't go on says so once, and once that it goes on."""

import structlog
import structlog.testing

from mesh.runtime.interruption import PATIENCE_SECONDS, Interruption


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_failing_for_long_is_said_once_and_so_is_its_end() -> None:
    clock = Clock()
    with structlog.testing.capture_logs() as logs:
        interruption = Interruption(structlog.get_logger(), "keys not read", clock=clock)
        for _ in range(100):
            interruption.failed(error="Unavailable")
            clock.now += 1
        interruption.ended()
        interruption.ended()
    assert logs == [
        {"log_level": "warning", "event": "keys not read", "error": "Unavailable"},
        {"log_level": "info", "event": "keys not read: over", "seconds": 100.0},
    ]


def test_what_is_over_soon_is_not_said() -> None:
    clock = Clock()
    with structlog.testing.capture_logs() as logs:
        interruption = Interruption(structlog.get_logger(), "keys not read", clock=clock)
        for _ in range(10):
            interruption.failed()
            clock.now += PATIENCE_SECONDS - 0.1
            interruption.failed()
            interruption.ended()
    assert not logs


def test_the_next_interruption_is_said_again() -> None:
    clock = Clock()
    with structlog.testing.capture_logs() as logs:
        interruption = Interruption(structlog.get_logger(), "keys not read", clock=clock)
        for _ in range(2):
            interruption.failed()
            clock.now += PATIENCE_SECONDS
            interruption.failed()
            interruption.ended()
    assert [line["log_level"] for line in logs] == ["warning", "info"] * 2
