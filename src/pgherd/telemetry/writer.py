"""Lines written to a file or a stream by a thread of their own, so that no caller ever waits.

Owns a bounded queue, the thread, rotation by size, and the count of lines that were dropped. Leaves
the form of lines to `journal` and `logs`. A slow disk or a full pipe costs lines, never time.
"""

from __future__ import annotations

import os
import queue
import threading
from pathlib import Path
from typing import BinaryIO, Protocol

LINES_WAITING_MAX = 4096
CLOSE_SECONDS_MAX = 2.0


class Sink(Protocol):
    """Where lines end up; called in the writer's thread only."""

    def write(self, chunk: bytes) -> None:
        """Write whole lines."""

    def close(self) -> None:
        """Let go of the file."""


class LineWriter:
    """A thread in front of a sink. `dropped` counts lines that found the queue full or no sink."""

    def __init__(self, sink: Sink, *, name: str, lines_max: int = LINES_WAITING_MAX) -> None:
        self._sink = sink
        self._lines: queue.Queue[bytes | None] = queue.Queue(maxsize=lines_max)
        self._dropped_full = 0
        self._dropped_failed = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines lost since the start."""
        return self._dropped_full + self._dropped_failed

    def put(self, line: bytes) -> None:
        """Have a line written, in order; a newline is added. Never waits."""
        if self._closing.is_set():
            self._dropped_full += 1
            return
        try:
            self._lines.put_nowait(line + b"\n")
        except queue.Full:
            self._dropped_full += 1

    def close(self, *, seconds_max: float = CLOSE_SECONDS_MAX) -> bool:
        """Write what waits and stop; False when the sink did not take it in time."""
        if not self._closing.is_set():
            self._closing.set()
            try:
                self._lines.put_nowait(None)
            except queue.Full:
                pass  # the thread is at work, and sees _closing once the queue is empty
        self._thread.join(seconds_max)
        return not self._thread.is_alive()

    def _run(self) -> None:
        ended = False
        while not ended:
            lines, ended = self._batch(self._lines.get())
            self._dropped_failed += self._write(lines)
            ended = ended or (self._closing.is_set() and self._lines.empty())
        self._sink.close()

    def _write(self, lines: list[bytes]) -> int:
        """Hand lines to the sink; how many it did not take."""
        try:
            if lines:
                self._sink.write(b"".join(lines))
        except (OSError, ValueError):
            return len(lines)
        return 0

    def _batch(self, first: bytes | None) -> tuple[list[bytes], bool]:
        """All lines that wait now, and whether the end was among them."""
        lines: list[bytes] = []
        item = first
        while item is not None:
            lines.append(item)
            try:
                item = self._lines.get_nowait()
            except queue.Empty:
                return lines, False
        return lines, True


class MessageWriter(LineWriter):
    """The same in front of a sink that takes one message at a time, newlines in it included."""

    def _write(self, lines: list[bytes]) -> int:
        lost = 0
        for line in lines:
            try:
                self._sink.write(line[:-1])
            except (OSError, ValueError):
                lost += 1
        return lost


class RotatingFile:
    """A file that is renamed to `.1`, `.2` ... when it grows past a size; the oldest goes."""

    def __init__(self, path: Path, *, bytes_max: int, kept: int) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._kept = kept
        self._file: BinaryIO | None = None

    def write(self, chunk: bytes) -> None:
        """Append, rotating first when the chunk would not fit."""
        if self._file is None:
            self._file = self._open()
        if self._file.tell() and self._file.tell() + len(chunk) > self._bytes_max:
            self._file = self._rotate(self._file)
        self._file.write(chunk)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> BinaryIO:
        descriptor = os.open(
            self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, mode=0o640
        )
        opened = os.fdopen(descriptor, "wb", buffering=0)
        opened.seek(0, os.SEEK_END)
        return opened

    def _rotate(self, full: BinaryIO) -> BinaryIO:
        full.close()
        self._file = None
        for number in range(self._kept - 1, 0, -1):
            older = self._numbered(number)
            if older.exists():
                older.replace(self._numbered(number + 1))
        if self._kept:
            self._path.replace(self._numbered(1))
        else:
            self._path.unlink()
        return self._open()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


class Stream:
    """A file descriptor that stays open: standard error."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, chunk: bytes) -> None:
        """Write all of it; a pipe that is full makes this thread wait, and nobody else."""
        view = memoryview(chunk)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def close(self) -> None:
        """Leave the descriptor to its owner."""
