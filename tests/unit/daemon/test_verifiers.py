"""Proves where an agent looks up what passwords are checked with, and what it says if it cannot."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from pgherd.daemon.verifiers import VERIFIERS, VerifierSource
from pgherd.model.errors import PostgresError
from pgherd.model.facts import Facts
from pgherd.model.ids import MemberKey, NodeId
from pgherd.peer.errors import PeerUnreachable
from pgherd.postgres.passwords import Stored
from pgherd.relay.messages import Verifiers

N1, N2 = NodeId("n1"), NodeId("n2")
USERS = ("ann", "bob")
HERE = Stored({"ann": "here"}, b"nonce")
THERE = Stored({"ann": "there", "bob": ""}, b"nonce")


class Server:
    """A server of this node that answers, or is ill."""

    def __init__(self, answer: Stored | None) -> None:
        self.answer = answer

    async def read(self, roles: tuple[str, ...]) -> Stored:
        assert roles == USERS
        if self.answer is None:
            raise PostgresError("starts up")
        return self.answer


def source(leader: NodeId | None, server: Server | None, there: bytes | None) -> VerifierSource:
    """The source of n1; `there` is what n2 answers, None: it cannot be reached."""

    async def ask(to: NodeId, kind: str, body: bytes, *, timeout_s: float) -> bytes:
        assert (to, kind) == (N2, VERIFIERS)
        assert msgspec.msgpack.decode(body, type=tuple[str, ...]) == USERS
        if there is None:
            raise PeerUnreachable("no link", sent=False)
        return there

    key = MemberKey(leader, "aaaaaa") if leader is not None else None
    return VerifierSource(
        me=N1,
        facts=lambda: Facts(cluster="c", leader=key),
        read=server.read if server is not None else None,
        ask=ask,
    )


ANSWER = msgspec.msgpack.encode(THERE)


@pytest.mark.parametrize(
    ("leader", "server", "there", "expected"),
    [
        (N1, Server(HERE), ANSWER, HERE),
        (N2, Server(HERE), ANSWER, THERE),
        (N2, None, ANSWER, THERE),
        (N2, Server(HERE), None, HERE),
        (N2, Server(HERE), b"\xc1", HERE),
        (None, Server(HERE), ANSWER, HERE),
    ],
)
def test_the_primary_is_asked_and_else_the_copy_here(
    leader: NodeId | None, server: Server | None, there: bytes | None, expected: Stored
) -> None:
    """Its own word counts; a replica's only while it cannot be had."""
    found = asyncio.run(source(leader, server, there).of(USERS))
    assert found == Verifiers(USERS, stored=expected.stored, mock_nonce=b"nonce")


@pytest.mark.parametrize(
    ("leader", "server", "problem"),
    [
        (None, None, "the cluster has no primary now"),
        (N1, Server(None), "n1: starts up"),
        (N2, None, "n2: no link"),
        (N2, Server(None), "n2: no link; n1: starts up"),
    ],
)
def test_a_problem_is_an_answer(leader: NodeId | None, server: Server | None, problem: str) -> None:
    """It names everybody who was asked, so that the client's error says it."""
    found = asyncio.run(source(leader, server, None).of(USERS))
    assert found == Verifiers(USERS, problem=problem)


def test_another_agent_is_answered_out_of_this_server_alone() -> None:
    """Questions are not passed on: two nodes that take each other for the primary end there."""
    here = source(N2, Server(HERE), ANSWER)
    answer = asyncio.run(here.answer(msgspec.msgpack.encode(USERS)))
    assert msgspec.msgpack.decode(answer, type=Stored) == HERE
    with pytest.raises(PostgresError, match="has no server"):
        asyncio.run(source(N2, None, ANSWER).answer(msgspec.msgpack.encode(USERS)))


def test_no_repr_shows_what_is_stored() -> None:
    """A repr ends up in logs."""
    assert "here" not in repr(HERE)
    assert "here" not in repr(Verifiers(USERS, stored=HERE.stored))
