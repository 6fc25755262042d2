"""What a change of the replication mode does to the ledger (PROTOCOL.md 5, F3, and 8).

To mode async in one command: the set is empty and the mode is another one at once, and an expired
lease counts for an election only when the leader was seen to work under it (`Lease.alone_at`), for
one that has not heard of the change may still be acknowledged by standbys. From mode async together
with the first set: until then nothing more is promised than before.
"""

from __future__ import annotations

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.ledger.syncset import stepped as set_stepped
from pgherd.model.facts import Facts, Mode, Phase, SyncState
from pgherd.model.lease import Lease

replace = msgspec.structs.replace

NO_VOTERS = "mode async has no voters"


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
