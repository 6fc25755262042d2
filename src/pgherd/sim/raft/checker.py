"""What must be true of every run, checked where it happens.

    I1 election safety      at most one leader in a term
    I2 log matching         the same term and index: the same entry behind the same entry
    I3 completeness         what is committed is durable on a quorum, of the leader's own term, and
                            in the log of every later leader
    I4 state machines       equal at equal applied index
    I5 durability           hard state never goes back, one vote in a term, no reply before fsync
    I6 exactly once         each (client, seq) takes effect once, whoever retries
    R1 reads                see everything that was acknowledged before they were asked
    C1 to C4 configuration  one change at a time; as the log says; no leader outside; voters lead
    T1 leases               no lease ends while its last renewal holds
    A1 own assertions       of the core (a promise was broken outside, or the core is wrong)

run.py adds L1 (liveness after the faults stop), L2 (progress under partial connectivity) and S1 (a
slow disk alone causes no election). Owns the memory of all that was true; looks at servers from
outside and never changes one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from pgherd.raft.confchange import (
    change_conf,
    change_mode,
    decode_conf_change,
    progress_of,
)
from pgherd.raft.types import Compacted, ConfState, Entry, Msg, Ready, Unavailable
from pgherd.sim.raft.machine import APPEND, EXPIRE, RENEW, Command, Outcome
from pgherd.store.image import Image

if TYPE_CHECKING:
    from pgherd.sim.raft.clients import Client
    from pgherd.sim.raft.group import Group
    from pgherd.sim.raft.server import Server

LEASE_HELD_US = 2_300_000
"""A lease of 30 ticks on a clock that runs a quarter fast lasts at least this long."""


class Violation(Exception):
    """An invariant does not hold."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name
        self.text = text


class _Agreed(NamedTuple):
    """What the first server that applied an index found there."""

    entry: Entry
    outcome: Outcome | None
    version: int
    chain: int
    conf: ConfState


