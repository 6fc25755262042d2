"""Ways out for log lines beside files and streams: syslog and systemd's journal, both local.

Owns the form of a message (RFC 3164 as syslog(3) of the C library writes it; the journal's native
protocol) and finding the socket again when its owner was restarted. Called in a writer's thread.
"""

from __future__ import annotations

import socket
import struct

SYSLOG = "/dev/log"
JOURNAL = "/run/systemd/journal/socket"
FACILITY_DAEMON = 3
MESSAGE_BYTES_MAX = 8000
"""rsyslog's limit, less room for the header."""
SEND_S_MAX = 1.0
SEVERITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
NAME = "pgherd"


class Datagrams:
    """A Unix datagram socket, connected when it is needed. A write that fails raises OSError."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._socket: socket.socket | None = None

    def write(self, chunk: bytes) -> None:
        """Send one message; once more over a new socket when the old one's owner is gone."""
        try:
            self._send(chunk)
        except (ConnectionError, FileNotFoundError):
            self.close()
            self._send(chunk)

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, chunk: bytes) -> None:
        if self._socket is None:
            opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            opened.settimeout(SEND_S_MAX)
            try:
                opened.connect(self._path)
            except OSError:
                opened.close()
                raise
            self._socket = opened
        self._socket.send(chunk)


def syslog_message(line: bytes, level: str, *, pid: int) -> bytes:
    """A line for syslog; its own newlines are written as #012, as rsyslog would."""
    head = f"<{FACILITY_DAEMON * 8 + SEVERITIES[level]}>{NAME}[{pid}]: ".encode()
    return head + line.replace(b"\n", b"#012")[:MESSAGE_BYTES_MAX]


def journal_message(line: bytes, level: str, *, pid: int) -> bytes:
    """A line for the journal, in the form that allows newlines in a value."""
    text = line[:MESSAGE_BYTES_MAX]
    fields = f"PRIORITY={SEVERITIES[level]}\nSYSLOG_IDENTIFIER={NAME}\nSYSLOG_PID={pid}\n".encode()
    return fields + b"MESSAGE\n" + struct.pack("<Q", len(text)) + text + b"\n"
