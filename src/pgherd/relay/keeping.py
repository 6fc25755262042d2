"""The proxy's listening sockets, kept by the supervisor while one proxy follows another.

Theory of operation. A proxy that listens sends its sockets to its supervisor (SCM_RIGHTS), with the
places they are bound to; every proxy that is started inherits them. So a place is listened to as
long as the node runs: whoever connects while no proxy does waits in the kernel's queue, be the last
one replaced, dead, or killed. A proxy that begins to leave says so, after it has closed its own
sockets, and its successor is started at once.

    proxy -> supervisor    "=host:port,host:port" with one socket for each: these, in place of all
                           "-pid": this one leaves
    supervisor -> proxy    its environment: SOCKETS, the channel; LISTENING, "fd=host:port,..."

Owns both ends. A bare interpreter runs the supervisor's: this module imports next to nothing.
"""

from __future__ import annotations

import _socket
import os
from collections.abc import Iterable

SOCKETS = "PGHERD_SOCKETS"
LISTENING = "PGHERD_LISTENING"
KEPT_MAX = 64
"""Sockets of one proxy; the kernel passes 253 at once (SCM_MAX_FD)."""
_TEXT_BYTES_MAX = 16 * 1024
_FD_BYTES = 4

Place = tuple[str, int]


class Keeper:
    """The supervisor's end."""

    def __init__(self) -> None:
        self._ours, self._theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_DGRAM)
        self._ours.setblocking(False)
        self._kept: list[tuple[int, str]] = []

    def fileno(self) -> int:
        """Readable when a proxy has said something."""
        return self._ours.fileno()

    def hear(self) -> int | None:
        """Take one message; the process id of a proxy that leaves."""
        try:
            data, parts, _, _ = self._ours.recvmsg(
                _TEXT_BYTES_MAX, _socket.CMSG_SPACE(KEPT_MAX * _FD_BYTES)
            )
        except BlockingIOError:
            return None
        found = [fd for _, _, packed in parts for fd in _unpacked(packed)]
        text = data.decode("ascii", "replace")
        if text.startswith("="):
            self.drop()
            for fd in found:
                os.set_inheritable(fd, False)
            self._kept = list(zip(found, text[1:].split(","), strict=False))
        return int(text[1:]) if text.startswith("-") and text[1:].isdigit() else None

    def open_for_child(self) -> dict[str, str]:
        """Let the next child inherit everything; the environment that tells it so."""
        self._inherit(True)
        listening = ",".join(f"{fd}={place}" for fd, place in self._kept)
        return {**os.environ, SOCKETS: str(self._theirs.fileno()), LISTENING: listening}

    def close_to_others(self) -> None:
        """Let no other child inherit anything: it would hold the ports."""
        self._inherit(False)

    def drop(self) -> None:
        """Keep nothing any more: from now on clients are refused where no proxy listens."""
        for fd, _ in self._kept:
            os.close(fd)
        self._kept.clear()

    def _inherit(self, inheritable: bool) -> None:
        for fd in (self._theirs.fileno(), *(fd for fd, _ in self._kept)):
            os.set_inheritable(fd, inheritable)


def inherited() -> dict[Place, list[int]]:
    """A proxy's inheritance: listening sockets by place. To be asked once."""
    found: dict[Place, list[int]] = {}
    for entry in filter(None, os.environ.pop(LISTENING, "").split(",")):
        fd, _, text = entry.partition("=")
        host, _, port = text.rpartition(":")
        os.set_inheritable(int(fd), False)
        found.setdefault((host, int(port)), []).append(int(fd))
    return found


def hand_in(sockets: Iterable[tuple[Place, int]]) -> None:
    """Let the supervisor keep these sockets, in place of all it has. Nothing without one."""
    given = list(sockets)
    assert len(given) <= KEPT_MAX, len(given)
    places = ",".join(f"{host}:{port}" for (host, port), _ in given)
    packed = b"".join(fd.to_bytes(_FD_BYTES, "little") for _, fd in given)
    _say(f"={places}", [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)] if given else [])


def leave() -> None:
    """Tell the supervisor that this process takes no more clients."""
    _say(f"-{os.getpid()}", [])


def _say(text: str, parts: list[tuple[int, int, bytes]]) -> None:
    number = os.environ.get(SOCKETS)
    if number is None:
        return
    channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM, 0, os.dup(int(number)))
    try:
        channel.sendmsg([text.encode()], parts)
    except OSError:
        pass  # the supervisor is gone, and this process with it soon
    finally:
        channel.close()


def _unpacked(packed: bytes) -> list[int]:
    whole = range(0, len(packed) - len(packed) % _FD_BYTES, _FD_BYTES)
    return [int.from_bytes(packed[at : at + _FD_BYTES], "little") for at in whole]