class Checker:
    """Everything that was ever true of a run."""

    def __init__(self, group: Group, birth: ConfState) -> None:
        self._group = group
        begin = _Agreed(Entry(term=1, index=1), None, 0, 0, birth)
        self._agreed = [begin, begin]
        self._marks: dict[tuple[int, int], tuple[int, Entry]] = {}
        self._images: dict[int, bytes] = {}
        self._durable: dict[int, tuple[int, ...]] = {}
        self._spoken: dict[int, int] = {}
        self._votes: dict[tuple[int, int], int] = {}
        self._effects: set[tuple[int, int]] = set()
        self._renewed: dict[int, int] = {}
        self._asked: dict[bytes, int] = {}
        self.leaders: dict[int, int] = {}
        self._changed_at = 1
        self.commit = 1
        self.commit_term = 1
        self.floor = 0
        self.evaluated = 0

    def broken(self, name: str, text: str) -> NoReturn:
        """An invariant does not hold: end the run."""
        raise Violation(name, text)

    @property
    def agreed(self) -> int:
        """The last index that anyone applied."""
        return len(self._agreed) - 1

    def configuration(self) -> tuple[ConfState, int]:
        """The last configuration that anyone applied, and since which index."""
        return self._agreed[-1].conf, self._changed_at

    # -- leaders and commits -----------------------------------------------------------------------

    def looked_at(self, server: Server) -> None:
        """After every input: who leads, and what is committed."""
        node = server.node
        if node.role == "leader":
            known = self.leaders.setdefault(node.term, server.id)
            if known != server.id:
                self.broken("I1", f"term {node.term} has the leaders {known} and {server.id}")
        if node.commit > self.commit:
            self._committed(server, node.commit)

    def _committed(self, server: Server, index: int) -> None:
        """Where the commit index moves first: on a leader, by a quorum of what is durable."""
        node = server.node
        self.evaluated += 1
        if node.role != "leader":
            self.broken("I3", f"{server.id} commits {index}, which no leader has")
        for half in (node.conf.voters, node.conf.voters_outgoing):
            holders = [voter for voter in half if self._holds(voter, index, node.term)]
            if half and len(holders) <= len(half) // 2:
                self.broken(
                    "I3",
                    f"{server.id} of term {node.term} commits {index}, durable in that term on "
                    f"{holders} of {half} only",
                )
        self.commit, self.commit_term = index, node.term
        for other in self._group.up():
            if other.node.role == "leader" and other.node.term > node.term:
                self._is_complete(other, ())

    def _holds(self, voter: int, index: int, term: int) -> bool:
        image = self._group.remembered(voter)
        if image is None or index > image.last_index:
            return False
        return index <= image.base_index or image.term(index) == term

    def _is_complete(self, server: Server, entries: Sequence[Entry]) -> None:
        """A leader's log holds what was committed in earlier terms; I2 does the rest."""
        if self.commit_term >= server.node.term:
            return
        found = term_at(server, entries, self.commit)
        if found not in (None, self.commit_term):
            self.broken(
                "I3",
                f"leader {server.id} of term {server.node.term} has term {found} at {self.commit}, "
                f"committed in term {self.commit_term}",
            )

    def role_changed(self, server: Server, ready: Ready) -> None:
        """A server tells its new role, in a Ready that is not stored yet."""
        assert ready.soft is not None
        role, node = ready.soft[1], server.node
        if role == "follower" or node.role != role:
            return
        self.evaluated += 1
        conf = node.conf
        if server.id not in conf.voters and server.id not in conf.voters_outgoing:
            self.broken("C4", f"{server.id} is {role} and no voter of {conf}")
        if role == "leader":
            hard = server.disk.image.hard
            if (hard.term, hard.vote) != (node.term, server.id):
                self.broken("I5", f"{server.id} leads term {node.term} by a vote not stored")
            self._is_complete(server, ready.entries)

    # -- what is stored and said -------------------------------------------------------------------

    def stores(self, server: Server, ready: Ready) -> None:
        """Entries on their way to the disk: log matching, one change at a time."""
        if not ready.entries:
            return
        first = ready.entries[0].index
        if ready.snapshot is not None and ready.snapshot.index == first - 1:
            before = ready.snapshot.term
        else:
            before = server.store.term(first - 1)
            if first <= server.store.last_index():
                self._group.effects["tail_replaced"] += 1
        for entry in ready.entries:
            known = self._marks.setdefault((entry.term, entry.index), (before, entry))
            if known[0] != before or (known[1] is not entry and known[1] != entry):
                self.broken("I2", f"{server.id} stores another {entry.term}/{entry.index}")
            before = entry.term
            if entry.type != "normal" and entry.data and entry.term == server.node.term:
                self._change_may_come(server, ready, entry)

    def _change_may_come(self, server: Server, ready: Ready, entry: Entry) -> None:
        """A leader proposes a change only when it has applied the one before."""
        if server.node.role != "leader":
            return
        waiting = [one for one in ready.entries if server.applied < one.index < entry.index]
        first = ready.entries[0].index
        waiting += server.store.entries(server.applied + 1, first, None)
        for one in waiting:
            if one.type != "normal" and one.data:
                self.broken(
                    "C1", f"{server.id} proposes a change at {entry.index}, {one.index} waits"
                )

    def store_refused(self, server: Server, bug: Exception) -> None:
        """The store saw a promise of Raft broken."""
        self.broken("I5", f"the store of {server.id} refuses: {bug}")

    def synced(self, server: Server) -> None:
        """A transaction is durable."""
        state = summary(server.disk.image)
        known = self._durable.get(server.id, (0, 0, 0, 0))
        if state[0] < known[0]:
            self.broken("I5", f"the hard state of {server.id} goes back to term {state[0]}")
        self._durable[server.id] = state

    def ended(self, server: Server) -> None:
        """A process ended; what it wrote last may have reached the disk."""
        self._durable[server.id] = summary(server.disk.image)

    def opened(self, server: Server) -> None:
        """A store that opens has all that was durable; otherwise it must declare amnesia."""
        self.evaluated += 1
        hard, _ = server.store.initial_state()
        last = server.store.last_index()
        state = (hard.term, hard.vote, last, server.store.term(last))
        known = self._durable.setdefault(server.id, state)
        if state != known:
            self.broken("I5", f"{server.id} opens its disk with {state}, it had stored {known}")
        said = self._spoken.get(server.id, 0)
        if hard.term < said:
            self.broken("I5", f"{server.id} spoke in term {said} and comes back in {hard.term}")

    def sends(self, server: Server, message: Msg) -> None:
        """Nothing is said that a crash could take back."""
        kind, term = message.type, message.term
        if kind in ("PreVote", "PreVoteResp"):
            return
        if term > self._spoken.get(server.id, 0):
            self._spoken[server.id] = term
        if message.reject:
            return
        if kind == "AppResp" and message.index:
            image = server.disk.image
            if message.index > image.last_index or image.hard.term < term:
                self.broken("I5", f"{server.id} acknowledges {message.index} before it is stored")
        elif kind == "VoteResp":
            self._votes_once(server, message)

    def _votes_once(self, server: Server, message: Msg) -> None:
        self.evaluated += 1
        hard = server.disk.image.hard
        if hard.term <= message.term and (hard.term, hard.vote) != (message.term, message.to):
            self.broken("I5", f"{server.id} votes in term {message.term}, stored is {hard}")
        known = self._votes.setdefault((server.id, message.term), message.to)
        if known != message.to:
            self.broken("I5", f"{server.id} votes for {known} and {message.to} in {message.term}")

    # -- what is applied ---------------------------------------------------------------------------

    def applied(
        self, server: Server, entry: Entry, command: Command | None, outcome: Outcome | None
    ) -> None:
        """A server applied an entry, its machine and configuration are those after it."""
        self.evaluated += 1
        index = entry.index
        if index > self.commit:
            self.broken("I3", f"{server.id} applies {index}, committed is {self.commit}")
        if index == len(self._agreed):
            self._applied_first(server, entry, command, outcome)
        known = self._agreed[index]
        if known.entry is not entry and known.entry != entry:
            self.broken("I4", f"{server.id} applies another entry at {index}")
        if known.outcome != outcome:
            name = "I6" if outcome is not None and outcome.took_effect else "I4"
            self.broken(name, f"{server.id} has {outcome} at {index}, others {known.outcome}")
        self._is_equal(server, known, index, server.node.conf)

    def _applied_first(
        self, server: Server, entry: Entry, command: Command | None, outcome: Outcome | None
    ) -> None:
        conf = self._agreed[-1].conf
        if entry.type != "normal":
            conf = conf_after(conf, entry)
        machine = server.machine
        found = _Agreed(entry, outcome, machine.version, machine.chain, conf)
        self._agreed.append(found)
        if entry.type != "normal":
            self._changed_at = entry.index
            self._group.effects["members_changed"] += 1
            self._leader_is_inside(server, conf)
            self._group.changed(server)
        if command is not None and outcome is not None:
            self._takes_effect(command, outcome)

    def _takes_effect(self, command: Command, outcome: Outcome) -> None:
        """Once for each (client, seq); a lease ends when its time is over."""
        now = self._group.clock.now
        if command.kind == EXPIRE:
            if outcome.took_effect and now - self._renewed[command.key] < LEASE_HELD_US:
                self.broken("T1", f"lease {command.key} ends though it was renewed")
            self._group.effects["lease_ended" if outcome.took_effect else "lease_end_refused"] += 1
            return
        name = (command.client, command.seq)
        if outcome.took_effect == (name in self._effects):
            what = "twice" if outcome.took_effect else "never"
            self.broken("I6", f"command {name} takes effect {what}")
        if not outcome.took_effect:
            self._group.effects["retry_answered"] += 1
        self._effects.add(name)
        if command.kind == RENEW and outcome.took_effect:
            self._renewed[command.key] = now

    def _leader_is_inside(self, server: Server, conf: ConfState) -> None:
        voters = {*conf.voters, *conf.voters_outgoing}
        if server.node.role == "leader" and server.id not in voters:
            self.broken("C3", f"{server.id} leads on after it was removed")

    def restored(self, server: Server, conf: ConfState) -> None:
        """A server starts from a snapshot, its own or a leader's, that says this configuration.

        The core may know a newer one by then: of the next snapshot, which arrived meanwhile.
        """
        index = server.applied
        if index == 0:
            return
        if index > self.agreed:
            self.broken("I4", f"{server.id} has a snapshot at {index}, which nobody applied")
        self._is_equal(server, self._agreed[index], index, conf)

    def _is_equal(self, server: Server, known: _Agreed, index: int, conf: ConfState) -> None:
        machine = server.machine
        if (machine.version, machine.chain) != (known.version, known.chain):
            self.broken("I4", f"the machine of {server.id} at {index} is another one")
        if conf is not known.conf and conf != known.conf:
            self.broken("C2", f"{server.id} at {index} has {conf}, the log says {known.conf}")

    def imaged(self, server: Server, data: bytes) -> None:
        """A server makes a snapshot: all its state, to be compared with the others'."""
        known = self._images.setdefault(server.applied, data)
        if known != data:
            self.broken("I4", f"the snapshot of {server.id} at {server.applied} is another one")

    # -- clients -----------------------------------------------------------------------------------

    def asked(self, context: bytes) -> None:
        """A read begins."""
        self._asked[context] = self.commit

    def read_answered(self, context: bytes, index: int) -> None:
        """The core names the index from which a read may be answered."""
        self.evaluated += 1
        if index < self._asked[context]:
            self.broken("R1", f"a read from {index} misses {self._asked[context]}")

    def returned(self, *, floor: int, version: int, what: str) -> None:
        """A client has its answer: it comes after all that was answered before it was asked."""
        self.evaluated += 1
        if version < floor:
            self.broken("R1", f"{what} sees version {version}, {floor} was acknowledged before")
        self.floor = max(self.floor, version)

    def final(self, members: Sequence[Server], clients: Sequence[Client]) -> None:
        """Everything that was acknowledged is in every state, once."""
        for server in members:
            tokens = Counter(one for found in server.machine.lists.values() for one in found)
            for command in (one for client in clients for one in client.acked):
                self.evaluated += 1
                if command.kind == APPEND and tokens[command.value] != 1:
                    times = tokens[command.value]
                    self.broken("I6", f"{server.id} has {command} {times} times, acknowledged once")


def summary(image: Image) -> tuple[int, ...]:
    """Term, vote and the end of the log."""
    last = image.last_index
    return image.hard.term, image.hard.vote, last, image.term(last)


def term_at(server: Server, entries: Sequence[Entry], index: int) -> int | None:
    """The term at an index of a log, 0 beyond its end, None where it is compacted."""
    if entries and index >= entries[0].index:
        position = index - entries[0].index
        return entries[position].term if position < len(entries) else 0
    try:
        return server.store.term(index)
    except Compacted:
        return None
    except Unavailable:
        return 0


def conf_after(conf: ConfState, entry: Entry) -> ConfState:
    """What the log makes of a configuration."""
    ops, transition = decode_conf_change(entry)
    return change_conf(
        conf,
        progress_of(conf, last_index=1),
        ops,
        mode=change_mode(ops, transition),
        auto_leave=transition != "explicit",
        last_index=1,
    )[0]
