"""The kinds of faults that a storm chooses from.

Owns the table of kinds. A fault that would destroy what no protocol can keep (the only copy, a
second disk before the first is replaced) does not strike. Leaves when they strike to storm.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.sim.clock import MS, SECOND
from pgherd.sim.raft.machine import APPEND, Command
from pgherd.sim.raft.storm import Storm, Strike, both

if TYPE_CHECKING:
    from pgherd.sim.raft.server import Server

BURST = 25
FLAPS = 8


# -- processes -----------------------------------------------------------------------------------


def crash(storm: Storm) -> bool:
    """A process ends."""
    server = storm.anyone()
    server.crash()
    storm.restart_soon(server, 6)
    return True


def crash_leader(storm: Storm) -> bool:
    """The leader's process ends."""
    server = storm.group.leader()
    if server is None:
        return False
    server.crash()
    storm.restart_soon(server, 6)
    return True


def crash_in_write(storm: Storm) -> bool:
    """A process ends while its next write is on the way to the disk: all is there, or none."""
    group, server = storm.group, storm.victim()

    def end() -> None:
        server.crash()
        storm.restart_soon(server, 4)

    def strike(fsync_us: int) -> None:
        group.clock.after(int(storm.random() * fsync_us), end, proc=server.proc)

    server.in_write = strike
    return True


