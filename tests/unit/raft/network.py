"""A deterministic in-memory network of RaftNodes, for tests: no time, no threads, no chance.

Owns the memory storage, the handling of each Ready in its right order (store, send, apply) and the
messages under way. What is lost in a crash is exactly what was not stored. Tests choose what is
delivered; `run()` delivers everything until nobody has anything to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from pgherd.raft.conformance import (
    Compacted,
    Config,
    ConfState,
    Entry,
    Hard,
    Msg,
    ProposalDropped,
    RaftNode,
    Ready,
    Snapshot,
    StepPeerNotFound,
    Unavailable,
    decode_conf_change,
    entry_size,
)

RUN_ROUNDS_MAX = 10_000


class MemoryStorage:
    """The durable side of a node: survives `Network.crash`."""

    def __init__(self, conf: ConfState, *, index: int = 0, term: int = 0) -> None:
        self.hard = Hard(term, 0, index) if index else Hard(0, 0, 0)
        self.conf = conf
        self.log: list[Entry] = []
        self.base = Snapshot(index=index, term=term, conf=conf)
        self.newest = self.base

    def initial_state(self) -> tuple[Hard, ConfState]:
        return self.hard, self.conf

    def first_index(self) -> int:
        return self.base.index + 1

    def last_index(self) -> int:
        return self.base.index + len(self.log)

    def term(self, index: int) -> int:
        if index < self.base.index:
            raise Compacted(index)
        if index > self.last_index():
            raise Unavailable(index)
        return self.base.term if index == self.base.index else self._at(index).term

    def snapshot(self) -> Snapshot:
        return self.newest

    def entries(self, lo: int, hi: int, max_bytes: int | None) -> list[Entry]:
        if lo <= self.base.index:
            raise Compacted(lo)
        if hi > self.last_index() + 1:
            raise Unavailable(hi)
        found: list[Entry] = []
        total = 0
        for index in range(lo, hi):
            total += entry_size(self._at(index))
            if found and max_bytes is not None and total > max_bytes:
                break
            found.append(self._at(index))
        return found

    def save(self, ready: Ready) -> None:
        """One transaction: snapshot, entries, hard state."""
        if ready.snapshot is not None:
            self.base = self.newest = ready.snapshot
            self.conf = ready.snapshot.conf
            self.log = []
        for entry in ready.entries:
            assert self.base.index < entry.index <= self.last_index() + 1, "a gap, or a rewrite"
            del self.log[entry.index - self.base.index - 1 :]
            self.log.append(entry)
        if ready.hard is not None:
            self.hard = ready.hard

    def compact(self, snapshot: Snapshot) -> None:
        """Keep a snapshot and drop the entries that it covers."""
        assert self.base.index < snapshot.index <= self.last_index(), "nothing to drop"
        self.log = self.log[snapshot.index - self.base.index :]
        self.base = self.newest = snapshot

    def _at(self, index: int) -> Entry:
        return self.log[index - self.base.index - 1]


class Member:
    """A node, its storage, and its state machine: the list of data it applied.

    Configuration and state machine are rebuilt after a crash from the newest snapshot.
    """

    def __init__(self, config: Config, storage: MemoryStorage) -> None:
        self.config = config
        self.storage = storage
        self.is_up = True
        self.log_lines: list[str] = []
        self.start()

    def start(self) -> None:
        """Begin from what is stored."""
        base = self.storage.base
        self.storage.conf = base.conf
        self.storage.newest = base
        self.applied = base
        self.reads: list[tuple[int, bytes]] = []
        config = replace(self.config, applied=base.index)
        self.node = RaftNode(config, self.storage, self._log)
        self.pending: Ready | None = None
        self.is_up = True

    def _log(self, level: str, text: str) -> None:
        self.log_lines.append(f"{level} {text}")

    def apply(self, ready: Ready) -> None:
        """Hand a Ready's snapshot and committed entries to the state machine."""
        if ready.snapshot is not None:
            self.applied = ready.snapshot
        for entry in ready.committed:
            assert entry.index == self.applied.index + 1, "applied out of order"
            conf, data = self.applied.conf, self.applied.data
            if entry.type != "normal":
                conf = self.node.apply_conf_change(*decode_conf_change(entry))
            elif entry.data:
                data += entry.data + b" "
            self.applied = Snapshot(index=entry.index, term=entry.term, conf=conf, data=data)
        self.storage.newest = self.applied
        self.reads.extend(ready.read_states)

    def values(self) -> list[str]:
        """What was applied, in order."""
        return self.applied.data.decode().split()


def timeouts_of(node: int) -> Callable[[int, int], int]:
    """Always the same election timeout for one node, and another one for the next."""
    return lambda low, high: low + 3 * (node - 1) % (high - low)


