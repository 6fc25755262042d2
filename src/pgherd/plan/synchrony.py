"""Rules 501-510: the sync set follows who streams, one step at a time (PROTOCOL.md 4).

Strengthening what PostgreSQL does comes before relaxing what electors need, and the other way
round, as the table there states; the ledger refuses a step that would break (Q).
"""

from __future__ import annotations

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.ledger.syncset import half_done, seal_count
from pgherd.model.facts import Mode, Phase, SyncState
from pgherd.model.ids import MemberKey
from pgherd.model.observation import Observation
from pgherd.plan.look import (
    is_leaving,
    is_resting,
    is_slow,
    is_strict,
    leader_report,
    num_sync,
    streaming,
    wants_sync,
)
from pgherd.plan.rule import Decision, HerdRule, Situation


def stable_leader(s: Situation, *, weaker: bool = False) -> Observation | None:
    """The leader's report when the set may change now.

    weaker: by a step that a switchover would wait for, or in the ledger alone, which ends no
    walsender; any other would end the stream of the candidate that a switchover waits for.
    """
    if s.facts.phase is not Phase.STABLE or (s.facts.switchover is not None and not weaker):
        return None
    return leader_report(s)


def step(
    s: Situation, rule: int, reason: str, new: SyncState, *, settled: bool = False
) -> Decision:
    command = cmd.ChangeSync(
        term=s.facts.term,
        generation=s.facts.sync.generation,
        settled=settled,
        voters=new.voters,
        k=new.k,
        kd=new.kd,
        r=new.r,
        names=new.names,
        names_k=new.names_k,
        rule=rule,
        reason=reason,
        mode=s.facts.mode_wanted if new.voters else None,
    )
    return Decision(rule, reason, command)


def changed(
    sync: SyncState,
    *,
    voters: tuple[MemberKey, ...] | None = None,
    k: int | None = None,
    kd: int | None = None,
    names: tuple[MemberKey, ...] | None = None,
    names_k: int | None = None,
) -> SyncState:
    """A next state with R at rest for its voters and k."""
    voters = sync.voters if voters is None else voters
    k = sync.k if k is None else k
    return SyncState(
        voters=voters,
        k=k,
        kd=sync.kd if kd is None else kd,
        r=seal_count(len(voters), k),
        names=sync.names if names is None else names,
        names_k=sync.names_k if names_k is None else names_k,
        generation=sync.generation,
        in_use=sync.in_use,
    )


def wanted_set(s: Situation, report: Observation) -> tuple[MemberKey, ...]:
    """Who should be in V: streaming, able and close; at most twice num_sync.

    Members of V first, then other zones than the leader's. A voter that streams stays whatever its
    lag is, unless people asked for a limit and there are enough others: leaving is for the silent.
    """
    sync, server = s.facts.sync, report.server
    near = server.insert_lsn - admission_lag(s)
    found = [
        key
        for key, sender in streaming(report, s.facts.term).items()
        if wants_sync(s, key) and (key in sync.voters or sender.flush_lsn >= near)
    ]
    members = s.facts.members
    home = members[report.node].tags.zone if report.node in members else ""
    found.sort(key=lambda key: (key not in sync.voters, members[key.node].tags.zone == home, key))
    wanted = num_sync(s.facts, s.policy)
    others = [key for key in found if not (is_resting(s.facts, key) or is_slow(s, report, key))]
    return tuple(sorted((others if len(others) >= wanted else found)[: 2 * wanted]))


