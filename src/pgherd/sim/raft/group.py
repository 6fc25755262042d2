"""A group of servers in one simulated world: who exists, what time it is, what chance says.

Owns the slots (places for a server; a new server in a slot has a new Raft id), the birth of the
founding members, restarts, and the counts of a run. One generator of chance for everything, so
that a seed is a run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from random import Random

import msgspec

from pgherd.raft.types import ConfState, Hard, Msg, Snapshot
from pgherd.sim.clock import MS, Clock
from pgherd.sim.raft.checker import Checker
from pgherd.sim.raft.clients import Client
from pgherd.sim.raft.network import Network
from pgherd.sim.raft.operator import Operator
from pgherd.sim.raft.server import Server
from pgherd.store.image import Image
from pgherd.store.memory import MemoryStore

RENEWED_ID_STEP = 10
RESTART_AFTER = (300 * MS, 2500 * MS)

Tell = Callable[[str, Msg], None]
Note = Callable[[int, str], None]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a seed, or a mutant's profile, decides about a run."""

    size: int = 3
    spare: int = 1
    clients: int = 4
    pause_ms: int = 700
    operator_ms: int = 700
    pre_vote: bool = True
    election_tick: int = 10
    heartbeat_tick: int = 1
    max_inflight: int = 64
    max_size_per_msg: int | None = None
    max_committed_size_per_ready: int | None = None
    snapshot_every: int = 60
    entries_kept: int = 20


class Group:
    """The world of one run."""

    def __init__(self, seed: int, options: Options) -> None:
        self.seed = seed
        self.options = options
        self.rng = Random(seed)
        self.random = self.rng.random
        self.clock = Clock()
        self.network = Network(self.clock, self.rng)
        self.faults: Counter[str] = Counter()
        self.quiet = False
        self.tell: Tell | None = None
        self.note_line: Note | None = None
        self.slots: dict[int, Server] = {}
        self._disks: dict[int, Server] = {}
        self._kept: dict[int, Image] = {}
        for slot in range(1, options.size + options.spare + 1):
            self._add(slot, slot)
        founders = tuple(range(1, options.size + 1))
        self.checker = Checker(self, ConfState(voters=founders))
        self.operator = Operator(self, set(founders), every_us=options.operator_ms * MS)
        self.clients = [
            Client(self, one, pause_us=options.pause_ms * MS)
            for one in range(1, options.clients + 1)
        ]

    def begin(self) -> None:
        """Birth: every founder holds the same snapshot; spare servers know nobody."""
        founders, _ = self.checker.configuration()
        snapshot = Snapshot(index=1, term=1, conf=founders)
        for slot, server in self.slots.items():
            if slot in founders.voters:
                server.was_member = True
                store = MemoryStore(server.disk)
                store.save(hard=Hard(1, 0, 1), snapshot=snapshot)
                store.close()
            server.start()
        for client in self.clients:
            client.start()
        self.operator.start()

    def _add(self, slot: int, raft_id: int) -> Server:
        server = Server(self, slot=slot, raft_id=raft_id)
        self.slots[slot] = server
        self._disks[raft_id] = server
        self.network.servers[raft_id] = server
        return server

    # -- who is there ------------------------------------------------------------------------------

    def up(self) -> Iterator[Server]:
        """The servers that run."""
        return (server for server in self.slots.values() if server.up)

    def leader(self) -> Server | None:
        """The leader of the highest term, if it runs."""
        leading = [one for one in self.up() if one.node.role == "leader" and not one.proc.paused]
        return max(leading, key=lambda one: one.node.term) if leading else None

    def members(self) -> list[Server]:
        """The servers that should vote."""
        return [self.slots[slot] for slot in sorted(self.operator.wanted)]

    def any_server(self) -> Server:
        """One of those that should vote."""
        return self.members()[int(self.random() * len(self.operator.wanted))]

    def server_or_any(self, raft_id: int) -> Server:
        """The server with a Raft id, or any."""
        return self.network.servers.get(raft_id) or self.any_server()

    def remembered(self, raft_id: int) -> Image | None:
        """What a server had made durable, even if it lost that later."""
        if raft_id in self._kept:
            return self._kept[raft_id]
        server = self._disks.get(raft_id)
        return server.disk.image if server else None

    def has_lost(self) -> bool:
        """Whether a disk is lost and its server not yet replaced in the configuration."""
        conf, _ = self.checker.configuration()
        present = self.network.servers
        return any(
            one.has_amnesia or one.disk.damage or one.disk.sequence < one.disk.acknowledged
            for one in self.slots.values()
        ) or any(one not in present for one in (*conf.voters, *conf.voters_outgoing))

    # -- what happens to them ----------------------------------------------------------------------

    def keep_image(self, server: Server) -> None:
        """Remember what a server had before its disk forgets it."""
        self._kept[server.id] = server.disk.image

    def stopped(self, server: Server) -> None:
        """A server stopped by itself: its supervisor starts it again."""
        low, high = RESTART_AFTER
        self.restart_after(server, low + int(self.random() * (high - low)))

    def restart_after(self, server: Server, delay: int) -> None:
        """Start a server again, if it is still down and in its slot then."""
        self.clock.after(delay, self.restart, server)

    def restart(self, server: Server) -> None:
        """Start a server unless it runs, was replaced, or must not."""
        if self.slots[server.slot] is server and not server.up and not server.has_amnesia:
            server.start()

    def renew(self, slot: int) -> None:
        """Give a slot to a new server with an empty disk."""
        old = self.slots[slot]
        old.crash()
        self.network.servers.pop(old.id, None)
        new = self._add(slot, old.id + RENEWED_ID_STEP)
        new.was_member = True
        self.note(new, f"takes the place of {old.id}")
        new.start()

    def changed(self, server: Server) -> None:
        """A server is the first to apply a change of configuration."""
        if self.operator.crash_at_change and server.up:
            self.operator.crash_at_change = False
            self.clock.after(int(self.random() * 20 * MS), server.crash, proc=server.proc)
            self.restart_after(server, int((0.2 + self.random() * 4) * 1000 * MS))

    # -- chance and telling ------------------------------------------------------------------------

    def draw(self, low: int, high: int) -> int:
        """An integer in [low, high)."""
        return low + int(self.random() * (high - low))

    def client_loses(self) -> bool:
        """Whether a client's message is lost now."""
        return self.network.loss > 0 and self.random() < self.network.loss

    def hit(self, kind: str) -> None:
        """Count a fault."""
        self.faults[kind] += 1
        self.say(0, f"fault: {kind}")

    @property
    def effects(self) -> Counter[str]:
        """What faults did: messages lost, writes lost, tails replaced and so on."""
        return self.network.effects

    def note(self, server: Server, what: str) -> None:
        """Tell the diagram what a server does."""
        self.say(server.id, what)

    def say(self, raft_id: int, what: str) -> None:
        """Tell the diagram, when there is one."""
        if self.note_line is not None:
            self.note_line(raft_id, what)
