"""Rules 101-103 and 107: from directories that nobody rules to the first election (F0)."""

from __future__ import annotations

from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import FIELDS
from pgherd.model.facts import Phase
from pgherd.model.ids import NodeId, Term
from pgherd.model.observation import Server
from pgherd.plan.look import data_members, fresh
from pgherd.plan.rule import Decision, HerdRule, Situation


def choose_founder(s: Situation) -> Decision | None:
    facts = s.facts
    if facts.founder is not None or facts.system_id:
        return None
    candidates = [m.node for m in data_members(facts)]
    silent = [n for n in candidates if fresh(s, n) is None or not has_address(s, n)]
    if silent and s.now - s.view.since < s.policy.detect_ms * 4:
        return Decision(101, f"waits for the first report of {', '.join(silent)}")
    for node in candidates:
        report = fresh(s, node)
        if report is not None and report.server.state is not Server.NONE:
            return Decision(
                101,
                f"{node} already has a data directory (system identifier "
                f"{report.server.system_id or 'unknown'}), which belongs to no cluster here: "
                "found one on it with pgherd adopt, move it away, or start from its own cluster",
            )
    ready = [node for node in candidates if node not in silent]
    if not ready:
        return Decision(101, "no data member has reported yet")
    return Decision(101, f"{ready[0]} makes the cluster", cmd.ChooseFounder(ready[0]))


def has_address(s: Situation, node: NodeId) -> bool:
    """Whether a member has told how its PostgreSQL is reached (the founding list does not)."""
    return s.facts.members[node].address.postgres_port > 0


def register_birth(s: Situation) -> Decision | None:
    facts = s.facts
    if facts.system_id or facts.founder is None:
        return None
    report = fresh(s, facts.founder)
    if report is None:
        return Decision(102, f"waits for {facts.founder}, which makes the cluster")
    server = report.server
    made = server.system_id and report.promises.incarnation
    if server.state not in (Server.STOPPED, Server.STANDBY) or not made:
        return Decision(102, f"waits until {facts.founder} has made its data directory")
    return Decision(
        102,
        f"{facts.founder} made system identifier {server.system_id}",
        cmd.Born(
            node=facts.founder,
            incarnation=report.promises.incarnation,
            system_id=server.system_id,
            major=server.major,
        ),
    )


def first_term(s: Situation) -> Decision | None:
    facts = s.facts
    if facts.phase is not Phase.UNBORN or not facts.system_id or facts.follows is not None:
        return None
    reason = f"first election of cluster {facts.cluster}"
    command = cmd.Begin(expected=facts.term, elector=s.view.me, rule=103, reason=reason)
    return Decision(103, reason, command)


def above_older_terms(s: Situation) -> Decision | None:
    """Data that was taken over, or restored, may be of a cluster that had terms of its own.

    Its epoch records stay in its WAL: positions compare only where this cluster's terms are above.
    """
    facts = s.facts
    if facts.phase is not Phase.ELECTING or facts.elector != s.view.me or facts.history:
        return None
    epochs = {
        member.node: report.server.position.epoch
        for member in data_members(facts)
        if (report := fresh(s, member.node)) is not None and report.server.position is not None
    }
    node = max(epochs, key=lambda name: epochs[name], default=None)
    if node is None or epochs[node] < facts.term:
        return None
    reason = f"{node} has WAL of term {epochs[node]} of an earlier cluster"
    if facts.level < FIELDS[cmd.Begin, "above"]:
        return Decision(107, f"{reason}; waits until every node says what it understands")
    return Decision(
        107,
        reason,
        cmd.Begin(
            expected=facts.term,
            elector=s.view.me,
            rule=107,
            reason=reason,
            above=Term(epochs[node]),
        ),
    )


FIRST = (
    HerdRule(
        107,
        "The first term is above every term that the data was ever written in.",
        above_older_terms,
    ),
)
RULES = (
    HerdRule(
        101,
        "A new cluster's data is made by one node, once every node is heard and empty.",
        choose_founder,
    ),
    HerdRule(102, "The founder's system identifier becomes the cluster's.", register_birth),
    HerdRule(103, "A cluster without a reign begins its first term.", first_term),
)
