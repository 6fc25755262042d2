"""How a configuration follows from the one before (paper 6, dissertation 4).

Owns the change itself, as a function of values, and how it is written into a log entry. Leaves
when a change may be proposed, and what a leader does after one, to membership.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

from msgspec.structs import replace

from pgherd.raft.types import ConfChangeError, ConfOp, ConfState, Entry, Progress, Transition

ChangeMode = Literal["simple", "enter", "leave"]
OPS = frozenset("vlru")


def change_conf(
    conf: ConfState,
    progress: Mapping[int, Progress],
    ops: Iterable[ConfOp],
    *,
    mode: ChangeMode = "simple",
    auto_leave: bool = False,
    last_index: int,
) -> tuple[ConfState, dict[int, Progress]]:
    """The configuration and the progress after ops; raises ConfChangeError, and changes nothing.

    simple: at most one voter differs. enter: the voters so far stay on as the outgoing half.
    leave: that half goes (ops are not looked at).
    """
    draft = _Draft(conf, progress, last_index)
    _check_mode(conf, mode)
    if mode == "leave":
        return draft.leave()
    if mode == "enter":
        draft.outgoing = set(conf.voters)
    for kind, node in ops:
        if node != 0:
            draft.apply(kind, node)
    if not draft.voters:
        raise ConfChangeError("no-voters")
    if mode == "simple" and len(draft.voters ^ set(conf.voters)) > 1:
        raise ConfChangeError("too-many-voters")
    return draft.result(auto_leave=auto_leave and mode == "enter")


def change_mode(ops: Sequence[ConfOp], transition: Transition) -> ChangeMode:
    """How a proposed change is carried out (26)."""
    if transition != "auto" or len(ops) > 1:
        return "enter"
    return "simple" if ops else "leave"


def progress_of(conf: ConfState, *, last_index: int) -> dict[int, Progress]:
    """A first progress for everyone in a configuration that was stored or received."""
    voters = {*conf.voters, *conf.voters_outgoing}
    return {
        node: _fresh(last_index, learner=node not in voters)
        for node in sorted({*voters, *conf.learners})
    }


def encode_conf_change(ops: Sequence[ConfOp], transition: Transition = "auto") -> bytes:
    """Write a change as the data of an entry: words, empty for "leave the joint configuration"."""
    words = [] if transition == "auto" else [transition]
    return " ".join(words + [f"{kind}{node}" for kind, node in ops]).encode("ascii")


def decode_conf_change(entry: Entry) -> tuple[list[ConfOp], Transition]:
    """Read a change back from an entry of type "conf" or "conf2"; ValueError on anything else."""
    if entry.type == "normal":
        raise ValueError(f"entry {entry.index} is no configuration change")
    words = entry.data.decode("ascii").split()
    transition: Transition = "auto"
    for known in get_args(Transition):
        if words and words[0] == known:
            transition = known
            words = words[1:]
    return [_decode_op(word) for word in words], transition


def _decode_op(word: str) -> ConfOp:
    kind, number = word[0], word[1:]
    if kind not in OPS or not number.isdecimal():
        raise ValueError(f"no change of membership: {word!r}")
    return kind, int(number)


def _check_mode(conf: ConfState, mode: ChangeMode) -> None:
    joint = bool(conf.voters_outgoing)
    if mode == "simple" and joint:
        raise ConfChangeError("simple-in-joint")
    if mode == "enter" and joint:
        raise ConfChangeError("already-joint")
    if mode == "enter" and not conf.voters:
        raise ConfChangeError("empty-joint")
    if mode == "leave" and not joint:
        raise ConfChangeError("not-joint")


def _fresh(last_index: int, *, learner: bool) -> Progress:
    """A node nobody asked yet; active, so that it is not held dead before its first answer."""
    return Progress(next=max(last_index, 1), learner=learner, active=True)


class _Draft:
    """A configuration being changed, one op at a time."""

    def __init__(self, conf: ConfState, progress: Mapping[int, Progress], last_index: int) -> None:
        self.voters = set(conf.voters)
        self.outgoing = set(conf.voters_outgoing)
        self.learners = set(conf.learners)
        self.learners_next = set(conf.learners_next)
        self.progress = dict(progress)
        self.last_index = last_index

    def apply(self, kind: str, node: int) -> None:
        """Carry out one op; what is already so stays so."""
        match kind:
            case "v":
                self._make_voter(node)
            case "l":
                self._make_learner(node)
            case "r":
                self._remove(node)
            case "u":
                pass
            case _:
                raise ValueError(f"no change of membership: {kind!r}")

    def leave(self) -> tuple[ConfState, dict[int, Progress]]:
        """Drop the outgoing half: demoted voters become learners, the rest is forgotten."""
        for node in self.learners_next:
            self.progress[node] = replace(self.progress[node], learner=True)
        self.learners |= self.learners_next
        for node in self.outgoing - self.voters - self.learners:
            self.progress.pop(node, None)
        self.outgoing = set()
        self.learners_next = set()
        return self.result(auto_leave=False)

    def result(self, *, auto_leave: bool) -> tuple[ConfState, dict[int, Progress]]:
        """The draft as values."""
        conf = ConfState(
            voters=tuple(sorted(self.voters)),
            learners=tuple(sorted(self.learners)),
            voters_outgoing=tuple(sorted(self.outgoing)),
            learners_next=tuple(sorted(self.learners_next)),
            auto_leave=auto_leave,
        )
        return conf, dict(sorted(self.progress.items()))

    def _make_voter(self, node: int) -> None:
        known = self.progress.get(node)
        if known is None:
            self.progress[node] = _fresh(self.last_index, learner=False)
        elif known.learner:
            self.progress[node] = replace(known, learner=False)
        self.learners.discard(node)
        self.learners_next.discard(node)
        self.voters.add(node)

    def _make_learner(self, node: int) -> None:
        known = self.progress.get(node)
        if known is None:
            self.progress[node] = _fresh(self.last_index, learner=True)
            self.learners.add(node)
            return
        if known.learner:
            return
        self.voters.discard(node)
        if node in self.outgoing:
            self.learners_next.add(node)
        else:
            self.progress[node] = replace(known, learner=True)
            self.learners.add(node)

    def _remove(self, node: int) -> None:
        self.voters.discard(node)
        self.learners.discard(node)
        self.learners_next.discard(node)
        if node not in self.outgoing:
            self.progress.pop(node, None)