def admission_lag(s: Situation) -> int:
    """How close a newcomer has to be: well within the limit, or it would go as it came."""
    limit = s.facts.tuning.max_lag_bytes
    return min(s.policy.admission_lag_bytes, limit // 2 or s.policy.admission_lag_bytes)


def unsettled(s: Situation) -> Decision | None:
    """The second half of a step, when the leader reports the barrier complete."""
    report, sync = stable_leader(s), s.facts.sync
    if report is None or not half_done(sync) or is_outlived(s):
        return None
    if sync.in_use and report.server.settled < sync.generation:
        if barrier_is_hopeless(s, report):
            return None
        return Decision(501, "waits for the barrier of the newest synchronous set")
    if report.server.names_generation < sync.generation:
        return Decision(501, "waits until the leader uses the newest synchronous set")
    names, k = sync.names, sync.names_k
    new = changed(sync, voters=names, k=k, kd=k)
    reason = f"the sync set is {describe(names, k)} everywhere"
    return step(s, 501, reason, new, settled=True)


def barrier_is_hopeless(s: Situation, report: Observation) -> bool:
    """A barrier that waits for standbys that have gone."""
    alive = [key for key in s.facts.sync.names if key in streaming(report, s.facts.term)]
    return len(alive) < s.facts.sync.names_k and out_of_patience(s)


def is_outlived(s: Situation) -> bool:
    """Whether a copy that was to come in has been replaced meanwhile: it waits for nobody."""
    new = [key for key in s.facts.sync.names if key not in s.facts.sync.voters]
    return any(s.facts.member(key) is None for key in new)


def undo(s: Situation) -> Decision | None:
    """A barrier that cannot complete: PostgreSQL goes back to what the store has.

    Also while a switchover waits: the primary checkpoints for it only when the barrier is done.
    """
    report, sync = stable_leader(s, weaker=True), s.facts.sync
    if report is None or not half_done(sync):
        return None
    if not is_outlived(s) and not barrier_is_hopeless(s, report):
        return None
    new = changed(sync, names=sync.voters, names_k=sync.k)
    return step(s, 508, f"back to {describe(sync.voters, sync.k)}: the barrier cannot end", new)


def out_of_patience(s: Situation) -> bool:
    return s.now - s.view.names_since >= s.policy.sync_timeout_ms


def describe(names: tuple[MemberKey, ...], k: int) -> str:
    return f"any {k} of {', '.join(key.node for key in names)}" if names else "empty"


def degrade(s: Situation) -> Decision | None:
    """S -> nothing: the ledger first, then PostgreSQL; only in mode quorum."""
    report, sync = stable_leader(s, weaker=True), s.facts.sync
    if report is None or not sync.voters or is_strict(s.facts):
        return None
    streams = streaming(report, s.facts.term)
    alive = [key for key in sync.names if key in streams and not is_leaving(s.facts, key)]
    if wanted_set(s, report) or alive:
        return None
    if not quiet_for(s, sync.voters):
        return Decision(502, "no voter streams; waits for the sync timeout")
    new = changed(sync, voters=(), k=0, kd=0, names=(), names_k=0)
    return step(s, 502, "no synchronous standby is left: degraded, writes go on alone", new)


def quiet_for(s: Situation, keys: tuple[MemberKey, ...]) -> bool:
    """Whether none of these has streamed for the sync timeout, by the leader's own record.

    A leaving member is not waited for.
    """
    report = leader_report(s)
    if report is None:
        return False
    limit = s.policy.sync_timeout_ms
    waited = [key for key in keys if not is_leaving(s.facts, key)]
    return all(report.missing_ms.get(str(key), 0) >= limit for key in waited)


def restore(s: Situation) -> Decision | None:
    """Nothing -> S: PostgreSQL first, then the barrier, then the ledger (rule 501)."""
    report, sync, mode = stable_leader(s), s.facts.sync, s.facts.mode_wanted or s.facts.mode
    if report is None or sync.voters or half_done(sync) or mode is Mode.ASYNC:
        return None
    wanted = wanted_set(s, report)
    k = min(num_sync(s.facts, s.policy), len(wanted))
    if k == 0 or (mode is Mode.STRICT and k < num_sync(s.facts, s.policy)):
        return None
    new = changed(sync, names=wanted, names_k=k)
    return step(s, 503, f"synchrony returns: {describe(wanted, k)}", new)


def without_copies(s: Situation) -> Decision | None:
    """A mode that was asked for where there is nobody to have copies, as with one data member."""
    facts, sync, mode = s.facts, s.facts.sync, s.facts.mode_wanted
    if stable_leader(s, weaker=True) is None or mode is None or num_sync(facts, s.policy):
        return None
    reason = f"mode {mode.value} wants no copy here and is in force"
    decision = step(s, 509, reason, changed(sync, names=(), names_k=0))
    assert isinstance(decision.command, cmd.ChangeSync)
    return Decision(509, reason, msgspec.structs.replace(decision.command, mode=mode))


def waits_for_copies(s: Situation) -> Decision | None:
    if s.facts.phase is not Phase.STABLE or s.facts.mode_wanted is None or half_done(s.facts.sync):
        return None
    mode = s.facts.mode_wanted.value
    return Decision(510, f"mode {mode} waits for a standby that streams and is close")


def lower_k(s: Situation) -> Decision | None:
    """Fewer acknowledgements: the ledger first (R+1), then PostgreSQL.

    Mode strict never wants fewer than num_sync, which falls with the number of data members.
    """
    report, sync = stable_leader(s, weaker=True), s.facts.sync
    least = max(1, num_sync(s.facts, s.policy)) if is_strict(s.facts) else 1
    if report is None or not sync.voters or sync.k <= least:
        return None
    alive = wanted_set(s, report)
    if len(alive) >= sync.k or not alive or not out_of_patience_with(s, alive):
        return None
    k = max(least, len(alive))
    new = changed(sync, k=k, kd=min(sync.kd, k), names_k=k)
    return step(s, 504, f"only {len(alive)} voters stream: k = {k}", new)


def out_of_patience_with(s: Situation, alive: tuple[MemberKey, ...]) -> bool:
    missing = tuple(key for key in s.facts.sync.voters if key not in alive)
    return quiet_for(s, missing)


def add_voter(s: Situation) -> Decision | None:
    """One voter more: the ledger first (V + x, R + 1), PostgreSQL follows."""
    report, sync = stable_leader(s), s.facts.sync
    if report is None or not sync.voters or half_done(sync):
        return None
    new_keys = [key for key in wanted_set(s, report) if key not in sync.voters]
    if not new_keys:
        return None
    voters = tuple(sorted((*sync.voters, new_keys[0])))
    new = changed(sync, voters=voters, names=voters)
    return step(s, 505, f"{new_keys[0].node} joins the sync set", new)


def remove_voter(s: Situation) -> Decision | None:
    """One voter less: PostgreSQL first, then the barrier, then the ledger (rule 501)."""
    report, sync = stable_leader(s), s.facts.sync
    if report is None or not sync.voters or half_done(sync):
        return None
    wanted = wanted_set(s, report)
    gone = [
        key
        for key in sync.names
        if key not in wanted
        and (
            quiet_for(s, (key,))
            or not wants_sync(s, key)
            or is_resting(s.facts, key)
            or is_slow(s, report, key)
        )
    ]
    left = tuple(key for key in sync.names if key != gone[0]) if gone else ()
    alive = [key for key in left if key in streaming(report, s.facts.term)]
    if len(alive) < max(1, sync.names_k):
        return None
    new = changed(sync, names=left)
    return step(s, 506, f"{gone[0].node} leaves the sync set", new)


def raise_k(s: Situation) -> Decision | None:
    """More acknowledgements: PostgreSQL first, then the barrier, then the ledger (rule 501)."""
    report, sync = stable_leader(s), s.facts.sync
    if report is None or not sync.voters or half_done(sync):
        return None
    alive = [key for key in wanted_set(s, report) if key in sync.voters]
    if sync.k >= min(num_sync(s.facts, s.policy), len(alive)):
        return None
    new = changed(sync, names_k=sync.k + 1)
    return step(s, 507, f"k = {sync.k + 1} of {len(sync.voters)}", new)


RULES = (
    HerdRule(501, "A half-done change of the sync set is completed after its barrier.", unsettled),
    HerdRule(508, "A change of the sync set whose barrier cannot end is undone.", undo),
    HerdRule(
        502, "Without any synchronous standby mode quorum degrades, through the ledger.", degrade
    ),
    HerdRule(503, "Synchrony returns as soon as a standby streams.", restore),
    HerdRule(
        509,
        "A mode that was asked for and wants no copy comes into force at once.",
        without_copies,
    ),
    HerdRule(
        510,
        "From mode async another one waits for a standby, whose set brings it into force.",
        waits_for_copies,
    ),
    HerdRule(504, "Too few standbys for k lower k, in the ledger first.", lower_k),
    HerdRule(505, "A standby that streams and is close joins the sync set.", add_voter),
    HerdRule(
        506,
        "A voter silent for the sync timeout, asked to leave, or beyond the lag limit, leaves the"
        " sync set.",
        remove_voter,
    ),
    HerdRule(507, "The wanted k rises to num_sync when enough voters stream.", raise_k),
)
