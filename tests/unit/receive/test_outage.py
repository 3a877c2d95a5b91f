"""An outage is told when it begins and when it ends, and between the two now and then."""

import pytest

from relay.receive.outage import TELL_EVERY_S, Outage


class Told:
    """The lines that are told: the event, the reason and the count."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog
        caplog.set_level("INFO")

    def lines(self) -> list[tuple[object, ...]]:
        """Return the lines since the last call."""
        lines = [record.msg for record in self._caplog.records]
        self._caplog.clear()
        assert all(isinstance(line, dict) for line in lines)
        return [(line["event"], line.get("reason"), line["requests"]) for line in lines if isinstance(line, dict)]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    """Catch what is told."""
    return Told(caplog)


def test_an_outage_is_told_at_its_beginning_and_end(told: Told) -> None:
    """The first refusal is told at once, those that follow are counted, and the end is told with their number."""
    outage = Outage(clock=lambda: 5.0)
    for _ in range(1_000):
        outage.note("DiskFullError", 3)
    assert told.lines() == [("append_unavailable", "DiskFullError", 3)]
    outage.over()
    outage.over()
    assert told.lines() == [("append_available", None, 2_997)]


def test_a_long_outage_is_told_again(told: Told) -> None:
    """While it lasts it is told now and then, with all that was refused meanwhile."""
    now_s = 0.0
    outage = Outage(clock=lambda: now_s)
    for second in range(35):
        now_s = float(second)
        outage.note("timeout", 2)
    assert TELL_EVERY_S == 10
    assert told.lines() == [
        ("append_unavailable", "timeout", 2),
        ("append_unavailable", "timeout", 20),
        ("append_unavailable", "timeout", 20),
        ("append_unavailable", "timeout", 20),
    ]


def test_another_reason_is_told_at_once(told: Told) -> None:
    """First the connection breaks, then it is refused: both are told, each once."""
    outage = Outage(clock=lambda: 0.0)
    for _ in range(3):
        outage.note("ConnectionDoesNotExistError", 1)
        outage.note("ConnectionRefusedError", 1)
    assert [reason for _, reason, _ in told.lines()] == ["ConnectionDoesNotExistError", "ConnectionRefusedError"]


def test_what_comes_and_goes_is_no_flood(told: Told) -> None:
    """Appends that fail and succeed in turn are told as one outage until some time has passed."""
    now_s = 0.0
    outage = Outage(clock=lambda: now_s)
    for _ in range(100):
        outage.note("DiskFullError", 1)
        outage.over()
    assert [event for event, *_ in told.lines()] == ["append_unavailable", "append_available"]
    now_s = TELL_EVERY_S
    outage.note("DiskFullError", 1)
    outage.over()
    assert told.lines() == [("append_unavailable", "DiskFullError", 100), ("append_available", None, 0)]


def test_nothing_wrong_is_nothing_told(told: Told) -> None:
    """Appends that succeed are no news."""
    Outage().over()
    assert told.lines() == []
