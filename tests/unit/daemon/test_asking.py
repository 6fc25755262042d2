"""Proves the way of a question to a node's server and back: here, there, and what goes wrong."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from pgherd.daemon.asking import Question
from pgherd.model.errors import PeerError, PostgresError
from pgherd.model.ids import NodeId
from pgherd.peer.errors import PeerRefused

N1, N2 = NodeId("n1"), NodeId("n2")


async def doubled(number: int) -> int:
    return 2 * number


def question(answer: bytes | PeerError = b"", *, has_server: bool = True) -> Question[int, int]:
    """n1's question of how much is twice a number; `answer` is what n2 says to 3."""

    async def ask(to: NodeId, kind: str, body: bytes, *, timeout_s: float) -> bytes:
        assert (to, kind, timeout_s) == (N2, "twice", 2.0)
        assert msgspec.msgpack.decode(body) == 3
        if isinstance(answer, PeerError):
            raise answer
        return answer

    here = doubled if has_server else None
    return Question("twice", int, int, me=N1, here=here, ask=ask, timeout_s=2.0)


def test_it_is_put_to_our_own_server_or_to_another_agent() -> None:
    """Our own is asked directly; another agent's answer is decoded."""
    assert asyncio.run(question().at(N1, 3)) == 6
    assert asyncio.run(question(msgspec.msgpack.encode(7)).at(N2, 3)) == 7


def test_another_agent_is_answered_out_of_our_own_server() -> None:
    """Never passed on, so two nodes cannot ask each other for ever."""
    answer = asyncio.run(question().answer(msgspec.msgpack.encode(4)))
    assert msgspec.msgpack.decode(answer) == 8


def test_what_goes_wrong_says_so() -> None:
    """No server here; a refusal there; an answer or a question that makes no sense."""
    with pytest.raises(PostgresError, match="n1 has no server"):
        asyncio.run(question(has_server=False).at(N1, 3))
    with pytest.raises(PeerRefused, match="busy"):
        asyncio.run(question(PeerRefused("busy")).at(N2, 3))
    for nonsense in (b"", b"\xc1", msgspec.msgpack.encode("seven")):
        with pytest.raises(PeerError, match="not understood"):
            asyncio.run(question(nonsense).at(N2, 3))
    with pytest.raises(msgspec.ValidationError):
        asyncio.run(question().answer(msgspec.msgpack.encode("three")))
