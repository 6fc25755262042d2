"""PostgreSQL of the exploration: what its processes do by themselves, one small step at a time.

The rules of commits are syncrep.c's, as in `sim.commits`: whether commits wait at all is the
checkpointer's reading of the names, who releases them is each walsender's own. What is durable is
streamed, what is received is durable: WAL that no disk has is nobody's, so it is not modelled.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pgherd.model.observation import Server
from pgherd.sim.explore.values import (
    CLOSED,
    DOWN,
    Names,
    Node,
    Sender,
    Upstream,
    branch_end,
    lsn_of,
    timeline,
    with_write,
)


class Ack(NamedTuple):
    """Transactions acknowledged at once, by these names; counted: whose confirmations it took."""

    numbers: tuple[int, ...]
    names: Names
    counted: tuple[tuple[int, int], ...] = ()


class Alone(NamedTuple):
    """One node's step: what to call it, what the node becomes, what was acknowledged."""

    label: str
    node: Node
    ack: Ack | None = None


def steps_alone(node: Node) -> Iterator[Alone]:
    """What a running server's processes may do next without anybody else."""
    if node.server is not Server.PRIMARY and node.server is not Server.STANDBY:
        return
    for at, sender in enumerate(node.senders):
        who = f"walsender to n{sender.to + 1}@{sender.term}"
        if sender.flush < sender.sent:
            told = _with_sender(node, at, sender._replace(flush=sender.sent))
            yield _released(told, at, f"{who} hears flush {sender.sent}")
        if sender.names != node.names:
            read = _with_sender(node, at, sender._replace(names=node.names))
            yield _released(read, at, f"{who} reads its names anew")
    if (node.cp.k == 0 or node.names.k == 0) and node.cp != node.names:
        yield _checkpointer(node)


def _with_sender(node: Node, at: int, sender: Sender) -> Node:
    return node._replace(senders=(*node.senders[:at], sender, *node.senders[at + 1 :]))


def _checkpointer(node: Node) -> Alone:
    label = "the checkpointer reads its names anew"
    read = node._replace(cp=node.names if node.names.k == 0 else CLOSED)
    if node.names.k == 0 and node.waiting:
        return Alone(label, read._replace(waiting=()), Ack(node.waiting, node.names))
    return Alone(label, read)


def _released(node: Node, at: int, label: str) -> Alone:
    """SyncRepReleaseWaiters: the k of this walsender's names, over who counts by its own names."""
    names = node.senders[at].names
    if not node.waiting or names.k < 1 or not names.counts(node.senders[at]):
        return Alone(label, node)
    there = [s for s in node.senders if s.names.counts(s) and s.flush]
    if len(there) < names.k:
        return Alone(label, node)
    there.sort(key=lambda s: -s.flush)
    end = there[names.k - 1].flush
    done = tuple(number for number in node.waiting if lsn_of(node.wal, number) <= end)
    if not done:
        return Alone(label, node)
    left = tuple(number for number in node.waiting if number not in done)
    counted = tuple((s.to, s.copy) for s in there[: names.k])
    return Alone(label, node._replace(waiting=left), Ack(done, names, counted))


def write(node: Node, number: int) -> Alone:
    """A client commits a row on a primary."""
    label = f"a client commits row {number}"
    written = node._replace(wal=with_write(node.wal, number))
    if node.cp.k == 0:
        return Alone(label, written, Ack((number,), node.cp))
    return Alone(label, written._replace(waiting=(*node.waiting, number)))


def stopped(node: Node) -> Node:
    """No process is left: sessions, walsenders and what the agent knew of this process are gone."""
    return node._replace(
        server=Server.STOPPED,
        receiver=None,
        senders=(),
        names=CLOSED,
        cp=CLOSED,
        generation=0,
        settled=0,
        waiting=(),
        doing=None,
    )


