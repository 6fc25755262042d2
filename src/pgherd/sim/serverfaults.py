"""The faults of one PostgreSQL server: its disk, its recovery, its sessions, what people do to it.

Each undoes itself after a while, or `heal` does; drawing them is `faults`' business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pgherd.model.ids import slot_name
from pgherd.sim.clock import MS, Task
from pgherd.sim.postgres import Server

if TYPE_CHECKING:
    from pgherd.sim.faults import Chaos

BURST = 40


def heal(server: Server) -> None:
    """Disk, recovery and replay are as they should be."""
    server.replay_delay = server.fsync_delay = 0
    server.wal_hangs = server.wal_full = server.long_recovery = False
    server.resume_replay()


def primary(chaos: Chaos) -> Server | None:
    """The leader's server, if it takes connections."""
    leader = chaos.leader()
    if leader is None or not leader.server.primary or not leader.server.up:
        return None
    return leader.server


def kill_backend(chaos: Chaos) -> bool:
    """One backend is killed: restart_after_crash is off, so the postmaster ends, in order."""
    server = primary(chaos)
    if server is None:
        return False
    server.drop_sessions(silent=False)
    server.crash()
    return True


def hang_wal(chaos: Chaos) -> bool:
    """The disk of the primary's WAL stands still: writes hang, reads answer, the agent is well."""
    server = primary(chaos)
    if server is None:
        return False
    server.wal_hangs = True
    chaos.later(500, 15_000, lambda: setattr(server, "wal_hangs", False))
    return True


def fill_wal(chaos: Chaos) -> bool:
    """A server's WAL disk is full: it ends in a PANIC, as every start does until there is room."""
    server = chaos.any_node().server
    if server.proc is None:
        return False
    server.wal_full = True
    server.crash()
    chaos.later(1_000, 15_000, lambda: setattr(server, "wal_full", False))
    return True


def recover_long(chaos: Chaos) -> bool:
    """A server crashes, and its recovery takes long."""
    server = chaos.any_node().server
    if server.proc is None:
        return False
    server.crash()
    server.long_recovery = True
    chaos.later(5_000, 25_000, lambda: setattr(server, "long_recovery", False))
    return True


def pause_replay(chaos: Chaos) -> bool:
    """Somebody pauses replay on a standby."""
    node = chaos.other()
    if node is None or not node.server.up or node.server.primary:
        return False
    server = node.server
    server.paused_replay = True
    chaos.later(1_000, 15_000, server.resume_replay)
    return True


def drop_slot(chaos: Chaos) -> bool:
    """Somebody ends a standby's walsender on the primary and drops its slot."""
    server, other = primary(chaos), chaos.other()
    if server is None or server.dir is None or other is None:
        return False
    slot = slot_name(other.name)
    if slot not in server.dir.slots:
        return False
    server.dir.slots = tuple(one for one in server.dir.slots if one != slot)
    for stream in list(server.streams):
        if stream.key.node == other.name:
            stream.close_up()
    return True


def canceled(chaos: Chaos) -> bool:
    return end_waits(chaos, "commits.canceled", Server.cancel_waits)


def terminated(chaos: Chaos) -> bool:
    def terminate(server: Server) -> None:
        server.drop_sessions(silent=False)

    return end_waits(chaos, "commits.terminated", terminate)


def end_waits(chaos: Chaos, name: str, end: Callable[[Server], None]) -> bool:
    """For a while every commit that is seen to wait for standbys, on any primary, is ended."""

    def hunt() -> Task:
        caught = False
        for _ in range(BURST * 5):
            for node in chaos.world.nodes.values():
                if node.server.waiting and not chaos.over:
                    end(node.server)
                    if not caught:
                        chaos.count(name)
                    caught = True
            yield chaos.rng.randrange(1, 20) * MS

    chaos.world.clock.spawn(None, hunt())
    return False


def write_local(chaos: Chaos) -> bool:
    """A user with synchronous_commit = local writes, even where names are closed; no promise."""
    open_ones = [n.server for n in chaos.world.nodes.values() if n.server.primary and n.server.up]
    if not open_ones:
        return False
    server = chaos.rng.choice(open_ones)

    def write() -> Task:
        for _ in range(BURST):
            server.insert(chaos.world.next_row(), lambda _: None, local=True)
            yield chaos.rng.randrange(1, 100) * MS

    chaos.world.clock.spawn(server.proc, write())
    return True


KINDS = {
    "backend.killed": kill_backend,
    "wal.hangs": hang_wal,
    "wal.full": fill_wal,
    "recovery.long": recover_long,
    "replay.paused": pause_replay,
    "slot.dropped": drop_slot,
    "commits.canceled": canceled,
    "commits.terminated": terminated,
    "writes.local": write_local,
}
