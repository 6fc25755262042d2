"""Proves that both engines see the same in what passes: who listens, and what a COPY waits for."""

from __future__ import annotations

import random
import socket
from typing import Any

import pytest

from pgherd.relay.rest import Rest

READY = b"Z\0\0\0\x05I"
LISTENED = b"C\0\0\0\x0bLISTEN\0"
COPY_IN = b"G\0\0\0\x0b\0\0\x02\0\0\0\0"
BOUND = b"1\0\0\0\x042\0\0\0\x04n\0\0\0\x04"
STREAM = b"W\0\0\0\x03"
DONE, SYNC, ROW = b"c\0\0\0\x04", b"S\0\0\0\x04", b"d\0\0\0\x061\n"
CLIENT, SERVER = False, True

WORDS = {
    CLIENT: (ROW, ROW * 9, DONE, DONE + SYNC, ROW + DONE + b"H\0\0\0\x04" + SYNC, b"Q", DONE[:2]),
    SERVER: (
        *(READY, b"Z", LISTENED + READY, LISTENED, b"C\0\0\0\x0aBEGIN\0" + LISTENED + READY),
        *(COPY_IN, BOUND + COPY_IN, BOUND, COPY_IN[:-1], COPY_IN + READY, b"G", b"1\0\0\0\x04"),
        *(b"W\0\0\0\x07\0\0\0", STREAM, b"W\0\0\0\x04", b"C\0\0\0\x0bUNLISTEN\0" + READY),
    ),
}


class Flow:
    """A flow of the extension, and a session's memory in the event loop, told the same."""

    def __init__(self, pump: Any) -> None:
        self._pump = pump
        self.rest = Rest()
        self._client, outer = socket.socketpair()
        self._server, inner = socket.socketpair()
        self._handle = pump.add(outer.detach(), inner.detach())
        for one in (self._client, self._server):
            one.settimeout(10)

    def say(self, side: bool, data: bytes) -> None:
        """One read of either engine."""
        said, heard = (self._server, self._client) if side else (self._client, self._server)
        said.sendall(data)
        left = len(data)
        while left:
            left -= len(heard.recv(left))
        if side == SERVER:
            self.rest.server(data, is_ready=data[-6:][:1] == b"Z")
        elif self.rest.takes_copy:
            self.rest.client(data)

    def seen(self) -> tuple[bool, bool]:
        """What the extension knows."""
        found = self._pump.look(self._handle)
        return found[6], found[7]

    def end(self) -> None:
        self._client.close()
        self._server.close()


@pytest.fixture
def pump() -> Any:
    module = pytest.importorskip("pgherd.relay._pump", reason="needs the engine in C")
    made = module.Pump(1)
    yield made
    made.close()


@pytest.mark.parametrize("seed", range(20))
def test_the_extension_sees_what_the_event_loop_sees(pump: Any, seed: int) -> None:
    """After every word of stories that nobody would tell."""
    dice = random.Random(seed)
    for _ in range(20):
        flow = Flow(pump)
        told = []
        for _ in range(dice.randrange(1, 12)):
            side = dice.choice((CLIENT, SERVER, SERVER))
            told.append((side, dice.choice(WORDS[side])))
            flow.say(*told[-1])
            assert flow.seen() == (flow.rest.listens, flow.rest.takes_copy), told
        flow.end()


def test_a_copy_ends_and_a_listener_stays_one(pump: Any) -> None:
    """So that the story above is not one of nothing at all."""
    flow = Flow(pump)
    flow.say(SERVER, COPY_IN)
    assert flow.seen() == (False, True)
    flow.say(CLIENT, ROW + DONE[:3])
    flow.say(CLIENT, DONE[3:] + SYNC)
    assert flow.seen() == (False, False)
    flow.say(SERVER, LISTENED + READY)
    flow.say(SERVER, READY)
    assert flow.seen() == (True, False)
    flow.end()
