"""Logs: one JSON line each, relay's and libraries', without anything that an exception may have carried along."""

import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator

import pytest

from relay.errors import Unavailable
from relay.log import configure, guard, logger

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


def without_pytest() -> None:
    """Take away pytest's own way of keeping logs: it cannot stand a text that does not fit its arguments."""
    root = logging.getLogger()
    root.handlers[:] = [handler for handler in root.handlers if type(handler).__module__ == "relay.log"]


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


@pytest.mark.parametrize(
    ("text", "args", "told"),
    [
        ("Executing %s took %.3f seconds", (f"<Task result='{ADDRESS}'>", 0.1234), "Executing … took 0.123 seconds"),
        ("%r connected to %s:%r", ("transport", ADDRESS, 5432), "… connected to …:5432"),
        (f"Exception in callback send('{ADDRESS}') at x.py:1", (), "Exception in callback send"),
        ("Web-handler got %r instead", (ADDRESS.encode(),), "Web-handler got … instead"),
        ("failed with %(what)s, %(number)d", ({"what": ADDRESS, "number": 1},), "failed with …, 1"),
        ("%d rows", (ADDRESS,), ""),
        ("at %s (%s)", (ADDRESS, 1), "at"),
        ("100 % of it", (), "100 % of it"),
        (ValueError(ADDRESS), (), None),
        ("", (ADDRESS,), ""),
    ],
)
def test_libraries_values_are_not_told(
    capsys: pytest.CaptureFixture[str], text: object, args: tuple[object, ...], told: str | None
) -> None:
    """Of what a library puts into a text only numbers are told: a repr of asyncio's shows results, rows among them."""
    without_pytest()
    logging.getLogger("asyncio").warning(text, *args)
    (line,) = lines(capsys)
    assert ADDRESS not in json.dumps(line)
    assert told is None or line["event"] == told


class Unspeakable:
    """Something that cannot be written into a line."""

    def __repr__(self) -> str:
        raise ValueError(ADDRESS)


def test_a_line_that_cannot_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    """It is told that there was one, and by whom, and not what it held."""
    without_pytest()
    log.warning("told", what=Unspeakable(), address=ADDRESS)
    (line,) = lines(capsys)
    assert line == {"level": "error", "logger": "relay.test", "event": "log_failed", "exception": "ValueError"}


def test_what_python_would_print_is_logged(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that nobody caught, in a thread too, and a warning are lines like all others, without values."""
    for owner, name in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    guard()
    try:
        fail(ADDRESS)
    except ValueError as error:
        sys.excepthook(ValueError, error, error.__traceback__)
    thread = threading.Thread(target=fail, args=(ADDRESS,), name=ADDRESS)
    thread.start()
    thread.join()
    warnings.showwarning(UserWarning(f"expected a number, got {ADDRESS}"), UserWarning, "model.py", 7)
    told = lines(capsys)
    assert [line["event"] for line in told] == ["crashed", "thread_crashed", "python_warning"]
    assert all("in fail" in str(line["exception"]) for line in told[:2])
    assert (told[2]["category"], told[2]["where"]) == ("UserWarning", "model.py:7")
    assert ADDRESS not in json.dumps(told)


def test_configuring_again_replaces_the_level(capsys: pytest.CaptureFixture[str]) -> None:
    """A second call changes the level and does not double the lines."""
    configure("warning")
    log.info("never_seen")
    log.warning("seen")
    assert [line["event"] for line in lines(capsys)] == ["seen"]
