"""Proves who is asked what names mean, and what a proxy hears if nobody can say."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from pgherd.daemon.meanings import MEANINGS, MeaningSource
from pgherd.model.errors import PostgresError
from pgherd.model.facts import Facts
from pgherd.model.ids import MemberKey, NodeId
from pgherd.peer.errors import PeerUnreachable
from pgherd.relay.messages import MeaningsAsked, MeaningsTold, frame
from pgherd.route.meanings import Function, Meanings, Names, Relation

N1, N2 = NodeId("n1"), NodeId("n2")
NAMES = Names(frozenset({"f"}), frozenset({"+"}), frozenset({"t"}))
ASKED = MeaningsAsked("app", NAMES)
THERE = Meanings(NAMES, {"f": Function(True)}, {"+": False}, {"t": Relation(("SELECT 1",))})
HERE = Meanings(NAMES)


def told(leader: NodeId | None, here: Meanings | None, there: Meanings | None) -> MeaningsTold:
    """What the agent of n1 answers its proxy."""

    async def read(asked: MeaningsAsked) -> Meanings:
        assert asked == ASKED
        if here is None:
            raise PostgresError("starts up")
        return here

    async def ask(to: NodeId, kind: str, body: bytes, *, timeout_s: float) -> bytes:
        assert (to, kind) == (N2, MEANINGS)
        if there is None:
            raise PeerUnreachable("no link", sent=False)
        assert msgspec.msgpack.decode(body, type=MeaningsAsked) == ASKED
        return msgspec.msgpack.encode(there)

    key = MemberKey(leader, "aaaaaa") if leader is not None else None
    source = MeaningSource(me=N1, facts=lambda: Facts(cluster="c", leader=key), read=read, ask=ask)
    return asyncio.run(source.of(ASKED))


@pytest.mark.parametrize(
    ("leader", "here", "there", "expected"),
    [
        (N1, HERE, None, MeaningsTold("app", HERE)),
        (N2, HERE, THERE, MeaningsTold("app", THERE)),
        (N1, None, THERE, MeaningsTold("app", problem="n1: starts up")),
        (N2, HERE, None, MeaningsTold("app", problem="n2: no link")),
        (None, HERE, THERE, MeaningsTold("app", problem="the cluster has no primary now")),
    ],
)
def test_the_primary_is_asked_and_nobody_else(leader, here, there, expected):
    assert told(leader, here, there) == expected
    assert msgspec.msgpack.decode(frame(expected)[4:])["type"] == "MeaningsTold"