def crash_majority(storm: Storm) -> bool:
    """As many processes end at once as leave no quorum."""
    members = storm.group.members()
    for server in members[: len(members) // 2 + 1]:
        server.crash()
        storm.restart_soon(server, 5)
    return True


def rolling_restart(storm: Storm) -> bool:
    """Every process ends and comes back, one after the other."""
    pause = storm.draw(300, 1500) * MS

    def restart(server: Server) -> None:
        if not storm.over:
            server.crash()
            storm.restart_soon(server, 0.2)

    for step, server in enumerate(storm.group.members()):
        storm.group.clock.after(step * pause, restart, server)
    return True


def power_cut(storm: Storm) -> bool:
    """All processes end at once."""
    for server in storm.group.slots.values():
        server.crash()
        storm.restart_soon(server, 3)
    return True


def pause(storm: Storm) -> bool:
    """A process stands still and then goes on with what it missed."""
    server = storm.victim()
    server.pause()
    storm.lasting(server.resume, (0.3, 4))
    return True


def clock_drift(storm: Storm) -> bool:
    """Monotonic clocks run at different paces."""
    group = storm.group
    for server in group.slots.values():
        server.drift = 0.8 + storm.random() * 0.45

    def undo() -> None:
        for server in group.slots.values():
            server.drift = 1.0

    storm.lasting(undo, (5, 20))
    return True


def wall_clock_step(storm: Storm) -> bool:
    """The wall clocks are set back or forward by an hour; nothing may rest on them."""
    for server in storm.group.slots.values():
        server.wall_step = storm.draw(-3600, 3600) * SECOND
    return True


# -- disks ---------------------------------------------------------------------------------------


def torn_write(storm: Storm) -> bool:
    """The machine loses power in the middle of a transaction."""
    server = storm.victim()
    server.disk.fail_next("torn")
    storm.group.clock.after(storm.draw(0, 400) * MS, server.crash, proc=server.proc)
    storm.restart_soon(server, 4)
    return True


def io_error(storm: Storm) -> bool:
    """The next write fails."""
    storm.victim().disk.fail_next("error")
    return True


def unheard_write(storm: Storm) -> bool:
    """The next write is durable and reported as failed."""
    storm.victim().disk.fail_next("unheard")
    return True


def disk_full(storm: Storm) -> bool:
    """No space for a while."""
    server = storm.victim()
    server.disk_stuck = "full"

    def undo() -> None:
        server.disk_stuck = ""

    storm.lasting(undo, (1, 6))
    return True


def slow_disk(storm: Storm) -> bool:
    """Every fsync takes long."""
    return _slow(storm, (0.2, 2.5), (2, 8))


def hung_disk(storm: Storm) -> bool:
    """An fsync that does not return for many seconds."""
    return _slow(storm, (6, 9), (0.5, 3))


def _slow(storm: Storm, fsync: tuple[float, float], seconds: tuple[float, float]) -> bool:
    server = storm.victim()
    server.fsync_slow = (int(fsync[0] * SECOND), int(fsync[1] * SECOND))

    def undo() -> None:
        server.fsync_slow = None

    storm.lasting(undo, seconds)
    return True


def bit_flip(storm: Storm) -> bool:
    """A record of one disk is damaged; the next start finds it."""
    server = _expendable(storm)
    if server is None:
        return False
    server.disk.corrupt()
    server.crash()
    storm.restart_soon(server, 2)
    return True


def lost_history(storm: Storm) -> bool:
    """A disk is set back to an older copy of itself."""
    server = _expendable(storm)
    if server is None:
        return False
    image, sequence = server.disk.image.copy(), server.disk.sequence

    def set_back() -> None:
        if server is not _expendable(storm, server) or server.disk.acknowledged <= sequence:
            return
        server.crash()
        storm.group.keep_image(server)
        server.disk.roll_back(image, sequence)
        storm.restart_soon(server, 2)

    storm.group.clock.after(storm.draw(1, 4) * SECOND, set_back)
    return True


def _expendable(storm: Storm, server: Server | None = None) -> Server | None:
    """A voter whose disk may be lost: the others are a quorum, and all of them are intact."""
    group = storm.group
    if storm.over or len(group.operator.wanted) < 3 or not group.operator.is_settled():
        return None
    if group.has_lost():
        return None
    return server or storm.anyone()


# -- links ---------------------------------------------------------------------------------------


def split(storm: Storm) -> bool:
    """Two halves."""
    return storm.cut(both(*storm.halves()), (1, 7))


def isolate(storm: Storm) -> bool:
    """One against all, the leader as often as not."""
    slot = storm.victim().slot
    return storm.cut(both([slot], storm.others(slot)), (1, 7))


def one_way(storm: Storm) -> bool:
    """Some hear others, who do not hear them."""
    ones, others = storm.halves()
    return storm.cut([(a, b) for a in ones for b in others], (1, 7))


def partial_mesh(storm: Storm) -> bool:
    """Some pairs do not hear each other."""
    slots = sorted(storm.group.slots)
    pairs = [(a, b) for a in slots for b in slots if a < b and storm.random() < 0.45]
    return storm.cut([*pairs, *((b, a) for a, b in pairs)], (1, 8))


def bridge(storm: Storm) -> bool:
    """Two halves that meet in one server only."""
    ones, others = storm.halves()
    return storm.cut(both(ones[1:] if len(ones) > 1 else ones, others[1:]), (1, 8))


def chain(storm: Storm) -> bool:
    """Everyone hears only two neighbours, in an order of its own."""
    slots = sorted(storm.group.slots, key=lambda slot: storm.random())
    far = [(a, b) for n, a in enumerate(slots) for b in slots[n + 2 :]]
    return storm.cut([*far, *((b, a) for a, b in far)], (1, 8))


def leader_and_one(storm: Storm) -> bool:
    """The leader hears one server only; all others hear each other."""
    leader = storm.group.leader()
    if leader is None:
        return False
    others = storm.others(leader.slot)
    friend = others[storm.draw(0, len(others))] if others else 0
    return storm.cut(both([leader.slot], [one for one in others if one != friend]), (1, 8))


def flapping(storm: Storm) -> bool:
    """Links that come and go."""
    slot = storm.victim().slot
    links = both([slot], [one for one in storm.others(slot) if storm.random() < 0.7])

    def flap(left: int) -> None:
        if left and not storm.over:
            storm.cut(links, (0.1, 0.8))
            storm.group.clock.after(storm.draw(400, 1500) * MS, flap, left - 1)

    flap(FLAPS)
    return bool(links)


# -- messages ------------------------------------------------------------------------------------


def _network_fault(storm: Storm, name: str, value: float, seconds: tuple[float, float]) -> bool:
    network = storm.group.network
    setattr(network, name, value)
    storm.lasting(lambda: setattr(network, name, type(value)(0)), seconds)
    return True


def loss(storm: Storm) -> bool:
    """Messages get lost."""
    return _network_fault(storm, "loss", 0.02 + storm.random() * 0.3, (2, 10))


def duplication(storm: Storm) -> bool:
    """Messages arrive twice."""
    return _network_fault(storm, "repeat", 0.05 + storm.random() * 0.4, (2, 10))


def reordering(storm: Storm) -> bool:
    """Delays so different that messages overtake each other."""
    return _network_fault(storm, "jitter", storm.draw(20, 900) * MS, (2, 8))


def slow_links(storm: Storm) -> bool:
    """Every message takes long."""
    return _network_fault(storm, "slow", storm.draw(30, 300) * MS, (2, 8))


def late_messages(storm: Storm) -> bool:
    """A few messages are seconds late."""
    return _network_fault(storm, "late", storm.draw(500, 5000) * MS, (3, 10))


def lost_type(storm: Storm) -> bool:
    """One kind of message does not get through."""
    kinds = ("App", "AppResp", "Heartbeat", "HeartbeatResp", "VoteResp", "Snap", "PreVoteResp")
    kind = kinds[storm.draw(0, len(kinds))]
    dropped = storm.group.network.dropped
    dropped.add(kind)
    storm.lasting(lambda: dropped.discard(kind), (0.5, 4))
    return True


# -- the group -----------------------------------------------------------------------------------


def member_added(storm: Storm) -> bool:
    """A spare server is wanted."""
    operator = storm.group.operator
    spare = [slot for slot in sorted(storm.group.slots) if slot not in operator.wanted]
    if not spare or storm.group.has_lost():
        return False
    operator.want(spare[storm.draw(0, len(spare))])
    return True


def member_removed(storm: Storm) -> bool:
    """A member is not wanted any more."""
    group = storm.group
    if len(group.operator.wanted) < 2 or group.has_lost():
        return False
    group.operator.wanted.discard(storm.victim().slot)
    return True


def member_replaced(storm: Storm) -> bool:
    """One goes, another comes."""
    return member_added(storm) and member_removed(storm)


def change_and_crash(storm: Storm) -> bool:
    """The leader crashes just after it applies the next change of members."""
    storm.group.operator.crash_at_change = True
    return member_added(storm) or member_removed(storm)


def transfer(storm: Storm) -> bool:
    """Leadership is handed to someone."""
    leader = storm.group.leader()
    if leader is None:
        return False
    leader.transfer(storm.anyone().id)
    return True


def transfer_and_isolate(storm: Storm) -> bool:
    """Leadership is handed to someone who is cut off as soon as the word has arrived."""
    group, leader = storm.group, storm.group.leader()
    if leader is None or len(group.members()) < 2:
        return False
    target = storm.anyone()
    leader.transfer(target.id)

    def cut_off() -> None:
        if not storm.over:
            storm.cut(both([target.slot], storm.others(target.slot)), (1, 7))

    group.clock.after(storm.draw(1, 4) * MS, cut_off)
    return True


def late_transfer(storm: Storm) -> bool:
    """Leadership is handed over, and the word to stand arrives seconds later."""
    network = storm.group.network
    network.held.add("TimeoutNow")
    network.late = max(network.late, 3 * SECOND)
    return transfer(storm)


def burst(storm: Storm) -> bool:
    """Many commands at once, from nobody who retries."""
    leader = storm.group.leader()
    if leader is None:
        return False
    group = storm.group
    caller = 1000 + group.faults["burst"]
    for seq in range(1, BURST + 1):
        if leader.up:
            command = Command(APPEND, caller, seq, 9, caller * 1_000_000 + seq)
            leader.write(command, lambda outcome, lead: None)
    return True


KINDS: dict[str, Strike] = {
    kind.__name__: kind
    for kind in (
        crash,
        crash_leader,
        crash_in_write,
        crash_majority,
        rolling_restart,
        power_cut,
        pause,
        clock_drift,
        wall_clock_step,
        torn_write,
        io_error,
        unheard_write,
        disk_full,
        slow_disk,
        hung_disk,
        bit_flip,
        lost_history,
        split,
        isolate,
        one_way,
        partial_mesh,
        bridge,
        chain,
        leader_and_one,
        flapping,
        loss,
        duplication,
        slow_links,
        reordering,
        late_messages,
        lost_type,
        member_added,
        member_removed,
        member_replaced,
        change_and_crash,
        transfer,
        transfer_and_isolate,
        late_transfer,
        burst,
    )
}
"""name -> what it does."""

EFFECTS = (
    "amnesia_declared",
    "lease_end_refused",
    "lease_ended",
    "members_changed",
    "message_blocked",
    "message_late",
    "message_lost",
    "message_overtaking",
    "message_repeated",
    "message_slow",
    "retry_answered",
    "snapshot_installed",
    "snapshot_made",
    "tail_replaced",
    "unsynced_write_lost",
    "write_error",
    "write_full",
    "write_torn",
    "write_unheard",
)
"""What faults must have done in a run of many seeds: one that strikes nothing proves nothing."""
