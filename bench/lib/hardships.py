"""Faults that last: a primary cut off or frozen, an agent frozen, consensus without a quorum.

Each is done under load and mended after its time; meanwhile a few more writers speak to the old
primary alone, so that whatever it still acknowledges is held against the rows in the end, and is
counted where the new primary had acknowledged something before. Leaves outages and verdicts to
`pgherd.proof`, and how a node is cut off to `netns`.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from enum import StrEnum

from lib.netns import CutHerd
from pgherd.proof.asking import HerdError
from pgherd.proof.herd import LocalHerd
from pgherd.proof.history import History, Outcome
from pgherd.proof.processes import send
from pgherd.proof.trials import PRIMARY_DEADLINE_S, WRITES_BACK_S, Act
from pgherd.proof.writers import Writers

DIRECT_WRITERS = 2


class Hardship(StrEnum):
    """The kinds, as they are named on the command line."""

    ISOLATED = "isolated"
    FROZEN_NODE = "frozen-node"
    FROZEN_AGENT = "frozen-agent"
    NO_QUORUM = "no-quorum"


LASTS_S = {
    Hardship.ISOLATED: 20.0,
    Hardship.FROZEN_NODE: 60.0,
    Hardship.FROZEN_AGENT: 20.0,
    Hardship.NO_QUORUM: 30.0,
}
TITLES = {
    Hardship.ISOLATED: "primary cut off from its peers, not from clients",
    Hardship.FROZEN_NODE: "node of the primary frozen",
    Hardship.FROZEN_AGENT: "agent of the primary frozen",
    Hardship.NO_QUORUM: "consensus without a quorum",
}


class Hardships:
    """Does them, and keeps what the writers at the old primaries know."""

    def __init__(self) -> None:
        self.histories: list[History] = []
        self.twice = 0
        """Acknowledgements by an old primary after its successor's first one."""
        self._numbers = 100

    def act(self, kind: Hardship) -> Act:
        """The act for a trial."""

        def do(herd: LocalHerd, writers: Writers, primary: str) -> float:
            with Writers(
                herd.dsn_node(primary), count=DIRECT_WRITERS, first=self._next_numbers()
            ) as direct:
                direct.start()
                time.sleep(1.0)
                began = writers.mark(TITLES[kind])
                back = self._endure(herd, writers, kind, primary, until=began + LASTS_S[kind])
                mended = time.monotonic()
                time.sleep(2.0)
                history = direct.stop()
            self.histories.append(history)
            if back is not None:
                self.twice += _acknowledged(history, since=back, until=mended)
            return mended

        return do

    def _next_numbers(self) -> int:
        self._numbers += DIRECT_WRITERS
        return self._numbers

    def _endure(
        self, herd: LocalHerd, writers: Writers, kind: Hardship, primary: str, *, until: float
    ) -> float | None:
        """Break it, wait, mend it; when another primary had acknowledged, None if none was made."""
        with BREAKS[kind](herd, primary):
            back = None
            if kind is not Hardship.NO_QUORUM:
                herd.wait_primary(other_than=primary, deadline_s=PRIMARY_DEADLINE_S)
                herd.wait_for(
                    lambda: writers.idle_s() < WRITES_BACK_S, "write", deadline_s=PRIMARY_DEADLINE_S
                )
                back = time.monotonic()
            time.sleep(max(0.0, until - time.monotonic()))
        return back


@contextmanager
def _frozen(herd: LocalHerd, primary: str) -> Iterator[None]:
    herd.pause_node(primary)
    try:
        yield
    finally:
        herd.resume_node(primary)


@contextmanager
def _isolated(herd: LocalHerd, primary: str) -> Iterator[None]:
    assert isinstance(herd, CutHerd)
    herd.silent.add(primary)  # it believes what was so before
    herd.cut_off(primary)
    try:
        yield
    finally:
        herd.reconnect()
        herd.silent.discard(primary)


@contextmanager
def _agents_frozen(herd: LocalHerd, names: list[str]) -> Iterator[None]:
    frozen = [_agent(herd, name) for name in names]
    herd.silent.update(names)
    send(frozen, signal.SIGSTOP)
    try:
        yield
    finally:
        send(frozen, signal.SIGCONT)
        herd.silent.difference_update(names)


def _agent_frozen(herd: LocalHerd, primary: str) -> AbstractContextManager[None]:
    return _agents_frozen(herd, [primary])


def _no_quorum(herd: LocalHerd, primary: str) -> AbstractContextManager[None]:
    return _agents_frozen(herd, [name for name in herd.nodes if name != primary])


BREAKS: dict[Hardship, Callable[[LocalHerd, str], AbstractContextManager[None]]] = {
    Hardship.ISOLATED: _isolated,
    Hardship.FROZEN_NODE: _frozen,
    Hardship.FROZEN_AGENT: _agent_frozen,
    Hardship.NO_QUORUM: _no_quorum,
}


def _agent(herd: LocalHerd, name: str) -> int:
    pid = herd.part_pid(name, "agent")
    if pid is None:
        raise HerdError(f"{name} has no agent\n{herd.tell()}")
    return pid


def _acknowledged(history: History, *, since: float, until: float) -> int:
    return sum(
        since < each.started and each.finished < until and each.outcome is Outcome.ACKNOWLEDGED
        for each in history.attempts
    )
