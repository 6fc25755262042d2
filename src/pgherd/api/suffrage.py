"""Who votes in consensus, and why a member does or does not, for people. Pure.

Owns the words. Who is to vote is decided by the herd decider on the Raft leader; this says what can
be seen of it on any node.
"""

from __future__ import annotations

from pgherd.api import schema
from pgherd.api.views import Seen, members
from pgherd.model.facts import Kind, Member

SILENT_S = 5


def suffrage_of(seen: Seen, member: Member) -> schema.Suffrage:
    """What a member is in consensus. witness: a voter that holds no data."""
    if member.raft_id in seen.raft.voters:
        return "witness" if member.kind is Kind.WITNESS else "voter"
    if member.raft_id in seen.raft.learners:
        stays = member.leaving or not member.voter or not free_seats(seen)
        return "non-voter" if stays else "learner"
    return "none"


def why(seen: Seen, member: Member) -> str:
    """Why a member votes, or does not."""
    if member.leaving:
        return "is being removed"
    suffrage = suffrage_of(seen, member)
    silent_s = silence_s(seen, member)
    silent = f", silent for {silent_s} s" if silent_s >= SILENT_S else ""
    if suffrage == "none":
        return f"is to become a learner{silent}"
    if suffrage == "learner":
        return f"votes once it has the log: {behind(seen, member)}{silent}"
    if suffrage == "non-voter" and not member.voter:
        return f"a proxy node never votes{silent}"
    if suffrage == "non-voter":
        return f"stands by: raft.max_voters is {most(seen)}, and that many vote{silent}"
    return ("votes, holds no data" if suffrage == "witness" else "votes") + silent


def behind(seen: Seen, member: Member) -> str:
    """How far a learner's log is from what is committed, by its own report."""
    report = seen.newest(member.node)
    if report is None:
        return "it has not been heard yet"
    missing = max(0, seen.raft.commit - report.applied_index)
    return f"{missing} entries behind" if missing else "as far as the others"


def silence_s(seen: Seen, member: Member) -> int:
    """For how long this node has not heard a member; 0 where it never has."""
    heard = seen.reports.get(member.node)
    return (seen.now - heard.at) // 1000 if heard is not None else 0


def most(seen: Seen) -> int:
    """How many may vote."""
    return seen.facts.max_voters


def staying_voters(seen: Seen) -> list[Member]:
    """The members that vote and are not being removed, by name."""
    return [
        member
        for member in members(seen.facts)
        if member.raft_id in seen.raft.voters and not member.leaving
    ]


def free_seats(seen: Seen) -> int:
    """How many more members may vote."""
    return max(0, most(seen) - len(staying_voters(seen)))


def voters_without(seen: Seen, leaving: Member) -> list[Member]:
    """Who would vote without a member: those that answer and stand by take the seats it leaves."""
    left = [one for one in staying_voters(seen) if one.node != leaving.node]
    standing_by = [
        one
        for one in members(seen.facts)
        if one.raft_id in seen.raft.learners
        and one.voter
        and not one.leaving
        and one.node != leaving.node
        and seen.fresh(one.node) is not None
    ]
    return left + standing_by[: max(0, most(seen) - len(left))]


def spare_voters(seen: Seen) -> int:
    """How many more voters may fall silent while a majority answers; negative: too many did."""
    voters = [one for one in members(seen.facts) if one.raft_id in seen.raft.voters]
    answering = sum(seen.fresh(one.node) is not None for one in voters)
    return answering - (len(voters) // 2 + 1)
