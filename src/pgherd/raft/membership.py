"""Changes of configuration: when one may be proposed, and what follows once one is applied.

Owns the rule of one change at a time, which counts from the *application* of the last one: a
change may be proposed only after everything of this leader's predecessors is applied (Ongaro 2015:
without that, changes of two terms can make disjoint majorities). Leaves what a configuration
becomes to confchange.py. Numbers in brackets are the decisions of RAFT.md 4.
"""

from __future__ import annotations

from pgherd.raft import reads
from pgherd.raft.confchange import change_conf, change_mode, decode_conf_change
from pgherd.raft.core import Core
from pgherd.raft.replicate import append, append_all, count
from pgherd.raft.types import ConfOp, ConfState, Entry, Transition


def checked(core: Core, entry: Entry, *, at: int) -> Entry:
    """The proposal that will be appended at an index: a refused change becomes empty (12)."""
    if entry.type == "normal":
        return entry
    ops, _ = decode_conf_change(entry)
    why = _refusal(core, leaving=not ops)
    if why and not core.config.disable_conf_change_validation:
        core.say("INFO", f"appends nothing for a change of configuration: {why}")
        return Entry()
    core.pending_conf = at
    return entry


def _refusal(core: Core, *, leaving: bool) -> str:
    """Why a change must wait; empty when it need not."""
    joint = bool(core.conf.voters_outgoing)
    if core.pending_conf > core.log.applied:
        return f"the one at {core.pending_conf} may not be applied, {core.log.applied} is"
    if joint and not leaving:
        return "the joint configuration comes first"
    if leaving and not joint:
        return "there is no joint configuration to leave"
    return ""


def apply(core: Core, ops: list[ConfOp], transition: Transition) -> ConfState:
    """Put a committed change in force; raises ConfChangeError and changes nothing (26)."""
    conf, progress = change_conf(
        core.conf,
        core.progress,
        ops,
        mode=change_mode(ops, transition),
        auto_leave=transition != "explicit",
        last_index=core.log.last_index(),
    )
    core.conf = conf
    core.take_progress(progress)
    core.say("INFO", f"configuration is now {conf}")
    if core.role == "leader":
        _lead_on(core)
    return conf


def _lead_on(core: Core) -> None:
    """What a leader does after a change: step down, or use the new quorum and its members."""
    own = core.progress.get(core.id)
    if own is None or own.learner:
        if core.config.step_down_on_removal:
            core.become_follower(core.term, 0, "not a voter")
        return
    if count(core):
        reads.release_early(core)
        append_all(core)
    else:
        for node in core.peers():
            append(core, node, empty_ok=False)
    reads.release_confirmed(core)
    if core.transfer_target not in {*core.conf.voters, *core.conf.voters_outgoing}:
        core.transfer_target = 0
