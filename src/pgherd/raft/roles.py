"""The roles of a node and every change between them, as the one table that the machine runs on.

Owns which change there is and its sentence; core.py looks up each change it makes, so one that is
not here is an AssertionError. Owns the drawing for docs/design/consensus.md too. Leaves what
causes a change to election.py, leader.py and membership.py, and what it forgets to core.py.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from pgherd.raft.types import Role

Cause = Literal[
    "timeout",
    "handover",
    "majority",
    "refusals",
    "leader heard",
    "newer term",
    "no quorum",
    "not a voter",
]


class Change(NamedTuple):
    """One arrow, and why in a sentence."""

    source: Role
    target: Role
    cause: Cause
    sentence: str


TABLE = (
    Change("follower", "precandidate", "timeout", "hears of no leader, and asks before it stands"),
    Change("follower", "candidate", "timeout", "hears of no leader, and pre-vote is off"),
    Change("follower", "candidate", "handover", "its leader hands over to it: no pre-vote"),
    Change("precandidate", "candidate", "majority", "a majority would vote for it"),
    Change("candidate", "leader", "majority", "a majority has voted for it"),
    Change("precandidate", "precandidate", "timeout", "too few answers: asks again"),
    Change("candidate", "precandidate", "timeout", "too few votes: asks again, before a next term"),
    Change("candidate", "candidate", "timeout", "too few votes, and pre-vote is off: a next term"),
    Change("precandidate", "follower", "refusals", "a majority would not vote for it"),
    Change("candidate", "follower", "refusals", "a majority has refused"),
    Change("precandidate", "follower", "leader heard", "its term has a leader after all"),
    Change("candidate", "follower", "leader heard", "another one leads this term"),
    Change("follower", "follower", "newer term", "a message of a newer term: takes that term"),
    Change("precandidate", "follower", "newer term", "a message of a newer term"),
    Change("candidate", "follower", "newer term", "a message of a newer term"),
    Change("leader", "follower", "newer term", "a message of a newer term: it is deposed"),
    Change("leader", "follower", "no quorum", "heard of no quorum for a whole election timeout"),
    Change("leader", "follower", "not a voter", "applied a change of members that it is not in"),
)

_KNOWN = {(change.source, change.target, change.cause): change for change in TABLE}


def change_of(source: Role, target: Role, cause: Cause) -> Change:
    """The row of a change; AssertionError when there is none."""
    change = _KNOWN.get((source, target, cause))
    assert change is not None, f"a {source} does not become {target} by {cause}"
    return change


def drawing() -> str:
    """The table as a diagram and as text, in Markdown."""
    arrows = "".join(
        f"    {change.source} --> {change.target}: {change.cause}\n" for change in TABLE
    )
    rows = "".join(
        f"| {change.source} | {change.target} | {change.cause} | {change.sentence} |\n"
        for change in TABLE
    )
    return (
        "```mermaid\nstateDiagram-v2\n    [*] --> follower: start\n"
        f"{arrows}```\n\n| from | to | cause | in words |\n|---|---|---|---|\n{rows}"
    )
