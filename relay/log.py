"""Logs: one JSON line to standard error for each decision, relay's own and those of the libraries alike.

A line holds `timestamp` (UTC), `level`, `logger`, `event` and the fields that the caller gave. Callers pass names,
numbers and states, never what belongs to a customer. An exception is told without local variables, and without its
message unless that is known to hold no data: Postgres and parsers like to quote the value that they choke on.

The same holds for what libraries log: of the values that they put into their texts only numbers are told, because a
task's repr shows the task's result, and a result can be a row. `guard` does it for what Python itself would print.
"""

import json
import logging
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, WrappedLogger

_FIRST = ("timestamp", "level", "logger", "event")
_SAFE = ("relay.errors",)
"""Modules whose exceptions promise to hold no values. Operating system errors are safe as well: a number and a path."""


def _message(error: BaseException | None) -> str:
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


_QUOTED = re.compile(r"""[\n<\[{'"]|(?<!%)\(""")
"""Where a library's text may begin to quote: asyncio puts the repr of a callback into line 1, a failed task's below."""


class _Untold:
    """Stands in a library's text for a value that is not told."""

    def __repr__(self) -> str:
        return "…"


_UNTOLD = _Untold()


def _without_values(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Tell a library's text without the values in it, other than numbers."""
    given = event["_record"].msg
    text = _QUOTED.split(given, maxsplit=1)[0].rstrip() if isinstance(given, str) else repr(_UNTOLD)
    args = event.pop("positional_args", None)
    if args:
        try:
            text = text % _numbers_of(args)
        except (TypeError, ValueError, KeyError):  # cut in the middle of its arguments, or %d of what is no number
            text = text.partition("%")[0].rstrip()
    event["event"] = text
    return event


def _numbers_of(args: object) -> object:
    if isinstance(args, Mapping):
        return {key: _numbers_of(arg) for key, arg in args.items()}
    if isinstance(args, tuple):
        return tuple(_numbers_of(arg) for arg in args)
    return args if isinstance(args, int | float) else _UNTOLD


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

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - as logging calls it
        """Say that a line could not be written, and whose, instead of printing what it would have held."""
        told = {
            "level": "error",
            "logger": record.name,
            "event": "log_failed",
            "exception": _message(sys.exc_info()[1]),
        }
        with suppress(OSError, ValueError):  # standard error is closed
            self.stream.write(json.dumps(told) + "\n")


def configure(level: str) -> None:
    """Send all logs of this process from `level` ("debug", "info", "warning", "error") up to standard error.

    May be called again to change the level. aiohttp's access log is off: it would tell paths and remote addresses.
    """
    handler = _Stderr()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            use_get_message=False,
            pass_foreign_args=True,
            foreign_pre_chain=[*_SHARED, _without_values],
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


def guard() -> None:
    """Log what Python itself would print of this process: exceptions that nobody caught, and warnings."""
    sys.excepthook = lambda kind, error, trace: logger(__name__).critical("crashed", exc_info=(kind, error, trace))
    sys.unraisablehook = lambda failed: logger(__name__).error("unraisable", exc_info=failed.exc_value)
    threading.excepthook = lambda failed: logger(__name__).error("thread_crashed", exc_info=failed.exc_value)
    warnings.showwarning = _tell_warning


def _tell_warning(
    message: Warning | str,  # noqa: ARG001 - pydantic's repeat values
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001 - as Python calls it
    line: str | None = None,  # noqa: ARG001 - as Python calls it
) -> None:
    logger(__name__).warning("python_warning", category=category.__qualname__, where=f"{filename}:{lineno}")


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module; `name` is its `__name__`."""
    bound: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return bound
