"""Attack a `Pump` for a while: `python hostile.py EXTENSION SEED FLOWS pump|uring`.

A process of its own, so that it can run under a sanitizer with an extension that was built for it.
Owns random talk over real sockets (bytes both ways, stopped readers, half-closes, resets) while all
verbs are called at random, for handles that live, that are over and that never were. Ends with an
assertion when bytes were changed, or a socket was not told of once.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import os
import random
import select
import socket
import struct
import sys
import time
from typing import Any

ACTS_EACH = 60
CHUNK_BYTES_MAX = 700_000
QUIET_S = 30.0
RESET = struct.pack("ii", 1, 0)


def load(path: str) -> Any:
    """The extension from that file, whatever its name."""
    loader = importlib.machinery.ExtensionFileLoader("_pump", path)
    spec = importlib.util.spec_from_loader("_pump", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        here = socket.create_connection(door.getsockname())
        there, _ = door.accept()
    return here, there


class End:
    """An outer end of a flow: what it said and what it heard, as digests."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock: socket.socket | None = sock
        sock.setblocking(False)
        self.said, self.heard = hashlib.sha1(), hashlib.sha1()
        self.said_bytes = self.heard_bytes = 0
        self.is_done = False  # has said its end

    def say(self, data: bytes) -> None:
        if self.sock is None or self.is_done:
            return
        try:
            sent = self.sock.send(data)
        except (BlockingIOError, ConnectionError):
            return
        self.said.update(data[:sent])
        self.said_bytes += sent

    def hear(self) -> bool:
        """Take what there is; whether there may be more some time."""
        while self.sock is not None:
            try:
                data = self.sock.recv(1 << 20)
            except BlockingIOError:
                return True
            except ConnectionError:
                return False
            if not data:
                return False
            self.heard.update(data)
            self.heard_bytes += len(data)
        return False

    def half_close(self) -> None:
        if self.sock is not None and not self.is_done:
            self.is_done = True
            try:
                self.sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass

    def close(self, *, reset: bool) -> None:
        if self.sock is not None:
            if reset:
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.sock.close()
            self.sock = None


class Flow:
    """One flow and its outer ends. is_clean: nobody did anything that may lose bytes."""

    def __init__(self, pump: Any) -> None:
        client, inner = pair()
        server, outer = pair()
        self.client, self.server = End(client), End(server)
        self.handle = pump.add(inner.detach(), outer.detach())
        self.is_clean = True
        self.is_halted = False

    def act(self, pump: Any, dice: random.Random) -> None:
        """One thing at random."""
        end = dice.choice((self.client, self.server))
        side = dice.random() < 0.5
        match dice.choices(range(10), (30, 30, 10, 1, 0.4, 0.4, 0.5, 0.5, 0.5, 1))[0]:
            case 0:
                end.say(dice.randbytes(dice.choice((1, 5, 60, 4000, CHUNK_BYTES_MAX))))
            case 1:
                end.hear()
            case 2:
                pump.look(self.handle)
                pump.tcp_info(self.handle, side)
            case 3:
                self.is_halted = not self.is_halted
                pump.halt(self.handle, self.is_halted)
            case 4:
                self.client.half_close()
            case 5:
                end.close(reset=dice.random() < 0.7)
                self.is_clean = False
            case 6:
                pump.drop(self.handle, side)
                self.is_clean = False
            case 7:
                pump.leave(self.handle, side)
                self.is_clean = False
            case 8:
                pump.write(self.handle, side, dice.randbytes(dice.choice((0, 40, 300_000))))
                self.is_clean = False
            case 9:
                stranger = dice.getrandbits(63)
                assert pump.look(stranger) is None or stranger == self.handle
                pump.drop(stranger, side)

    def finish(self, pump: Any) -> None:
        """Hear all to the end, as well-behaved ends would, and compare."""
        pump.halt(self.handle, False)
        self.client.half_close()
        deadline = time.monotonic() + QUIET_S
        waits = True
        while waits or self.server.sock is not None:
            if not self.server.hear():
                self.server.close(reset=False)
            waits = self.client.hear()
            assert time.monotonic() < deadline, "a flow does not end"
            open_ends = [e.sock for e in (self.client, self.server) if e.sock is not None]
            if open_ends:
                select.select(open_ends, [], [], 0.2)
        self.client.close(reset=False)
        if self.is_clean:
            assert self.client.said.digest() == self.server.heard.digest(), "client to server"
            assert self.server.said.digest() == self.client.heard.digest(), "server to client"


def until_told(pump: Any, told: list[tuple[int, bool]], count: int) -> None:
    deadline = time.monotonic() + QUIET_S
    while len(told) < count:
        assert time.monotonic() < deadline, f"{len(told)} of {count} ends were told"
        select.select([pump.fileno()], [], [], 0.5)
        told += [(handle, side) for handle, side, _ in pump.losses()]


def main(path: str, seed: int, count: int, engine: str) -> None:
    """Some flows at a time, then some that are open while the pump is closed."""
    dice = random.Random(seed)
    files = len(os.listdir("/proc/self/fd"))
    pump = load(path).Pump(2, uring=engine == "uring")
    told: list[tuple[int, bool]] = []
    flows: list[Flow] = []
    began = clean = said = 0
    while began < count or flows:
        if began < count and len(flows) < 20:
            flows.append(Flow(pump))
            began += 1
        for flow in dice.sample(flows, min(6, len(flows))):
            for _ in range(ACTS_EACH // 10):
                flow.act(pump, dice)
        if flows and (began == count or dice.random() < 0.2):
            flow = flows.pop(dice.randrange(len(flows)))
            flow.finish(pump)
            clean += flow.is_clean
            said += flow.client.said_bytes + flow.server.said_bytes
        told += [(handle, side) for handle, side, _ in pump.losses()]
    until_told(pump, told, 2 * count)
    assert len(told) == len(set(told)) == 2 * count, "each end is told of once"
    left = [Flow(pump) for _ in range(20)]
    for flow in left:
        for _ in range(20):
            flow.act(pump, dice)
    pump.close()
    pump.close()
    assert pump.look(left[0].handle) is None
    for flow in left:
        flow.client.close(reset=True)
        flow.server.close(reset=True)
    assert len(os.listdir("/proc/self/fd")) == files, "every descriptor is closed"
    assert clean > count // 10, "too few flows were left in peace to prove anything"
    print(f"flows={count} clean={clean} bytes={said}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
