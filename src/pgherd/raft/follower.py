"""What a follower does with what its leader sends: entries, heartbeats, snapshots (paper 5.3, 7).

Owns the acceptance of the leader's log. A (pre-)candidate that hears of a leader of its own term
becomes its follower first, and then acts the same. Numbers in brackets are the decisions of
RAFT.md 4.
"""

from __future__ import annotations

from pgherd.raft.confchange import progress_of
from pgherd.raft.core import Core
from pgherd.raft.types import Msg, ProposalDropped, Snapshot


def handle(core: Core, message: Msg) -> None:
    """Act on a message as a follower; what no rule mentions is ignored."""
    match message.type:
        case "App" | "Heartbeat" | "Snap":
            follow(core, message)
        case "TransferLeader" | "ReadIndex":
            _pass_on(core, message)
        case "ReadIndexResp":
            core.read_states.append((message.index, message.context))
        case "ForgetLeader":
            _forget_leader(core)
        case "Prop":
            raise ProposalDropped(f"node {core.id} follows {core.lead or 'no one'}")


def follow(core: Core, message: Msg) -> None:
    """Act on a message of the leader of this term; it restarts the election count (22)."""
    core.election_elapsed = 0
    core.lead = message.frm
    match message.type:
        case "App":
            _on_append(core, message)
        case "Heartbeat":
            core.log.commit_to(message.commit)
            core.send("HeartbeatResp", message.frm, context=message.context)
        case "Snap":
            _on_snapshot(core, message)


def _on_append(core: Core, message: Msg) -> None:
    """Take entries, or say from where to try next (21)."""
    log = core.log
    if message.index < log.commit:
        core.send("AppResp", message.frm, index=log.commit)
        return
    verified = log.append_from_leader(
        message.entries, prev=message.index, prev_term=message.log_term, commit=message.commit
    )
    if verified is not None:
        core.send("AppResp", message.frm, index=verified)
        return
    hint, hint_term = log.nearest_index(min(message.index, log.last_index()), message.log_term)
    core.send(
        "AppResp",
        message.frm,
        index=message.index,
        log_term=hint_term,
        reject=True,
        reject_hint=hint,
    )


def _on_snapshot(core: Core, message: Msg) -> None:
    """Take a snapshot, unless the log already reaches it (23)."""
    snapshot = message.snapshot or Snapshot()
    if _snapshot_is_needed(core, snapshot):
        _restore(core, snapshot)
    core.send("AppResp", message.frm, index=core.log.commit)


def _snapshot_is_needed(core: Core, snapshot: Snapshot) -> bool:
    """Whether it replaces the log. Not under the hands of who applies committed entries.

    Their changes of configuration would come on top of the snapshot's, which is newer. The leader
    asks again.
    """
    if snapshot.index <= core.log.commit:
        return False
    conf = snapshot.conf
    if core.id not in {*conf.voters, *conf.learners, *conf.voters_outgoing}:
        core.say("WARN", f"refuses a snapshot at {snapshot.index} that does not know this node")
        return False
    if core.log.matches(snapshot.index, snapshot.term):
        core.log.commit_to(snapshot.index)
        return False
    if core.log.handed_over > core.log.applied:
        core.say("INFO", f"takes the snapshot at {snapshot.index} later: entries are being applied")
        return False
    return True


def _restore(core: Core, snapshot: Snapshot) -> None:
    """Replace log and configuration; both are durable before the answer leaves (24)."""
    core.log.restore(snapshot)
    core.conf = snapshot.conf
    core.take_progress(progress_of(snapshot.conf, last_index=snapshot.index))
    core.say("INFO", f"takes the snapshot at {snapshot.index}")


def _pass_on(core: Core, message: Msg) -> None:
    """Send a request to the leader; without one it is lost, and the asker tries again."""
    if core.lead:
        core.pass_on(message)
    else:
        core.say("INFO", f"knows no leader for {message.type}")


def _forget_leader(core: Core) -> None:
    """Be ready to vote, without a new term; a lease rests on remembering (31)."""
    if core.config.read_only != "lease":
        core.lead = 0
