"""A crowd at an API's port: connections that sit there, and some that are slow on purpose.

Owns the connections, until `leave`, and the reading of what they cost: how late the agent's loop
wakes, by its own metrics.
"""

from __future__ import annotations

import http.client
import re
import selectors
import socket
import time

SLOW_REQUEST = b"GET /api/v1/nodes HTTP/1.1\r\nHost: crowd\r\nX-Slow: " + b"x" * 4000


class Crowd:
    """Connections to one port. Linux gives each process 1,024 files unless it is told otherwise."""

    def __init__(self, host: str, port: int) -> None:
        self._where = (host, port)
        self._idle: list[socket.socket] = []
        self._slow: list[tuple[socket.socket, int]] = []

    def come(self, *, idle: int, slow: int) -> None:
        """Connect all of them."""
        self._idle = [socket.create_connection(self._where, timeout=5) for _ in range(idle)]
        self._slow = [(socket.create_connection(self._where, timeout=5), 0) for _ in range(slow)]
        for one in [*self._idle, *(one for one, _ in self._slow)]:
            one.setblocking(False)

    def stay(self, seconds: float, *, letters_per_second: int = 10) -> None:
        """The slow ones send letter by letter; who is cut comes again a second later."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            began = time.monotonic()
            self._slow = [self._drip(*one) for one in self._slow]
            time.sleep(max(0.0, 1 / letters_per_second - (time.monotonic() - began)))

    def left(self) -> int:
        """How many idle ones the other side still keeps."""
        with selectors.DefaultSelector() as selector:
            for one in self._idle:
                selector.register(one, selectors.EVENT_READ)
            return len(self._idle) - len(selector.select(timeout=0))

    def leave(self) -> None:
        """Close everything."""
        for one in [*self._idle, *(one for one, _ in self._slow)]:
            one.close()

    def _drip(self, one: socket.socket, sent: int) -> tuple[socket.socket, int]:
        try:
            one.send(SLOW_REQUEST[sent : sent + 1])
        except BlockingIOError:
            return one, sent
        except OSError:
            one.close()
            again = socket.create_connection(self._where, timeout=5)
            again.setblocking(False)
            return again, 0
        return one, sent + 1


def loop_lags(host: str, port: int) -> dict[float, float]:
    """How often the loop woke at most so late (seconds), since the agent started."""
    text = fetch(host, port, "/metrics")
    found = re.findall(r'^pgherd_loop_lag_seconds_bucket{le="([^"]+)"} (\S+)$', text, re.MULTILINE)
    assert found, "no such metric"
    return {float(limit): float(count) for limit, count in found}


def lag_below(before: dict[float, float], after: dict[float, float], share: float) -> float:
    """The bucket below which this share of the lags between two readings is."""
    counts = {limit: after[limit] - before[limit] for limit in after}
    total = max(counts.values())
    assert total, "the loop was not looked at meanwhile"
    return min(limit for limit, count in counts.items() if count >= share * total)


def fetch(host: str, port: int, path: str) -> str:
    """One answer as text; HTTPException or OSError without one."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read().decode()
    finally:
        connection.close()
    if answer.status != 200:
        raise http.client.HTTPException(f"{path}: {answer.status}")
    return text