def started(node: Node) -> Node:
    """As a standby without upstream, under closed names; what it has is replayed."""
    return node._replace(server=Server.STANDBY, upstream=None)


# -- two servers ---------------------------------------------------------------------------------


class Both(NamedTuple):
    """A step of an upstream and a standby. broken: which invariant it breaks, and how."""

    label: str
    up: Node
    down: Node
    broken: str = ""


def sender_of(up: Node, link: Upstream, to: int) -> int:
    """The place of the walsender at the other end of a receiver; -1 when it has ended."""
    for at, sender in enumerate(up.senders):
        if (sender.to, sender.copy, sender.term) == (to, link.copy, link.term):
            return at
    return -1


def steps_between(up: Node, down: Node, *, source: int, to: int) -> Iterator[Both]:
    """What a connection from `source` to `to` may do next."""
    link = down.receiver
    at = sender_of(up, link, to) if link is not None and link.node == source else -1
    if at >= 0 and len(down.wal) < len(up.wal):
        yield _receive(up, down, at, to)
    wanted = down.upstream
    if wanted is not None and wanted.node == source and (at < 0 or link != wanted):
        yield from _connect(up, down, wanted, to)
    for place, sender in enumerate(up.senders):
        if sender.to == to and place != at:
            rest = (*up.senders[:place], *up.senders[place + 1 :])
            yield Both(
                f"n{source + 1} notices that n{to + 1} is gone", up._replace(senders=rest), down
            )


def _receive(up: Node, down: Node, at: int, to: int) -> Both:
    code = up.wal[len(down.wal)]
    more = down._replace(wal=(*down.wal, code))
    told = _with_sender(up, at, up.senders[at]._replace(sent=len(more.wal)))
    broken = ""
    if down.frozen is not None and down.promise > down.adopted:
        broken = f"I12 n{to + 1} receives WAL although sealed at {down.frozen}"
    elif up.senders[at].term == 0 and (up.server is Server.PRIMARY or up.upstream is not None):
        broken = f"I12 n{to + 1} receives WAL on loan from one whose WAL grows"
    return Both(f"n{to + 1} receives record {len(more.wal)} ({code})", told, more, broken)


def _connect(up: Node, down: Node, wanted: Upstream, to: int) -> Iterator[Both]:
    """START_REPLICATION: by timeline and LSN alone, as PostgreSQL does it."""
    if up.server is not Server.PRIMARY and up.server is not Server.STANDBY:
        return
    end = branch_end(up.wal, timeline(down.wal))
    if end is None or len(down.wal) > end:
        return
    if wanted.term == 0 and up.lent != to:
        return
    broken = ""
    if up.wal[: len(down.wal)] != down.wal:
        broken = f"I18 n{to + 1} with {down.wal} joins n{wanted.node + 1} with {up.wal}"
    old = tuple(s for s in up.senders if s.to != to)
    mine = Sender(to, wanted.copy, wanted.term, up.names, 0, len(down.wal))
    label = f"n{to + 1} streams from n{wanted.node + 1} as @{wanted.term}"
    yield Both(label, up._replace(senders=(*old, mine)), down._replace(receiver=wanted), broken)


def fallen(node: Node) -> Node:
    """The host is gone and will be back: what was promised is what the disk has."""
    off = stopped(node) if node.server is not Server.NONE else node._replace(doing=None)
    disk = node.disk
    if disk is not None:
        off = off._replace(
            promise=disk.promise,
            elector=disk.elector,
            adopted=disk.adopted,
            frozen=disk.frozen,
            floor=disk.floor,
            disk=None,
        )
    return off._replace(seen=DOWN, checked=0, handed=False, dead_end=False)


def agent_died(node: Node) -> Node:
    """The agent alone is gone, with what it remembered of this server; the server goes on."""
    alone = node._replace(seen=DOWN, generation=0, settled=0, checked=0, handed=False)
    return alone._replace(doing=None, dead_end=False)
