"""What the last probes of any node's server met, told by its own agent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from pgherd.daemon.asking import Question
from pgherd.model.probed import Probed

if TYPE_CHECKING:
    from pgherd.daemon.build import Node
    from pgherd.observe.server import ServerWatch

PROBES = "probes"
ASK_S = 1.0

Probes = Question[int, tuple[Probed, ...]]


def attach(node: Node) -> Probes:
    """The question as one node puts and answers it."""
    here = _reader(node.watch) if node.watch is not None else None
    return Question(
        PROBES,
        int,
        tuple[Probed, ...],
        me=node.me,
        here=here,
        ask=node.peers.request,
        timeout_s=ASK_S,
    )


def _reader(watch: ServerWatch) -> Callable[[int], Awaitable[tuple[Probed, ...]]]:
    async def newest(limit: int) -> tuple[Probed, ...]:
        return watch.probes.newest(limit)

    return newest
