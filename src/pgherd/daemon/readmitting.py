"""What a member answers to a node with amnesia: what its return waits for, or its new place.

Owns the question and the answer. Any node whose ledger has the re-admission may answer with it;
only the Raft leader takes the question up, for its deciders (rule 717). A node asks for itself
alone: who it is its certificate says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pgherd.api.herd import Admission
from pgherd.api.joining import admission
from pgherd.ledger.readmission import Place, place_of
from pgherd.model.facts import Facts, Member
from pgherd.model.ids import NodeId
from pgherd.model.observation import Asking
from pgherd.peer.errors import PeerRefused

if TYPE_CHECKING:
    from pgherd.daemon.agent import Agent

READMIT = "readmit"
NOT_LEADER = "not the Raft leader"
FORGOT_TOO = "it has amnesia itself"


class Grant(msgspec.Struct, frozen=True):
    """Who the others are for a node that was re-admitted, and its place among them."""

    admission: Admission
    place: Place


class Answer(msgspec.Struct, frozen=True):
    """The place, or what it waits for."""

    grant: Grant | None = None
    waits: str = ""


def answer(agent: Agent, node: NodeId, body: bytes) -> bytes:
    """Answer a node that asks to be re-admitted. Raises PeerRefused where nobody can."""
    asking = msgspec.msgpack.decode(body, type=Asking)
    if agent.amnesia():
        raise PeerRefused(FORGOT_TOO)
    member = agent.facts.members.get(node)
    if member is not None and member.store == asking.store:
        return msgspec.msgpack.encode(Answer(grant=granted(agent.facts, member)))
    if not agent.consensus.is_ready_to_decide():
        leader = agent.consensus.replica.leader_node()
        raise PeerRefused(f"{NOT_LEADER}, that is {leader or 'unknown here'}")
    return msgspec.msgpack.encode(Answer(waits=agent.asks(node, asking)))


def granted(facts: Facts, member: Member) -> Grant:
    """A member's place as the ledger has it."""
    return Grant(admission(facts, member.node, member.raft_id), place_of(facts, member))