class Network:
    """Members, the messages under way, and which links are cut."""

    def __init__(self, rng: Callable[[int, int], int] | None = None) -> None:
        self.members: dict[int, Member] = {}
        self.under_way: list[Msg] = []
        self.journal: list[Msg] = []
        self.cut_links: set[tuple[int, int]] = set()
        self.rng = rng

    @classmethod
    def of(cls, voters: int, *, learners: Iterable[int] = (), **config: object) -> Network:
        """Nodes 1..voters (and learners), all knowing each other."""
        network = cls()
        conf = ConfState(voters=tuple(range(1, voters + 1)), learners=tuple(learners))
        for node in (*conf.voters, *conf.learners):
            network.add(node, conf, **config)
        return network

    def add(self, node: int, conf: ConfState | None = None, **config: object) -> Member:
        """A new node; without a configuration it waits to be told by a snapshot."""
        storage = MemoryStorage(conf or ConfState(), index=1 if conf else 0, term=1 if conf else 0)
        settings = {"election_tick": 10, "heartbeat_tick": 1, **config}
        rng = self.rng or timeouts_of(node)
        self.members[node] = Member(Config(id=node, rng=rng, **settings), storage)  # type: ignore[arg-type]
        return self.members[node]

    def node(self, node: int) -> RaftNode:
        return self.members[node].node

    def leader(self) -> int:
        """The one leader of the highest term; 0 when there is none."""
        leaders = [one.node for one in self._up() if one.node.role == "leader"]
        return max(leaders, key=lambda one: one.term).id if leaders else 0

    # -- work --------------------------------------------------------------------------------------

    def process(self, node: int) -> Ready:
        """Handle one Ready of a node."""
        self.begin(node)
        return self.finish(node)

    def begin(self, node: int) -> Ready:
        """Take a Ready and store it."""
        member = self.members[node]
        member.pending = member.node.ready()
        member.storage.save(member.pending)
        return member.pending

    def finish(self, node: int) -> Ready:
        """Send, apply, advance."""
        member = self.members[node]
        ready, member.pending = member.pending, None
        assert ready is not None
        for message in ready.messages:
            self.send(message)
        member.apply(ready)
        member.node.advance(ready)
        return ready

    def send(self, message: Msg) -> None:
        """Put a message on its way, unless its link is cut or nobody listens."""
        self.journal.append(message)
        receiver = self.members.get(message.to)
        listens = receiver is not None and receiver.is_up
        if listens and (message.frm, message.to) not in self.cut_links:
            self.under_way.append(message)

    def deliver(self, message: Msg) -> None:
        """Hand a message to its receiver, which may refuse it as a transport's would."""
        member = self.members.get(message.to)
        if member is None or not member.is_up:
            return
        try:
            member.node.step(message)
        except (StepPeerNotFound, ProposalDropped):
            pass  # a node that was removed still answers; a transport logs and goes on

    def run(self) -> None:
        """Process and deliver until nothing is left."""
        for _ in range(RUN_ROUNDS_MAX):
            for node, member in sorted(self.members.items()):
                if member.is_up and member.pending is None and member.node.has_ready():
                    self.process(node)
            messages, self.under_way = self.under_way, []
            if not messages:
                if not any(one.node.has_ready() for one in self._up()):
                    return
                continue
            for message in messages:
                self.deliver(message)
        raise AssertionError("the network does not come to rest")

    def tick(self, node: int, times: int = 1) -> None:
        for _ in range(times):
            self.node(node).tick()

    def beat(self, times: int = 1) -> None:
        """Tick everyone once and let it settle, several times."""
        for _ in range(times):
            for node, member in self.members.items():
                if member.is_up:
                    self.tick(node)
            self.run()

    def elect(self, node: int) -> None:
        self.node(node).campaign()
        self.run()
        assert self.node(node).role == "leader", f"{node} was not elected"

    def elect_without_commit(self, node: int) -> None:
        """Elect a node, and stop before its first entry of the term is on its way."""
        self.node(node).campaign()
        for _ in range(RUN_ROUNDS_MAX):
            if self.node(node).role == "leader":
                return
            for member in self._up():
                if member.node.has_ready():
                    self.process(member.node.id)
            messages, self.under_way = self.under_way, []
            for message in messages:
                self.deliver(message)
        raise AssertionError(f"{node} was not elected")

    def propose(self, node: int, *values: str) -> None:
        for value in values:
            self.node(node).propose(value.encode())
        self.run()

    def change(self, node: int, *ops: tuple[str, int], **options: object) -> None:
        self.node(node).propose_conf_change(list(ops), **options)  # type: ignore[arg-type]
        self.run()

    # -- trouble -----------------------------------------------------------------------------------

    def cut(self, one: int, other: int) -> None:
        """No message between two nodes any more."""
        self.cut_links |= {(one, other), (other, one)}

    def isolate(self, node: int) -> None:
        for other in self.members:
            if other != node:
                self.cut(node, other)

    def heal(self) -> None:
        self.cut_links = set()

    def crash(self, node: int) -> None:
        """Only what is stored is kept, and what was on its way to the node is lost."""
        self.members[node].is_up = False
        self.under_way = [one for one in self.under_way if one.to != node]

    def restart(self, node: int) -> None:
        self.members[node].start()

    def compact(self, node: int) -> None:
        """Drop what a node has applied, keeping a snapshot."""
        self.members[node].storage.compact(self.members[node].applied)

    def _up(self) -> list[Member]:
        return [member for member in self.members.values() if member.is_up]
