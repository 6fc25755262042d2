"""What a leader does: proposals, answers of followers, heartbeats, transfer (paper 5.3).

Owns the leader's side of the conversation. Leaves what is sent to replicate.py, reads to reads.py
and what a change of configuration means to membership.py. Numbers in brackets are the decisions
of RAFT.md 4.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from pgherd.raft import membership, reads
from pgherd.raft import progress as flow
from pgherd.raft.core import Core
from pgherd.raft.readindex import Read
from pgherd.raft.replicate import append, append_all, count, heartbeat_all
from pgherd.raft.types import Entry, Msg, ProposalDropped
from pgherd.raft.votes import vote_result


def take_office(core: Core) -> None:
    """Lead: an empty entry of the own term commits what came before (10)."""
    core.become_leader()
    append_own(core, (Entry(),))
    append_all(core)


def handle(core: Core, message: Msg) -> None:
    """Act on a message as leader; of nodes outside the configuration only requests count."""
    match message.type:
        case "Prop":
            propose(core, message.entries)
        case "ReadIndex":
            reads.ask(core, Read(message.frm or core.id, message.context))
        case kind if message.frm in core.progress:
            answer = ANSWERS.get(kind)
            if answer is not None:
                answer(core, message)


# -- proposals -----------------------------------------------------------------------------------


def propose(core: Core, entries: tuple[Entry, ...]) -> None:
    """Append proposals and send them; raises ProposalDropped when they may not be (11)."""
    if core.id not in core.progress:
        raise ProposalDropped(f"node {core.id} is no member any more")
    if core.transfer_target:
        raise ProposalDropped(f"leadership is on its way to {core.transfer_target}")
    _check_uncommitted(core, entries)
    first = core.log.last_index() + 1
    append_own(
        core,
        tuple(membership.checked(core, one, at=first + n) for n, one in enumerate(entries)),
    )
    append_all(core)


def leave_if_due(core: Core) -> None:
    """Leave a joint configuration that asked to be left, once its entry is applied (27).

    Asked again whenever more is applied, so that a transfer in between only delays it.
    """
    if not (core.role == "leader" and core.conf.auto_leave):
        return
    if core.log.applied >= core.pending_conf:
        try:
            propose(core, (Entry(type="conf2"),))
        except ProposalDropped as why:
            core.say("DEBUG", f"leaves the joint configuration later: {why}")


def append_own(core: Core, entries: tuple[Entry, ...]) -> None:
    """Put entries at the end of the log; the own acknowledgement follows when they are stored."""
    first = core.log.last_index() + 1
    placed = [
        replace(entry, term=core.term, index=first + offset) for offset, entry in enumerate(entries)
    ]
    core.uncommitted_bytes += payload_bytes(placed)
    core.send("AppResp", core.id, index=core.log.append(placed))


def payload_bytes(entries: list[Entry] | tuple[Entry, ...]) -> int:
    """What entries count against the limit of what waits for a quorum."""
    return sum(len(entry.data) for entry in entries)


def _check_uncommitted(core: Core, entries: tuple[Entry, ...]) -> None:
    """Without a quorum the tail must not grow for ever; one proposal is always let in."""
    limit, size = core.config.max_uncommitted_size, payload_bytes(entries)
    if limit is None or not core.uncommitted_bytes or not size:
        return
    if core.uncommitted_bytes + size > limit:
        raise ProposalDropped(f"{core.uncommitted_bytes} bytes wait for a quorum already")


# -- answers -------------------------------------------------------------------------------------


def _on_append_reply(core: Core, message: Msg) -> None:
    """A follower (or this node) stored up to an index, or refused an append (15, 16)."""
    peer = core.heard(message.frm)
    if message.reject:
        _on_reject(core, message)
        return
    moved = flow.acknowledged(peer, message.index)
    if moved is None and not (peer.state == "probe" and message.index == peer.match):
        return
    core.progress[message.frm] = flow.resume(
        moved or peer, index=message.index, first=core.log.first_index()
    )
    _after_progress(core, message.frm)


def _after_progress(core: Core, node: int) -> None:
    """A node has more than before: commit, tell it, send on, finish a transfer (15)."""
    if count(core):
        reads.release_early(core)
        append_all(core)
    elif node != core.id and flow.commit_is_news(core.progress[node], core.log.commit):
        append(core, node)
    if node == core.id:
        return
    while append(core, node, empty_ok=False):
        pass
    if node == core.transfer_target and core.progress[node].match == core.log.last_index():
        core.send("TimeoutNow", node)


def _on_reject(core: Core, message: Msg) -> None:
    """Go back to where the logs may still be equal, skipping whole terms where possible (16)."""
    hint = message.reject_hint
    if message.log_term > 0:
        hint, _ = core.log.nearest_index(hint, message.log_term)
    peer = flow.rejected(core.progress[message.frm], index=message.index, hint=hint)
    if peer is not None:
        core.progress[message.frm] = peer
        append(core, message.frm)


def _on_heartbeat_reply(core: Core, message: Msg) -> None:
    """A node is there: probe it if it lacks something (18), and count it for reads."""
    peer = core.heard(message.frm)
    if peer.flow_paused:
        peer = core.update(message.frm, flow_paused=False)
    if peer.match < core.log.last_index() or peer.state == "probe":
        append(core, message.frm)
    core.reads.acknowledge(message.frm, message.context)
    reads.release_confirmed(core)


def _on_unreachable(core: Core, message: Msg) -> None:
    """What was streamed is probably lost (20)."""
    peer = core.progress[message.frm]
    if peer.state == "replicate":
        core.progress[message.frm] = flow.become_probe(peer)


def _on_snapshot_status(core: Core, message: Msg) -> None:
    peer = core.progress[message.frm]
    core.progress[message.frm] = flow.snapshot_reported(peer, ok=not message.reject)


def _on_transfer(core: Core, message: Msg) -> None:
    """Hand leadership to the node named as sender, once it has the whole log (30)."""
    target = message.frm
    peer = core.progress[target]
    if peer.learner or target == core.transfer_target:
        return
    core.transfer_target = 0
    if target == core.id:
        return
    core.say("INFO", f"hands leadership to {target}")
    core.election_elapsed = 0
    core.transfer_target = target
    if peer.match == core.log.last_index():
        core.send("TimeoutNow", target)
    else:
        append(core, target)


ANSWERS: dict[str, Callable[[Core, Msg], None]] = {
    "AppResp": _on_append_reply,
    "HeartbeatResp": _on_heartbeat_reply,
    "Unreachable": _on_unreachable,
    "SnapStatus": _on_snapshot_status,
    "TransferLeader": _on_transfer,
}


# -- time ----------------------------------------------------------------------------------------


def tick(core: Core) -> None:
    """One tick of a leader (28)."""
    core.election_elapsed += 1
    core.heartbeat_elapsed += 1
    if core.election_elapsed >= core.config.election_tick:
        core.election_elapsed = 0
        if core.config.check_quorum:
            _check_quorum(core)
        core.transfer_target = 0
    if core.role == "leader" and core.heartbeat_elapsed >= core.config.heartbeat_tick:
        core.heartbeat_elapsed = 0
        heartbeat_all(core)


def _check_quorum(core: Core) -> None:
    """Step down unless a quorum was heard of since the last check (29)."""
    heard = {
        node: node == core.id or peer.active
        for node, peer in core.progress.items()
        if not peer.learner
    }
    if vote_result(core.conf, heard) != "won":
        core.say("WARN", "hears of no quorum")
        core.become_follower(core.term, 0, "no quorum")
    for node in core.peers():
        core.update(node, active=False)
