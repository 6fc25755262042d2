"""Certificates of members, signed by whoever has the authority's key (ADR 14).

Owns the way there: here, or at another data member through the peer channel, which has a
certificate signed for whoever asks and nobody else.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pgherd.api.herd import JoinRefused
from pgherd.api.joining import SignOrder, ca_key_of, hosts_of, sign
from pgherd.daemon.asking import Ask
from pgherd.model.errors import OperatorError, PeerError
from pgherd.model.facts import Facts, Kind
from pgherd.model.ids import NodeId

if TYPE_CHECKING:
    from pgherd.daemon.build import Node

SIGN = "sign-certificate"
ASK_S = 15.0


class Wanted(msgspec.Struct, frozen=True):
    """A request for a certificate (PEM), and for how long."""

    csr: str
    days: int


class Signing:
    """See the module's text. ca: the authority's certificate, None where there is no TLS."""

    def __init__(
        self, *, me: NodeId, facts: Callable[[], Facts], ca: Path | None, ask: Ask
    ) -> None:
        self._me = me
        self._facts = facts
        self._ca = ca
        self._ask = ask

    async def certificate(self, node: NodeId, csr: str, days: int) -> tuple[str, str]:
        """A member's new certificate, and the authority's. Raises OperatorError, PeerError."""
        if self._ca is None:
            raise OperatorError("this cluster has no authority", "set raft.tls on all nodes")
        if ca_key_of(self._ca).exists():
            return await self._sign(node, Wanted(csr, days))
        if node != self._me:
            raise OperatorError(f"{self._me} cannot sign for {node}", "ask a data member")
        return await self._elsewhere(Wanted(csr, days))

    async def answer(self, node: NodeId, body: bytes) -> bytes:
        """Sign for the member that asks, under its own name. Raises OperatorError."""
        wanted = msgspec.msgpack.decode(body, type=Wanted)
        if self._ca is None or not ca_key_of(self._ca).exists():
            raise OperatorError(f"{self._me} has no key of the authority")
        return msgspec.msgpack.encode(await self._sign(node, wanted))

    async def _sign(self, node: NodeId, wanted: Wanted) -> tuple[str, str]:
        assert self._ca is not None
        member = self._facts().members.get(node)
        if member is None:
            raise OperatorError(f"{node} is no member")
        try:
            ca, key = self._ca.read_text(), ca_key_of(self._ca).read_text()
            order = SignOrder(ca, key, wanted.csr, node, hosts_of(member.address), wanted.days)
            return await sign(order), ca
        except OSError as error:
            raise OperatorError(f"cannot read {error.filename}: {error.strerror}") from error
        except JoinRefused as error:
            raise OperatorError(error.message, error.hint) from error

    async def _elsewhere(self, wanted: Wanted) -> tuple[str, str]:
        trouble: Exception | None = None
        body = msgspec.msgpack.encode(wanted)
        for node, member in sorted(self._facts().members.items()):
            if node == self._me or member.kind is not Kind.DATA:
                continue
            try:
                answer = await self._ask(node, SIGN, body, timeout_s=ASK_S)
            except PeerError as error:
                trouble = error
                continue
            return msgspec.msgpack.decode(answer, type=tuple[str, str])
        raise OperatorError(
            f"no data member signed: {trouble}", "run pgherd pki renew when one is up"
        ) from trouble


def attach(node: Node) -> Signing:
    """The signing of one node."""
    tls = node.settings.raft.tls
    return Signing(
        me=node.me,
        facts=lambda: node.agent.facts,
        ca=Path(tls.ca) if tls is not None else None,
        ask=node.peers.request,
    )
