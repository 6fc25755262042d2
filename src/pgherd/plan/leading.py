"""Rules 39 and 41-49: what the leader of a term does (PROTOCOL.md F6, 3 and 4)."""

from __future__ import annotations

from pgherd.ledger.syncset import half_done
from pgherd.model import action as act
from pgherd.model.facts import Facts, Phase
from pgherd.model.ids import CLOSED_NAMES
from pgherd.model.observation import Server
from pgherd.plan import configuring, slotkeeping
from pgherd.plan.own import Answer, MemberRule, Self, leads


def names_text(facts: Facts) -> str:
    """What synchronous_standby_names must be on the leader of a stable term.

    Without a synchronous set mode strict stays closed: it blocks instead of promising less.
    """
    sync = facts.sync
    if sync.names_k == 0:
        return CLOSED_NAMES if facts.mode == "strict" else ""
    listed = ", ".join(f'"{key.token(facts.term)}"' for key in sync.names)
    return f"ANY {sync.names_k} ({listed})"


def commit_of(facts: Facts) -> str:
    """The primary's synchronous_commit, where another than its parameters say: never closed."""
    return "" if names_text(facts) == CLOSED_NAMES else facts.tuning.commit


def lead_start(s: Self) -> Answer | None:
    if not leads(s) or s.server.state is not Server.STOPPED:
        return None
    return "starts without upstream; the next term decides", act.StartStandby()


FENCES = 39
"""The rule that keeps a winner from its promotion until who led before is fenced."""


def lead_fence(s: Self) -> Answer | None:
    order, facts = s.policy.fence, s.facts
    promotes = lead_promote(s)
    if order is None or not facts.unsealed or promotes is None or promotes[1] is None:
        return None
    target = facts.unsealed[0]
    member = facts.members.get(target.node)
    action = act.Fence(
        term=facts.term,
        target=target,
        address=member.address.host if member is not None else "",
        cluster=facts.cluster,
        command=order.command,
        deadline_ms=order.deadline_ms,
        required=order.required,
    )
    return f"fences {target.node}, which led and is not sealed", action


def lead_promote(s: Self) -> Answer | None:
    if not leads(s) or s.server.state is not Server.STANDBY:
        return None
    reign, frozen = s.facts.history[-1], s.promises.frozen
    if s.facts.phase is Phase.STABLE:
        return "a leader whose server restarted: the next term decides", None
    if not reign.promoted:
        return "elected to go on, but its server restarted: the next term decides", None
    if frozen is None or frozen.position != reign.start or frozen.term != s.facts.term:
        return f"elected at {reign.start}, but is not sealed there: the next term decides", None
    if s.server.position != reign.start:
        return f"is at {s.server.position}, not at {reign.start}: the next term decides", None
    # Only where somebody waits for it: a failover takes no longer for a parameter.
    lower = s.facts.handover is not None and configuring.lowers(s.facts, s.server.matched)
    return "becomes primary", act.Promote(s.facts.term, expected=reign.start, lower=lower)


def lead_record(s: Self) -> Answer | None:
    server = s.server
    if not leads(s) or server.state is not Server.PRIMARY:
        return None
    recorded = server.position is not None and server.position.epoch == s.facts.term
    if recorded and server.epoch_record_end:
        return None
    return f"writes the epoch record of term {s.facts.term}", act.KeepLeading(s.facts.term)


def lead_open(s: Self) -> Answer | None:
    if not leads(s) or s.facts.phase is not Phase.STABLE or s.server.state is not Server.PRIMARY:
        return None
    sync = s.facts.sync
    right = s.server.names == names_text(s.facts) and s.server.names_generation == sync.generation
    right = right and s.server.commit == commit_of(s.facts)
    if right or switches_on(s):
        return None
    action = act.SetNames(
        term=s.facts.term,
        generation=sync.generation,
        names=names_text(s.facts),
        commit=commit_of(s.facts),
    )
    return "uses the synchronous set of the ledger", action


def switches_on(s: Self) -> bool:
    """Whether the server must go from no synchronous set to one, which needs the probe."""
    sync = s.facts.sync
    return sync.names_k > 0 and any(use.k == 0 for use in sync.in_use)


def lead_settle(s: Self) -> Answer | None:
    if not leads(s) or s.facts.phase is not Phase.STABLE or s.server.state is not Server.PRIMARY:
        return None
    sync = s.facts.sync
    if not half_done(sync) or not sync.in_use or s.server.settled >= sync.generation:
        return None
    action = act.Settle(
        term=s.facts.term,
        generation=sync.generation,
        names=names_text(s.facts),
        members=sync.names,
        k=sync.names_k,
        from_empty=switches_on(s),
        commit=commit_of(s.facts),
    )
    return "makes sure that no walsender uses an older set", action


def lead_checkpoint(s: Self) -> Answer | None:
    if not leads(s) or s.server.state is not Server.PRIMARY or s.facts.phase is not Phase.STABLE:
        return None
    wish = s.facts.switchover
    if wish is not None and s.server.checkpointed_for != wish.id:
        return "checkpoints before the switchover", act.Checkpoint(s.facts.term, wish.id)
    if s.server.checkpointed_term < s.facts.term:
        return "checkpoints after its promotion", act.Checkpoint(s.facts.term)
    return None


def lead_steady(s: Self) -> Answer | None:
    return (f"leads term {s.facts.term}", None) if leads(s) else None


RULES: tuple[MemberRule, ...] = (
    MemberRule(41, "A leader whose server has died starts it as a standby.", lead_start),
    MemberRule(
        FENCES,
        "Before it promotes, a winner runs the fencing command against whoever led and is not"
        " sealed.",
        lead_fence,
    ),
    MemberRule(42, "The winner promotes from its sealed position.", lead_promote),
    MemberRule(43, "A leader writes the epoch record of its term.", lead_record),
    slotkeeping.LEADS,
    MemberRule(45, "The leader of a stable term uses the ledger's synchronous set.", lead_open),
    MemberRule(46, "A half-done change of the set gets its barriers.", lead_settle),
    MemberRule(
        47, "A leader checkpoints after promotion and before a switchover.", lead_checkpoint
    ),
    configuring.TELLS_PRIMARY,
    slotkeeping.MENDS,
    MemberRule(48, "A leader with nothing to do leads.", lead_steady),
)
