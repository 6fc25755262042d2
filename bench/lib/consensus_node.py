"""One node of consensus in a process of its own: store with real fsync, mutual TLS, ledger.

Everything is what a daemon runs, except agent, PostgreSQL and API. The bench speaks with it in
lines of JSON: orders on stdin, answers and events on stdout. Times are of CLOCK_MONOTONIC, which
all processes share.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from pgherd.daemon.consensus import Consensus
from pgherd.daemon.main import give_back_memory, loop_factory
from pgherd.ledger.commands import UpdateMember
from pgherd.model.errors import PgherdError
from pgherd.model.facts import Address, Facts, Kind, Member, Tags
from pgherd.model.ids import NodeId, RaftId
from pgherd.peer.peers import Peers
from pgherd.pki.files import TlsFiles
from pgherd.raft.types import Msg, Snapshot
from pgherd.store.base import Identity
from pgherd.store.replica import Applied, Replica, give_birth
from pgherd.store.sqlite import SqliteStore
from pgherd.telemetry import logs

STAMP = b"bench:"
BEAT_S = 0.005
LOOK_S = 0.5
"""How often a node looks at its own role, until it is told to look more closely."""


class Plan(msgspec.Struct, frozen=True):
    """What a node is told when it starts. ports: of all nodes, by number from 1."""

    number: int
    ports: tuple[int, ...]
    directory: str
    tick_ms: int
    election_ticks: int
    payload_bytes: int

    @property
    def home(self) -> Path:
        return Path(self.directory) / name_of(self.number)


def name_of(number: int) -> NodeId:
    """The name of a node by its Raft id."""
    return NodeId(f"n{number}")


class BenchNode:
    """Consensus and transport, and the orders of the bench."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.delays_s: list[float] = []
        self._said = (-1, "")
        self._watch_s = LOOK_S
        self._sequence = self._snapshot_index = 0
        self._taken: asyncio.Future[bool]
        store = SqliteStore(plan.home / "raft")
        self.members = {
            name_of(number): Member(
                name_of(number), RaftId(number), Kind.DATA, Address("127.0.0.1", port)
            )
            for number, port in enumerate(plan.ports, start=1)
        }
        me = name_of(plan.number)
        if store.identity() is None:
            identity = Identity("bench", me, RaftId(plan.number), secrets.token_hex(4))
            give_birth(store, Facts(cluster="bench", members=self.members), identity)
        replica = Replica(
            store,
            raft_id=RaftId(plan.number),
            cluster="bench",
            election_tick=plan.election_ticks,
            heartbeat_tick=1,
            rng=lambda low, high: low + secrets.randbelow(high - low),
        )
        home = plan.home
        self.peers = Peers(
            me=me,
            listen=("127.0.0.1", plan.ports[plan.number - 1]),
            tls=TlsFiles(*(str(home / part) for part in ("node.crt", "node.key", "ca.crt"))),
            on_raft=self._on_raft,
            on_report=lambda node, report: None,
            on_request=self._on_request,
            on_unreachable=lambda node: self.consensus.unreachable(self.members[node].raft_id),
            on_snapshot=lambda node, taken: self._taken.set_result(taken),
        )
        self.consensus = Consensus(
            replica,
            tick_ms=plan.tick_ms,
            client=f"{me}-{secrets.token_hex(4)}",
            send=lambda message: self.peers.send_raft(name_of(message.to), message),
            changed=self._changed,
            failed=self._failed,
        )

    async def run(self) -> None:
        """Take part until stdin ends."""
        await self.peers.start()
        self.peers.set_peers(
            {
                node: member.address.raft()
                for node, member in self.members.items()
                if node != name_of(self.plan.number)
            }
        )
        self.consensus.start()
        watch = asyncio.create_task(self._watch())
        give_back_memory()
        orders = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
        )
        while line := await orders.readline():
            order = json.loads(line)
            say(answer=await getattr(self, f"do_{order.pop('do')}")(**order))
        watch.cancel()
        await self.consensus.stop()
        await self.peers.stop()

    # --- orders ----------------------------------------------------------------------------------

    async def do_put(self, count: int, pause_s: float = 0.0) -> list[float]:
        """Propose one after another; seconds from the proposal until it was applied here."""
        taken = []
        for _ in range(count):
            await asyncio.sleep(pause_s)
            began = time.perf_counter()
            await self.consensus.submit(self._command())
            taken.append(time.perf_counter() - began)
        return taken

    async def do_put_together(self, count: int, at_once: int) -> dict[str, Any]:
        """The same with several under way; and how long all of them took."""
        began = time.perf_counter()
        each = count // at_once
        lists = await asyncio.gather(*(self.do_put(each) for _ in range(at_once)))
        took = time.perf_counter() - began
        return {"seconds": took, "latencies": [one for taken in lists for one in taken]}

    async def do_beat(self, to: int, bulk_bytes: int) -> dict[str, Any]:
        """Heartbeats at a high rate while a snapshot of bulk_bytes is under way."""
        bulk = asyncio.create_task(self._bulk(to, bulk_bytes))
        sent = 0
        while not bulk.done():
            stamp = STAMP + str(time.monotonic_ns()).encode()
            self.peers.send_raft(name_of(to), Msg(type="Heartbeat", context=stamp))
            sent += 1
            await asyncio.sleep(BEAT_S)
        return {"sent": sent, "bulk_s": await bulk}

    async def _bulk(self, to: int, bulk_bytes: int) -> float:
        began = time.monotonic()
        self._snapshot_index += 1
        snapshot = Snapshot(self._snapshot_index, 1, data=bytes(bulk_bytes))
        self._taken = asyncio.get_running_loop().create_future()
        self.peers.send_raft(name_of(to), Msg(type="Snap", context=STAMP, snapshot=snapshot))
        if not await self._taken:
            raise RuntimeError("the snapshot did not arrive")
        return time.monotonic() - began

    async def do_delays(self) -> list[float]:
        """The delays of heartbeats that came here since the last time."""
        found, self.delays_s = self.delays_s, []
        return found

    async def do_look(self, seconds: float) -> None:
        """Look at the own role that often."""
        self._watch_s = seconds

    async def do_cpu(self) -> float:
        """Processor seconds of this process so far."""
        return time.process_time()

    # --- wires -----------------------------------------------------------------------------------

    def _command(self) -> UpdateMember:
        """A put: this node's record with another text, so that the ledger does not grow."""
        self._sequence += 1
        mine = self.members[name_of(self.plan.number)]
        text = f"{self._sequence:0{self.plan.payload_bytes}d}"
        return UpdateMember(mine.node, mine.kind, mine.address, Tags(zone=text))

    def _on_raft(self, node: NodeId, message: Msg) -> None:
        if message.type == "Snap" and message.context == STAMP:
            return
        if message.context.startswith(STAMP):
            sent_ns = int(message.context[len(STAMP) :])
            self.delays_s.append((time.monotonic_ns() - sent_ns) / 1e9)
        else:
            self.consensus.receive(message)

    async def _on_request(self, node: NodeId, kind: str, body: bytes) -> bytes:
        return str(len(body)).encode()

    def _changed(self, applied: Sequence[Applied]) -> None:
        self._tell_role()

    def _failed(self, error: PgherdError) -> None:
        say(event="failed", why=str(error))
        os._exit(1)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._watch_s)
            self._tell_role()

    def _tell_role(self) -> None:
        """Say once per term that this node leads and may take commands, or whom it follows."""
        node = self.consensus.replica.node
        if self.consensus.is_ready_to_decide():
            role = "leads"
        else:
            role = f"follows {node.lead}" if node.lead not in (0, node.id) else ""
        if role and (node.term, role) != self._said:
            self._said = (node.term, role)
            say(event="role", role=role, term=node.term, at=time.monotonic())


async def play(plan: Plan) -> None:
    """Make the node within the loop, and run it."""
    await BenchNode(plan).run()


def say(**what: Any) -> None:
    """One line for the bench."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main(text: str) -> None:
    """Run the node of a plan, which is JSON."""
    plan = msgspec.json.decode(text, type=Plan)
    logs.set_up(level="error", node=name_of(plan.number))
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(play(plan))


if __name__ == "__main__":
    main(sys.argv[1])
