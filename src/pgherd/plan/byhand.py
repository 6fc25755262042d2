"""Rules 73 to 75: a server that somebody else promoted (docs/adr/0031).

What it wrote since is of no term: in an epoch that another primary writes too, perhaps under the
same timeline number. It was acknowledged to nobody under the promise, and must not be mixed with
what was. So its data directory is marked before its server is stopped; it counts for nothing,
follows nobody, and is copied anew, with all that was in it kept aside.

The last leader alone is not marked while it may lead again: nobody else may have everything. It is
stopped, and counts in the next election if nobody had more than it when it was promoted (`sealed`).
"""

from __future__ import annotations

from pgherd.ledger.lineage import still_strays
from pgherd.model import action as act
from pgherd.model.branch import describe
from pgherd.model.observation import Server
from pgherd.plan.own import Answer, MemberRule, Self, my_key

BY_SOMEBODY = "its server was promoted by somebody else"


def promoted_by_hand(s: Self) -> Answer | None:
    """By this node's own promises alone: a promotion of ours is written down before it begins."""
    if s.server.state is not Server.PRIMARY or s.promises.adopted_leader == s.me:
        return None
    if s.facts.leader == my_key(s):
        return f"{BY_SOMEBODY}; the next term decides", act.StopServer(BY_SOMEBODY)
    text = f"{BY_SOMEBODY}: what it has written since counts for nothing"
    return text, act.Disown(text)


def was_promoted(s: Self) -> Answer | None:
    """The same, found stopped. A directory that initdb made was never anybody's to promote.

    Its timelines may look as they should: where it was promoted at the very point where a leader
    was that it had adopted and not reached yet.
    """
    if s.server.state is not Server.STOPPED or not s.server.was_primary or s.promises.dirty_rewind:
        return None
    if s.promises.adopted_leader == s.me or not s.promises.adopted or s.facts.leader == my_key(s):
        return None
    text = f"{BY_SOMEBODY} while this agent was away"
    return text, act.Disown(text)


def strays(s: Self) -> Answer | None:
    """The same, found afterwards: this agent did not run, or did not look, when it happened.

    By a ledger that is newer than the server's timeline (rule 16): an older one knows of no later
    term, which this server may have followed into before its agent heard of it.
    """
    stray = still_strays(s.facts.history, s.promises.adopted, s.server.stray)
    if s.server.state is not Server.STANDBY or stray is None or s.facts.leader == my_key(s):
        return None
    text = f"{BY_SOMEBODY}: {describe(stray)}"
    return text, act.Disown(text)


PROMOTED = MemberRule(
    73, "A server that somebody else promoted is marked, and stopped.", promoted_by_hand
)
RULES: tuple[MemberRule, ...] = (
    MemberRule(75, "A stopped server that somebody else promoted is marked.", was_promoted),
    MemberRule(74, "A server whose timelines no term opened is marked, and stopped.", strays),
)
