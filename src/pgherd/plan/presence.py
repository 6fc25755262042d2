"""Rules 11-22, 73-75: whether there is anything to do here, and the time before a first term."""

from __future__ import annotations

from pgherd.model import action as act
from pgherd.model.facts import Kind, Phase
from pgherd.model.observation import Server
from pgherd.plan import byhand, standbycluster, tending
from pgherd.plan.crashing import progress
from pgherd.plan.own import Answer, MemberRule, Self, follows, leads, starts_for_ever


def gone(s: Self) -> Answer | None:
    """Its data stays; nobody may read it as the cluster's from now on."""
    if not s.removed:
        return None
    if s.server.state in (Server.NONE, Server.UNUSABLE, Server.STOPPED):
        return "this node was removed from the cluster; its data is left as it is", None
    return "this node was removed from the cluster", act.StopServer("this node was removed")


def forgetful(s: Self) -> Answer | None:
    """Its server goes on as it is: what may be done with it follows from what was forgotten.

    But for rule 19: acknowledging nothing alone is right whatever was forgotten.
    """
    return (f"amnesia: {s.amnesia}", None) if s.amnesia else None


def not_mine(s: Self) -> Answer | None:
    member = s.facts.members.get(s.me)
    if member is None:
        return "this node is no member yet", None
    if member.kind is Kind.WITNESS:
        return "a witness votes and runs no server", None
    if member.kind is Kind.PROXY:
        return "a proxy node leads clients to others and runs no server", None
    return None


def unusable(s: Self) -> Answer | None:
    if s.server.state is Server.UNUSABLE:
        return s.server.problem or "the data directory must not be started", None
    return None


def other_cluster(s: Self) -> Answer | None:
    server = s.server
    if s.facts.system_id and server.system_id and server.system_id != s.facts.system_id:
        writes = server.state is Server.PRIMARY
        if (asked := tending.copy_anew(s)) is not None and not writes:
            return asked
        return (
            f"the data directory belongs to system identifier {server.system_id}, the cluster is "
            f"{s.facts.system_id}: it is left untouched; pgherd reinit {s.me} keeps it aside and "
            "copies the primary",
            act.StopServer("it is of another cluster") if writes else None,
        )
    return None


def later_promise(s: Self) -> Answer | None:
    if s.promises.promise > s.facts.term:
        return f"promised term {s.promises.promise}; the ledger here is at {s.facts.term}", None
    return None


def behind(s: Self) -> Answer | None:
    """An agent's own log says what was agreed on when it died, not what has been since."""
    if s.caught_up:
        return None
    if s.server.stray is not None:
        return "waits until it knows whether a term opened its timeline", None
    return "waits until it knows the ledger as of its own start", None


def hung(s: Self) -> Answer | None:
    if s.server.state is Server.HUNG and s.facts.phase is not Phase.STABLE:
        return "the server takes no connection", act.StopServer("it takes no connection")
    if s.server.state is Server.HUNG and not leads(s):
        return "the server takes no connection", act.StopServer("it takes no connection")
    if s.server.state is Server.STARTING and s.promises.dirty_rewind:
        return "was rewound half way and may never come up", act.StopServer("half rewound")
    if s.server.state is Server.STARTING and not (follows(s) and starts_for_ever(s)):
        more = progress(s.server.recovery)
        return f"the server is starting{': ' + more if more else ''}", None
    return None


def found(s: Self) -> Answer | None:
    if s.facts.system_id or s.facts.founder != s.me or s.server.state is not Server.NONE:
        return None
    return "this node makes the cluster", act.InitDb()


def wait_for_birth(s: Self) -> Answer | None:
    if s.facts.phase is not Phase.UNBORN:
        return None
    return f"waits for {s.facts.founder or 'the founder'} to make the cluster", None


RULES: tuple[MemberRule, ...] = (
    MemberRule(17, "A node that was removed stops its server and does nothing more.", gone),
    MemberRule(
        18, "A member with amnesia touches nothing else until it is re-admitted.", forgetful
    ),
    MemberRule(11, "A node that is no data member runs no server.", not_mine),
    MemberRule(12, "A data directory that must not be started is left alone.", unusable),
    MemberRule(
        13, "Another cluster's data directory is left alone, its primary stopped.", other_cluster
    ),
    byhand.PROMOTED,
    MemberRule(14, "A member acts for no term below its promise.", later_promise),
    MemberRule(
        16,
        "After a start, and on a timeline that it knows of no term, a member does nothing until its"
        " ledger has caught up.",
        behind,
    ),
    MemberRule(15, "A hung server is stopped, unless its own term has to end first.", hung),
    *byhand.RULES,
    *standbycluster.RULES,
    MemberRule(21, "The founder makes the first data directory.", found),
    MemberRule(22, "Before the first term everybody waits.", wait_for_birth),
)
