"""The known mistakes of Raft implementations (RAFT.md 2), each as the wrong function.

Every function here is a copy or a wrapper of a right one in `pgherd.raft` (or of the simulated
driver and state machine) with one mistake in it. mutants.py says which replaces what, and puts them
in place for the length of a run only. Nothing outside of the simulator imports this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from pgherd.raft import election, membership, reads, replicate
from pgherd.raft import progress as flow
from pgherd.raft.confchange import decode_conf_change
from pgherd.raft.core import Core
from pgherd.raft.log import RaftLog
from pgherd.raft.majority import committed_index
from pgherd.raft.node import RaftNode
from pgherd.raft.readindex import Read
from pgherd.raft.types import (
    PERSISTENT_REPLIES,
    Entry,
    Hard,
    Msg,
    MsgType,
    Progress,
    Ready,
    Role,
    Snapshot,
)
from pgherd.sim.raft.machine import Command, Machine
from pgherd.sim.raft.server import TICK_US, Server
from pgherd.store.base import StoreDamaged, StoreFailed
from pgherd.store.memory import MemoryStore

RIGHT_SEND = Core.send
RIGHT_BECOME_LEADER = Core.become_leader
RIGHT_ADVANCE = RaftNode.advance
RIGHT_CHECKED = membership.checked
RIGHT_ON_VOTE = election.on_vote_request
RIGHT_REJECTED = flow.rejected
FAR_BACK = 5
RIGHT_OPEN = Server.open_store
RIGHT_SYNC = Server.sync

# -- durability ----------------------------------------------------------------------------------


def hard_without_vote(core: Core) -> Hard:
    """M1: the vote is not stored."""
    return Hard(core.term, 0, core.log.commit)


def send_acknowledgement_at_once(
    core: Core, kind: MsgType, to: int, *, term: int | None = None, **fields: Any
) -> None:
    """M2: an append is acknowledged before it is stored."""
    if kind == "AppResp" and to != core.id:
        core.messages.append(Msg(type=kind, frm=core.id, to=to, term=core.term, **fields))
    else:
        RIGHT_SEND(core, kind, to, term=term, **fields)


def acknowledgement_need_not_wait(server: Server, message: Msg) -> bool:
    """M2, in the driver."""
    return message.type in PERSISTENT_REPLIES and message.type != "AppResp"


def append_own_and_count(core: Core, entries: tuple[Entry, ...]) -> None:
    """M3: the leader counts itself before its own write is durable."""
    first = core.log.last_index() + 1
    placed = [replace(one, term=core.term, index=first + n) for n, one in enumerate(entries)]
    last = core.log.append(placed)
    core.update(core.id, match=last, next=last + 1)
    replicate.count(core)
    RIGHT_SEND(core, "AppResp", core.id, index=last)


def open_cutting_what_is_damaged(server: Server) -> MemoryStore:
    """M19: a damaged log is cut at the damage, as if the rest had never been acknowledged."""
    try:
        return RIGHT_OPEN(server)
    except StoreDamaged:
        disk = server.disk
        image = disk.image.copy()
        keep = len(image.log) * 2 // 3
        image.log = image.log[:keep]
        image.hard = image.hard._replace(commit=min(image.hard.commit, image.last_index))
        disk.image, disk.damage, disk.acknowledged = image, "", disk.sequence
        return RIGHT_OPEN(server)


def sync_again_after_an_error(server: Server) -> None:
    """M20: a failed fsync is retried, and the second one has nothing left to write."""
    try:
        RIGHT_SYNC(server)
    except StoreFailed:
        server.store._failure = None
        RIGHT_SYNC(server)


# -- logs ----------------------------------------------------------------------------------------


def count_any_term(core: Core) -> bool:
    """M4: entries of earlier terms are committed by counting."""
    index = committed_index(core.conf, {one: peer.match for one, peer in core.progress.items()})
    if index is None or index <= core.log.commit:
        return False
    core.log.commit_to(index)
    return True


def append_and_commit_by_length(
    log: RaftLog, entries: Sequence[Entry], *, prev: int, prev_term: int, commit: int
) -> int | None:
    """M5: the commit index is clamped by the length of the log, not by what was verified."""
    if not log.matches(prev, prev_term):
        return None
    for position, entry in enumerate(entries):
        if not log.matches(entry.index, entry.term):
            log.append(entries[position:])
            break
    log.commit_to(min(commit, log.last_index()))
    return prev + len(entries)


def rejected_far(progress: Progress, *, index: int, hint: int) -> Progress | None:
    """No mistake: a leader that goes back further than it must, as M5 needs to be seen."""
    right = RIGHT_REJECTED(progress, index=index, hint=hint)
    if right is None or right.state != "probe":
        return right
    following = max(right.next - FAR_BACK, right.match + 1)
    return replace(right, next=following, sent_commit=min(right.sent_commit, following - 1))


def heartbeat_with_own_commit(core: Core) -> None:
    """M5b: a heartbeat tells a commit index beyond what is known to match."""
    for node in core.peers():
        context = core.reads.context()
        core.send("Heartbeat", node, commit=core.log.commit, context=context)


def append_and_cut(
    log: RaftLog, entries: Sequence[Entry], *, prev: int, prev_term: int, commit: int
) -> int | None:
    """M6: every append cuts what follows, so an old one removes what was acknowledged since."""
    if not log.matches(prev, prev_term):
        return None
    log.append(entries)
    verified = prev + len(entries)
    log.commit_to(min(commit, verified))
    return verified


def snapshot_is_always_needed(core: Core, snapshot: Snapshot) -> bool:
    """M17: a snapshot replaces a newer log."""
    conf = snapshot.conf
    return core.id in {*conf.voters, *conf.learners, *conf.voters_outgoing}


def snapshot_is_needed_by_index(core: Core, snapshot: Snapshot) -> bool:
    """M17b: an entry at the snapshot's index is taken for the same, whatever its term."""
    if snapshot.index <= core.log.commit or not snapshot_is_always_needed(core, snapshot):
        return False
    if core.log.term_or_none(snapshot.index) is not None:
        core.log.commit_to(snapshot.index)
        return False
    return True


