"""Ports for local nodes: which are free, and whose they are until somebody listens on them.

Owns the range they are drawn from. A probe alone is not enough: between it and the first listening
socket another herd on this machine may draw the same block, and a node that is stopped for a while
listens on nothing. So a drawn block is also claimed by a name in the kernel (an abstract Unix
socket, unix(7)), which goes with the process whatever ends it.
"""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator

import msgspec

from pgherd.model.errors import OperatorError

HOST = "127.0.0.1"
PORTS_PER_NODE = 10
PORT_RANGE = (20_000, 31_000)
"""Below the range from which the kernel takes ports for outgoing connections."""

DRAWS_MAX = 200


class Ports(msgspec.Struct, frozen=True):
    """The five ports of a node, counted from its base."""

    base: int

    @property
    def proxy_primary(self) -> int:
        return self.base

    @property
    def proxy_replica(self) -> int:
        return self.base + 1

    @property
    def postgres(self) -> int:
        return self.base + 2

    @property
    def api(self) -> int:
        return self.base + 3

    @property
    def raft(self) -> int:
        return self.base + 4

    def all(self) -> tuple[int, ...]:
        return tuple(range(self.base, self.base + 5))


class Claim:
    """Blocks of ports that no other claim of this machine holds, until `close`."""

    def __init__(self, blocks: list[Ports], names: contextlib.ExitStack) -> None:
        self.blocks = blocks
        self._names = names

    def close(self) -> None:
        """Let others have them. Twice is as good as once."""
        self._names.close()


def claim_ports(nodes: int, *, base: int | None = None, preferred: int | None = None) -> Claim:
    """A block for every node. base is an order, preferred a wish.

    An ordered block is not claimed: whoever orders it knows why, and a kept herd cannot move.

    Raises:
        OperatorError: an ordered port is in use, or none is free.
    """
    if base is not None:
        blocks = _blocks(nodes, base)
        if taken := list(_taken(blocks)):
            raise OperatorError(
                f"port {taken[0]} is in use", "choose others with --base-port, or leave it out"
            )
        return Claim(blocks, contextlib.ExitStack())
    draw = random.SystemRandom()
    tries = [preferred] if preferred is not None else []
    tries += [draw.randrange(*PORT_RANGE, PORTS_PER_NODE) for _ in range(DRAWS_MAX)]
    for start in tries:
        blocks = _blocks(nodes, start)
        with contextlib.suppress(OSError), contextlib.ExitStack() as names:
            for ports in blocks:
                _name(names, ports)
            if not list(_taken(blocks)):
                return Claim(blocks, names.pop_all())
    raise OperatorError("no free block of ports was found", "name one with --base-port")


_kept: list[Claim] = []


def claim_base() -> int:
    """The base of one block that stays this process's own until it ends."""
    _kept.append(claim_ports(1))
    return _kept[-1].blocks[0].base


def _blocks(nodes: int, start: int) -> list[Ports]:
    last = start + nodes * PORTS_PER_NODE
    if start < 1024 or last > 65_535:
        raise OperatorError(f"ports {start} to {last} are no ports", "choose 1024 to 65000")
    return [Ports(start + number * PORTS_PER_NODE) for number in range(nodes)]


def _name(names: contextlib.ExitStack, ports: Ports) -> None:
    name = names.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    name.bind(f"\0pgherd-ports-{ports.base}")


def _taken(blocks: list[Ports]) -> Iterator[int]:
    return (port for ports in blocks for port in ports.all() if not _is_free(port))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
