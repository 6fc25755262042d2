"""Log lines: structlog for us, the standard library's logging for libraries, one form for both.

Owns the processors, the two forms (text for people, JSON for programs) and the ways out, each
through a `LineWriter`, so that a full pipe never stops the loop. Leaves what to say to the rooms:
`log = logs.get("act"); log.info("leader.elected", term=7, rule=203)`.
"""

from __future__ import annotations

import datetime
import logging
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pgherd.telemetry import trace
from pgherd.telemetry.ring import Ring
from pgherd.telemetry.sinks import Datagrams, journal_message, syslog_message
from pgherd.telemetry.writer import LineWriter, MessageWriter, RotatingFile, Sink, Stream

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


class Outputs:
    """Every way out of this process, and the newest lines in memory (`recent`)."""

    def __init__(self) -> None:
        self.recent = Ring()
        self._plain: LineWriter | None = None
        self._framed: list[tuple[LineWriter, Callable[[bytes, str], bytes]]] = []

    def write_to(self, sink: Sink) -> None:
        """Lines go to a file or a stream."""
        self._plain = LineWriter(sink, name="pgherd-log")

    def send_to(self, path: str, form: Callable[..., bytes]) -> None:
        """Lines go to a local socket, each as one message of this form."""
        writer = MessageWriter(Datagrams(path), name="pgherd-log")
        self._framed.append((writer, partial(form, pid=os.getpid())))

    @property
    def dropped(self) -> int:
        """Lines that one of the ways out did not get."""
        plain = self._plain.dropped if self._plain is not None else 0
        return plain + sum(writer.dropped for writer, _ in self._framed)

    def put(self, line: bytes, level: str) -> None:
        """Hand a line on. Never waits."""
        self.recent.add(line)
        if self._plain is not None:
            self._plain.put(line)
        for writer, form in self._framed:
            writer.put(form(line, level))

    def close(self) -> bool:
        """Write what waits; False where one of them did not take it in time."""
        plain = [self._plain] if self._plain is not None else []
        closed = [writer.close() for writer in [*plain, *(one for one, _ in self._framed)]]
        return all(closed)


_outputs = Outputs()


def outputs() -> Outputs:
    """Those that were set up last."""
    return _outputs


def set_up(
    *,
    level: str = "info",
    form: str = "text",
    file: Path | None = None,
    node: str = "",
    syslog: str = "",
    journal: str = "",
    file_bytes_max: int = FILE_BYTES_MAX,
    files_kept: int = FILES_KEPT_MAX,
) -> Outputs:
    """Send all log lines to a file, to sockets of syslog or the journal (their paths), or, where
    none is named, to standard error; close what is returned at the end."""
    global _outputs
    _outputs = out = Outputs()
    if file is not None:
        out.write_to(RotatingFile(file, bytes_max=file_bytes_max, kept=files_kept))
    if syslog:
        out.send_to(syslog, syslog_message)
    if journal:
        out.send_to(journal, journal_message)
    if file is None and not syslog and not journal:
        out.write_to(Stream(sys.stderr.fileno()))
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            _Stamp(node),
            _as_json if form == "json" else _as_text,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=_Factory(out),
        cache_logger_on_first_use=False,
    )
    _take_library_logs(level=level)
    return out


def set_level(level: str) -> None:
    """Change the least important line told, without anything else."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]))
    logging.getLogger().setLevel(max(LEVELS[level], logging.INFO))


class _Factory:
    """Makes the objects that structlog hands finished lines to."""

    def __init__(self, out: Outputs) -> None:
        self._logger = _Lines(out)

    def __call__(self, *_: Any) -> _Lines:
        return self._logger


class _Lines:
    """Every level's method hands the line on."""

    def __init__(self, out: Outputs) -> None:
        self.debug = partial(out.put, level="debug")
        self.info = self.msg = self.log = partial(out.put, level="info")
        self.warning = self.warn = partial(out.put, level="warning")
        self.error = self.exception = partial(out.put, level="error")
        self.critical = self.fatal = partial(out.put, level="critical")


class _Stamp:
    """Adds time, node, and the trace of the request that it is about."""

    def __init__(self, node: str) -> None:
        self._node = node

    def __call__(self, logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
        event["at"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        if self._node:
            event["node"] = self._node
        if (found := trace.current()) is not None:
            event["trace"] = found.id
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