def snapshot_report_is_ignored(progress: Progress, *, ok: bool) -> Progress:
    """M17c: whoever a snapshot was lost to, waits for it for ever."""
    return progress


# -- membership ----------------------------------------------------------------------------------


def become_leader_free_to_change(core: Core) -> None:
    """M7: a new leader does not wait for changes that its predecessors left unapplied."""
    RIGHT_BECOME_LEADER(core)
    core.pending_conf = 0


def checked_and_applied(core: Core, entry: Entry, *, at: int) -> Entry:
    """M8: the leader applies a change when it appends it, and never takes it back."""
    checked = RIGHT_CHECKED(core, entry, at=at)
    if checked.type != "normal" and checked.data:
        ops, transition = decode_conf_change(checked)
        membership.apply(core, ops, transition)
    return checked


def learners_refuse(core: Core, message: Msg) -> None:
    """M9: a learner gives no vote, though it may have been promoted without knowing."""
    own = core.progress.get(core.id)
    if own is None or not own.learner:
        RIGHT_ON_VOTE(core, message)


def lead_on_outside(core: Core) -> None:
    """M10: a leader that was removed goes on."""
    if core.id in core.progress and replicate.count(core):
        reads.release_early(core)
        replicate.append_all(core)


def anyone_can_stand(core: Core) -> bool:
    """M23: a node that does not vote stands for election."""
    return core.role != "leader" and core.id in core.progress and not core.log.unstable.snapshot


# -- elections and time --------------------------------------------------------------------------


def no_answer_to_older(core: Core, message: Msg) -> None:
    """M11: whoever has reached a higher term alone is never told of."""


def advance_believing_old_replies(node: RaftNode, rd: Ready) -> None:
    """M12: a vote or acknowledgement to oneself counts in whatever term it comes back."""
    handed, core = node._handed, node._core
    assert handed is not None
    wanted: dict[Role, str] = {"leader": "AppResp", "candidate": "VoteResp"}
    replies = tuple(
        replace(reply, term=core.term) if wanted.get(core.role) == reply.type else reply
        for reply in handed.own_replies
    )
    node._handed = handed._replace(own_replies=replies)
    RIGHT_ADVANCE(node, rd)


def no_leader_is_heard(core: Core) -> bool:
    """M21: votes are given while a leader is there."""
    return False


def quorum_is_not_checked(core: Core) -> None:
    """M21: a leader that hears nobody stays."""


def nothing_is_urgent(node: RaftNode) -> tuple[Msg, ...]:
    """M22: heartbeats wait for the disk."""
    return ()


def next_tick_by_wall_clock(server: Server) -> None:
    """M25: the timer's end is a time of day, which is set back by an hour."""
    step, server.wall_step = server.wall_step, 0
    server._after_ticks(max(0.1 * TICK_US, server.tick_us() - step))


# -- reads, leases, sessions ---------------------------------------------------------------------


def read_without_asking(core: Core, read: Read) -> None:
    """M13: whoever believes to lead answers from what it has."""
    reads._answer(core, read._replace(at=core.log.commit))


def read_before_own_term(core: Core, read: Read) -> None:
    """M14: a new leader answers from a commit index that may be behind."""
    reads._serve(core, read)
    if core.reads.context():
        replicate.heartbeat_all(core)


def serve_by_lease(core: Core, read: Read) -> None:
    """M15: a leader trusts that nobody else leads yet."""
    reads._answer(core, read._replace(at=core.log.commit))


def any_lease_may_expire(machine: Machine, command: Command) -> bool:
    """M16: the end of a lease is not bound to the renewal that was seen to run out."""
    return machine.leases.get(command.key, 0) != 0


def forward_the_end(server: Server, command: Command) -> None:
    """M16: who led once sends the end of a lease to who leads now."""
    leader_now = server.group.network.servers.get(server.node.lead)
    if leader_now is not None and leader_now.up:
        leader_now.write(command, lambda outcome, lead: None)


def expire_leases_as_anyone(server: Server) -> None:
    """M16: whoever remembers deadlines acts on them."""
    for key, (renewal, deadline) in server._deadlines.items():
        if server._ticks >= deadline:
            server._deadlines[key] = (renewal, server._ticks + 3)
            server.propose_end(Command(3, 0, 0, key, renewal))


def no_session(machine: Machine, command: Command) -> int | None:
    """M18: a retry is applied again."""
    return None


def no_sessions_in_snapshot(machine: Machine) -> list[tuple[int, int, int]]:
    """M18b: a replica that was restored does not know retries."""
    return []
