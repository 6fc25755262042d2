"""Who is elected: campaigns, votes, and what a newer or older term means (paper 5.2, 5.4.1).

Owns pre-vote, the refusal to depose a leader that is heard of, and the counting of votes. Leaves
what a leader does first to leader.py. Numbers in brackets are the decisions of RAFT.md 4.
"""

from __future__ import annotations

from typing import Literal

from pgherd.raft import follower, leader
from pgherd.raft.core import Core
from pgherd.raft.roles import Cause
from pgherd.raft.types import Msg, MsgType, ProposalDropped
from pgherd.raft.votes import vote_result

TRANSFER_MARK = b"transfer"
"""The context of a vote request that its leader asked for: it may depose that leader."""

FROM_LEADER = frozenset({"App", "Heartbeat", "Snap"})
REPLY_OF: dict[str, Literal["VoteResp", "PreVoteResp"]] = {
    "Vote": "VoteResp",
    "PreVote": "PreVoteResp",
}


def campaign(core: Core, *, transfer: bool = False) -> None:
    """Try to become leader; silent when this node may not. A transfer needs no pre-vote (30)."""
    if not core.can_stand():
        core.say("DEBUG", "may not campaign")
    elif core.config.pre_vote and not transfer:
        core.become_precandidate("timeout")
        _ask(core, "PreVote", term=core.term + 1, context=b"")
    else:
        stand(core, "handover" if transfer else "timeout")


def stand(core: Core, cause: Cause) -> None:
    """The real campaign, for the next term; voters are told of a handover."""
    core.become_candidate(cause)
    context = TRANSFER_MARK if cause == "handover" else b""
    _ask(core, "Vote", term=core.term, context=context)


def _ask(core: Core, kind: Literal["Vote", "PreVote"], *, term: int, context: bytes) -> None:
    """Ask the voters of both halves; the own vote counts once it is durable (7, 24)."""
    last, last_term = core.log.last_index(), core.log.last_term()
    for node in sorted({*core.conf.voters, *core.conf.voters_outgoing}):
        if node == core.id:
            core.send(REPLY_OF[kind], node, term=term)
        else:
            core.send(kind, node, term=term, index=last, log_term=last_term, context=context)


def admit(core: Core, message: Msg) -> bool:
    """Compare terms, and whether the message is still to be acted on after that (2, 3)."""
    if message.term > core.term:
        return _admit_newer(core, message)
    if 0 < message.term < core.term:
        _answer_older(core, message)
        return False
    return True


def _admit_newer(core: Core, message: Msg) -> bool:
    """A newer term makes a follower, but for pre-votes and attacks on a leader that lives."""
    if message.type in REPLY_OF and _leader_is_heard(core) and not message.context:
        core.say("INFO", f"ignores {message.type} of {message.frm}: hears of {core.lead}")
        return False
    is_granted_prevote = message.type == "PreVoteResp" and not message.reject
    if message.type != "PreVote" and not is_granted_prevote:
        lead = message.frm if message.type in FROM_LEADER else 0
        core.become_follower(message.term, lead, "newer term")
    return True


def _leader_is_heard(core: Core) -> bool:
    """Whether a leader was heard of within the shortest election timeout."""
    heard = core.lead != 0 and core.election_elapsed < core.config.election_tick
    return core.config.check_quorum and heard


def _answer_older(core: Core, message: Msg) -> None:
    """Tell a deposed leader, or a pre-candidate that fell behind, what the term is (3).

    Without this a node that reached a higher term alone could never come back, since with
    pre-vote and check_quorum its own requests move nobody.
    """
    guarded = core.config.check_quorum or core.config.pre_vote
    if message.type in ("App", "Heartbeat") and guarded:
        core.send("AppResp", message.frm)
    elif message.type == "PreVote":
        core.send("PreVoteResp", message.frm, term=core.term, reject=True)


def on_vote_request(core: Core, message: Msg) -> None:
    """Grant or refuse (8). A learner votes too: it may not know of its promotion yet."""
    free = core.vote == 0 and core.lead == 0
    ahead = message.type == "PreVote" and message.term > core.term
    may_vote = core.vote == message.frm or free or ahead
    reply: MsgType = REPLY_OF[message.type]
    if not (may_vote and core.log.is_as_new(index=message.index, term=message.log_term)):
        core.send(reply, message.frm, term=core.term, reject=True)
        return
    core.send(reply, message.frm, term=message.term)
    if message.type == "Vote":
        core.election_elapsed = 0
        core.vote = message.frm


def handle(core: Core, message: Msg) -> None:
    """Act on a message as a pre-candidate or candidate (9); what no rule mentions is ignored."""
    own_reply = "PreVoteResp" if core.role == "precandidate" else "VoteResp"
    if message.type == own_reply:
        _on_vote(core, message)
    elif message.type in FROM_LEADER:
        core.become_follower(core.term, message.frm, "leader heard")
        follower.follow(core, message)
    elif message.type == "Prop":
        raise ProposalDropped(f"node {core.id} knows no leader")


def _on_vote(core: Core, message: Msg) -> None:
    """Count a vote; the first answer of a node stands."""
    core.votes.setdefault(message.frm, not message.reject)
    result = vote_result(core.conf, core.votes)
    if result == "lost":
        core.become_follower(core.term, 0, "refusals")
    elif result == "won" and core.role == "precandidate":
        stand(core, "majority")
    elif result == "won":
        leader.take_office(core)
