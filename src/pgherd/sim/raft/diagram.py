"""A run as text: one lane per server, an arrow per message, a line per event.

Owns the drawing. The diagram of a failing seed is made by running it again, so that nothing is kept
while seeds are only counted. Arrows are drawn at arrival; what did not arrive ends in an x.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from pgherd.raft.types import Msg
from pgherd.sim.clock import SECOND
from pgherd.sim.raft.group import Group

LANE = 8
LINES_MAX = 120
QUIET = frozenset({"Heartbeat", "HeartbeatResp"})


class Diagram:
    """Watches one group. out: where each line goes at once; None keeps the last ones."""

    def __init__(self, *, out: Callable[[str], None] | None = None, all_kinds: bool = True) -> None:
        self.lines: deque[str] = deque(maxlen=LINES_MAX)
        self._out = out
        self._all = all_kinds
        self._group: Group | None = None

    def watch(self, group: Group) -> None:
        """Draw this group."""
        self._group = group
        group.tell = group.network.tell = self._message
        group.note_line = self._note

    def _line(self, lanes: str, text: str) -> None:
        assert self._group is not None
        line = f"{self._group.clock.now / SECOND:9.4f}  {lanes}  {text}".rstrip()
        self.lines.append(line)
        if self._out is not None:
            self._out(line)

    def _slot(self, raft_id: int) -> int:
        assert self._group is not None
        server = self._group.network.servers.get(raft_id)
        return server.slot if server is not None else 0

    def _lanes(self) -> list[str]:
        assert self._group is not None
        marks = []
        for slot in sorted(self._group.slots):
            server = self._group.slots[slot]
            leads = server.up and server.node.role == "leader"
            mark = "L" if leads else "|" if server.up else "."
            marks.append(mark + " " * (LANE - 1))
        return list("".join(marks))

    def _message(self, fate: str, message: Msg) -> None:
        """An arrow; fate says why it does not arrive, "" when it does."""
        if message.type in QUIET and not self._all:
            return
        lanes = self._lanes()
        source, target = self._slot(message.frm), self._slot(message.to)
        if source and target and source != target:
            draw(lanes, (source - 1) * LANE, (target - 1) * LANE, arrives=not fate)
        self._line("".join(lanes), f"{shown(message)}{f' ({fate})' if fate else ''}")

    def _note(self, raft_id: int, what: str) -> None:
        lanes = self._lanes()
        slot = self._slot(raft_id)
        if slot:
            lanes[(slot - 1) * LANE] = "*"
        self._line("".join(lanes), f"{raft_id} {what}" if raft_id else f"== {what}")


def draw(lanes: list[str], source: int, target: int, *, arrives: bool) -> None:
    """An arrow between two lanes, in place."""
    low, high = min(source, target), max(source, target)
    for place in range(low + 1, high):
        lanes[place] = "-"
    head = (">" if target > source else "<") if arrives else "x"
    lanes[target + (-1 if target > source else 1)] = head


def shown(message: Msg) -> str:
    """A message in short: kind, term, position, how many entries, commit."""
    text = f"{message.frm}->{message.to} {message.type} t{message.term}"
    if message.index or message.log_term:
        text += f" at {message.log_term}/{message.index}"
    if message.entries:
        first, last = message.entries[0], message.entries[-1]
        text += f" [{first.term}/{first.index}..{last.term}/{last.index}]"
    if message.commit:
        text += f" commit {message.commit}"
    if message.snapshot is not None:
        text += f" snapshot {message.snapshot.term}/{message.snapshot.index}"
    if message.reject:
        text += f" rejected, hint {message.reject_hint}"
    return text
