"""Log lines: structlog for us, the standard library's logging for libraries, one form for both.

Owns the processors, the two forms (text for people, JSON for programs) and the way out through a
`LineWriter`, so that a full pipe never stops the loop. Leaves what to say to the rooms:
`log = logs.get("act"); log.info("leader.elected", term=7, rule=203)`.
"""

from __future__ import annotations

import datetime
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pgherd.telemetry.writer import LineWriter, RotatingFile, Stream

if TYPE_CHECKING:
    from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

# structlog takes rich along to colour tracebacks on a terminal: 3 MB that no daemon needs.
_HIDE_RICH = "rich" not in sys.modules
if _HIDE_RICH:
    sys.modules["rich"] = None  # type: ignore[assignment]  # None makes `import rich` fail
import structlog  # noqa: E402 - while rich is hidden

if _HIDE_RICH:
    del sys.modules["rich"]

FILE_BYTES_MAX = 64 << 20
FILES_KEPT_MAX = 5
LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def get(room: str) -> FilteringBoundLogger:
    """The logger of a room."""
    logger: FilteringBoundLogger = structlog.get_logger(room=room)
    return logger


def set_up(
    *, level: str = "info", form: str = "text", file: Path | None = None, node: str = ""
) -> LineWriter:
    """Send all log lines to a file, or to standard error; close the returned writer at the end."""
    if file is not None:
        sink = RotatingFile(file, bytes_max=FILE_BYTES_MAX, kept=FILES_KEPT_MAX)
        writer = LineWriter(sink, name="pgherd-log")
    else:
        writer = LineWriter(Stream(sys.stderr.fileno()), name="pgherd-log")
    render = _as_json if form == "json" else _as_text
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            _Stamp(node),
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=_Factory(writer),
        cache_logger_on_first_use=False,
    )
    _take_library_logs(level=level)
    return writer


def set_level(level: str) -> None:
    """Change the least important line told, without anything else."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]))
    logging.getLogger().setLevel(max(LEVELS[level], logging.INFO))


class _Factory:
    """Makes the objects that structlog hands finished lines to."""

    def __init__(self, writer: LineWriter) -> None:
        self._logger = _Lines(writer)

    def __call__(self, *_: Any) -> _Lines:
        return self._logger


class _Lines:
    """Every level's method puts the line into the queue."""

    def __init__(self, writer: LineWriter) -> None:
        self._writer = writer

    def msg(self, line: bytes) -> None:
        """Hand one finished line on."""
        self._writer.put(line)

    debug = info = warning = warn = error = critical = fatal = exception = log = msg


class _Stamp:
    """Adds time and node."""

    def __init__(self, node: str) -> None:
        self._node = node

    def __call__(self, logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
        event["at"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        if self._node:
            event["node"] = self._node
        return event


def _as_json(logger: WrappedLogger, name: str, event: EventDict) -> bytes:
    head = {key: event.pop(key) for key in ("at", "level", "event") if key in event}
    return msgspec.json.encode({**head, **event}, enc_hook=str)


def _as_text(logger: WrappedLogger, name: str, event: EventDict) -> bytes:
    trace = event.pop("exception", "")
    head = f"{event.pop('at')} {event.pop('level'):<7} {_one_line(event.pop('event'))}"
    fields = " ".join(f"{key}={_quoted(value)}" for key, value in event.items())
    body = "".join(f"\n    {line}" for line in str(trace).splitlines())
    return f"{head} {fields}{body}".encode(errors="backslashreplace")


def _one_line(text: object) -> str:
    return str(text).replace("\n", "\\n").replace("\r", "\\r")


def _quoted(value: object) -> str:
    text = _one_line(value)
    return f'"{text}"' if " " in text or not text else text


def _take_library_logs(*, level: str) -> None:
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    root.addHandler(_Relay())
    root.setLevel(max(LEVELS[level], logging.INFO))


class _Relay(logging.Handler):
    """A library's record, told as one of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        """Hand the record to structlog; never raises."""
        try:
            text = record.getMessage()
            structlog.get_logger(room=record.name).log(
                record.levelno, text, exc_info=record.exc_info or None
            )
        except Exception:  # a log line must never end what it tells about
            self.handleError(record)
