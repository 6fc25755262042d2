"""What a change of the replication mode does to the ledger (PROTOCOL.md 5, F3, and 8).

To mode async in one command: the set is empty and the mode is another one at once, and an expired
lease counts for an election only when the leader was seen to work under it (`Lease.alone_at`), for
one that has not heard of the change may still be acknowledged by standbys. From mode async together
with the first set: until then nothing more is promised than before.
"""

from __future__ import annotations

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.ledger.outcome import Result, note, refuse
from pgherd.ledger.syncset import stepped as set_stepped
from pgherd.model.facts import Facts, Mode, Phase, SyncState
from pgherd.model.lease import Lease
from pgherd.model.synctuning import COMMITS, LAG_BYTES_LEAST, weakens

replace = msgspec.structs.replace

STRICT_COMMITS = (
    "synchronous_commit {commit} acknowledges commits that no standby has on disk, and mode strict"
    " promises that one has: {first} first"
)
NO_VOTERS = "mode async has no voters"


def set_mode(facts: Facts, c: cmd.SetMode, at_ms: int) -> Result:
    """From any mode to any other, where a command may say so now."""
    why = too_weak(facts, c)
    if why:
        return refuse(facts, "unsafe", why)
    wish = asked(facts, c)
    if isinstance(wish, str):
        return refuse(facts, "not_stable", wish)
    return note(wish, at_ms=at_ms, kind="mode.set", text=sentence(wish, c)), cmd.Done()


def asked(facts: Facts, c: cmd.SetMode) -> Facts | str:
    """The facts after somebody asked for a mode; a text where that has to wait."""
    new = replace(facts, num_sync=c.num_sync, mode_wanted=None)
    if c.mode is Mode.ASYNC:
        if facts.phase in (Phase.ELECTING, Phase.ESTABLISHING) and facts.mode is not Mode.ASYNC:
            return f"term {facts.term} is {facts.phase.value}"
        return replace(new, mode=Mode.ASYNC, sync=emptied(facts) or facts.sync)
    if facts.mode is Mode.ASYNC and facts.phase is not Phase.UNBORN:
        return replace(new, mode_wanted=c.mode)
    return replace(new, mode=c.mode)


def too_weak(facts: Facts, c: cmd.SetMode) -> str:
    """Why mode strict cannot be promised as commits wait now; "" when it can, or another is."""
    if c.mode is not Mode.STRICT or not weakens(facts.tuning.commit):
        return ""
    return STRICT_COMMITS.format(commit=facts.tuning.commit, first="set it to on")


def tune(facts: Facts, c: cmd.TuneSync, at_ms: int) -> Result:
    """Limits count at the next decision; what is weaker than the mode promises, never in strict."""
    new = c.tuning
    if new.commit and new.commit not in COMMITS:
        return refuse(facts, "invalid", f"synchronous_commit is one of {', '.join(COMMITS)}")
    if Mode.STRICT in (facts.mode, facts.mode_wanted) and weakens(new.commit):
        why = STRICT_COMMITS.format(commit=new.commit, first="take mode quorum")
        return refuse(facts, "unsafe", why)
    if 0 < new.max_lag_bytes < LAG_BYTES_LEAST:
        return refuse(facts, "invalid", f"a lag limit is 0 or at least {LAG_BYTES_LEAST} bytes")
    strangers = [node for node in new.nosync if node not in facts.members]
    if strangers:
        return refuse(facts, "unknown_node", f"{strangers[0]} is no member")
    facts = replace(facts, tuning=new)
    return note(facts, at_ms=at_ms, kind="sync.tuned", text=tuned(c)), cmd.Done()


def tuned(c: cmd.TuneSync) -> str:
    """The wish in words, for history."""
    new = c.tuning
    parts = [
        f"synchronous_commit {new.commit or 'as configured'}",
        f"lag limit {new.max_lag_bytes} bytes" if new.max_lag_bytes else "no lag limit",
        f"without {', '.join(new.nosync)}" if new.nosync else "",
        f"asked for by {c.requested_by}",
    ]
    return ", ".join(part for part in parts if part)


def emptied(facts: Facts) -> SyncState | None:
    """No set any more, for the ledger and for PostgreSQL; None outside of a stable term."""
    if facts.phase is not Phase.STABLE:
        return None
    nobody = cmd.ChangeSync(
        term=facts.term,
        generation=facts.sync.generation,
        settled=False,
        voters=(),
        k=0,
        kd=0,
        r=0,
        names=(),
        names_k=0,
        rule=0,
        reason="",
    )
    return set_stepped(facts.sync, nobody)


def sentence(facts: Facts, c: cmd.SetMode) -> str:
    """What became of the wish, for history."""
    by = f", asked for by {c.requested_by}" if c.requested_by else ""
    waits = " once a standby has everything" if facts.mode_wanted is not None else ""
    return f"replication mode {c.mode.value}{waits}, num_sync {c.num_sync or 'auto'}{by}"


def broken_rule(facts: Facts, c: cmd.ChangeSync) -> str:
    """Why a step of the sync set does not fit the mode; "" when it does."""
    if c.mode is not None and (c.mode is Mode.ASYNC or c.mode is not facts.mode_wanted):
        return f"nobody asked for mode {c.mode.value}"
    return NO_VOTERS if c.voters and (c.mode or facts.mode) is Mode.ASYNC else ""


def stepped(facts: Facts, c: cmd.ChangeSync) -> Facts:
    """The mode after a step that brings one into force."""
    return facts if c.mode is None else replace(facts, mode=c.mode, mode_wanted=None)


def lease_established(facts: Facts, sync: SyncState) -> Lease | None:
    """The lease of a term that begins to acknowledge.

    In mode async it bounds the leader's writes from the first one on: who opens without a set has
    applied all of this.
    """
    lease = facts.lease
    if lease is None or facts.mode is not Mode.ASYNC or lease.term != facts.term:
        return lease
    return replace(lease, alone_at=sync.generation)
