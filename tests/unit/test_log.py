"""Logs: one JSON line each, relay's and libraries', without anything that an exception may have carried along."""

import json
import logging
from collections.abc import Iterator

import pytest

from relay.errors import Unavailable
from relay.log import configure, logger

ADDRESS = "hanako@example.jp"
log = logger("relay.test")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Leave the root logger as it was found."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    configure("info")
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    """Return what was logged so far; nothing may go to standard output."""
    out, err = capsys.readouterr()
    assert out == ""
    return [json.loads(line) for line in err.splitlines()]


def fail(address: str) -> None:
    """Fail as a parser does, quoting the value."""
    raise ValueError(f"cannot read {address}")


def test_a_decision_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Timestamp, level, logger and event come first, then the fields; lower levels are dropped."""
    log.info("batch_settled", batch=1, state="delivered")
    log.debug("never_seen")
    (line,) = lines(capsys)
    assert list(line) == ["timestamp", "level", "logger", "event", "batch", "state"]
    assert list(line.values())[1:] == ["info", "relay.test", "batch_settled", 1, "delivered"]


def test_exceptions_tell_where_but_not_what(capsys: pytest.CaptureFixture[str]) -> None:
    """A traceback names files, lines and causes, without local variables and without a message that quotes data."""
    try:
        try:
            fail(ADDRESS)
        except ValueError as error:
            raise Unavailable("Postgres does not answer") from error
    except Unavailable:
        log.exception("append_failed")
    (line,) = lines(capsys)
    told = str(line["exception"])
    assert "in fail" in told
    assert "ValueError\n" in told
    assert told.endswith("relay.errors.Unavailable: Postgres does not answer")
    assert ADDRESS not in json.dumps(line)


def test_every_part_of_a_group_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """What failed inside of a TaskGroup is in the log, for each of its tasks."""
    parts = []
    for kind in (ValueError, KeyError):
        try:
            raise kind(ADDRESS)
        except (ValueError, KeyError) as error:
            parts.append(error)
    log.error("round_failed", exc_info=ExceptionGroup(ADDRESS, parts))
    (line,) = lines(capsys)
    assert "part 2 of 2" in str(line["exception"])
    assert "KeyError" in str(line["exception"])
    assert ADDRESS not in json.dumps(line)


def test_operating_system_errors_keep_their_message(capsys: pytest.CaptureFixture[str]) -> None:
    """A number and a path hold no customer's data, and an operator needs them."""
    try:
        open("/no/such/file")  # noqa: PTH123, SIM115 - it fails
    except OSError:
        log.exception("spool_failed")
    (line,) = lines(capsys)
    assert str(line["exception"]).endswith("FileNotFoundError: [Errno 2] No such file or directory: '/no/such/file'")


def test_libraries_log_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    """Libraries' logs are JSON too, cut to their first line, below which asyncio quotes exceptions; no access log."""
    logging.getLogger("asyncio").error("Task exception was never retrieved\nfuture: <Task ValueError('%s')>", ADDRESS)
    logging.getLogger("aiohttp.access").error("GET /v1/webhooks")
    (line,) = lines(capsys)
    assert (line["logger"], line["event"]) == ("asyncio", "Task exception was never retrieved")


def test_configuring_again_replaces_the_level(capsys: pytest.CaptureFixture[str]) -> None:
    """A second call changes the level and does not double the lines."""
    configure("warning")
    log.info("never_seen")
    log.warning("seen")
    assert [line["event"] for line in lines(capsys)] == ["seen"]
