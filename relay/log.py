"""Logs: one JSON line to standard error for each decision, relay's own and those of the libraries alike.

A line holds `timestamp` (UTC), `level`, `logger`, `event` and the fields that the caller gave. Callers pass names,
numbers and states, never what belongs to a customer. An exception is told without local variables, and without its
message unless that is known to hold no data: Postgres and parsers like to quote the value that they choke on.
"""

import logging
import sys
import traceback
from typing import TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, WrappedLogger

_FIRST = ("timestamp", "level", "logger", "event")
_SAFE = ("relay.errors",)
"""Modules whose exceptions promise to hold no values. Operating system errors are safe as well: a number and a path."""


def _message(error: BaseException) -> str:
    """Say as much of an exception's message as is known to hold no data, with its name in front."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(error, OSError) or kind.__module__ in _SAFE:
        return f"{name}: {error}"
    sqlstate = getattr(error, "sqlstate", None)
    if isinstance(sqlstate, str):
        constraint = getattr(error, "constraint_name", None)
        return f"{name}: {sqlstate} {constraint or ''}".rstrip()
    return name


def _told(error: BaseException, seen: set[int]) -> list[str]:
    seen.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    lines = [] if before is None or id(before) in seen else [*_told(before, seen), "which led to"]
    lines += [frame.rstrip() for frame in traceback.format_tb(error.__traceback__)]
    lines.append(_message(error))
    if isinstance(error, BaseExceptionGroup):
        for number, part in enumerate(error.exceptions, 1):
            lines += [f"part {number} of {len(error.exceptions)}", *_told(part, seen)]
    return lines


def _traceback(exc_info: ExcInfo) -> str:
    return "\n".join(_told(exc_info[1], set()))


def _ordered(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {**{key: event.pop(key) for key in _FIRST if key in event}, **event}


def _first_line(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Cut a library's text: asyncio puts the repr of a failed task, the exception's message too, below line 1."""
    event["event"] = str(event["event"]).partition("\n")[0]
    return event


_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]

# Not left to `configure`: structlog's own defaults print to standard output and show local variables.
structlog.configure(
    processors=[structlog.stdlib.filter_by_level, *_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
    cache_logger_on_first_use=True,
)


class _Stderr(logging.StreamHandler[TextIO]):
    """Write to what `sys.stderr` is now, not to what it was when logging was configured."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, _: TextIO) -> None:
        raise AttributeError("logs go to standard error")


def configure(level: str) -> None:
    """Send all logs of this process from `level` ("debug", "info", "warning", "error") up to standard error.

    May be called again to change the level. aiohttp's access log is off: it would tell paths and remote addresses.
    """
    handler = _Stderr()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_SHARED, _first_line],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.ExceptionRenderer(_traceback),
                _ordered,
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
        )
    )
    root = logging.getLogger()
    for old in [h for h in root.handlers if isinstance(h, _Stderr)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.getLogger("aiohttp.access").disabled = True


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module; `name` is its `__name__`."""
    bound: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return bound
