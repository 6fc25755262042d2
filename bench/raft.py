"""Measure consensus on this machine: `./dev bench raft [--puts 2000] [--kills 15]`.

Owns the figures of consensus alone: commit latency over three local nodes with real fsync and
mutual TLS (beside etcd doing the same puts in the same minutes, when it is installed), elections
after the leader was killed, heartbeats beside a large transfer, processor time at rest. Leaves what
PostgreSQL adds to `failover`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import queue
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
from lib import consensus_node, etcd
from lib.awake import kept_awake, wake_cost_us
from lib.consensus_node import Plan, name_of

from pgherd.config.settings import Raft
from pgherd.model.lease import TTL_MS, renew_ms
from pgherd.pki.authority import make_ca, make_node_certificate
from pgherd.pki.files import write_private
from pgherd.proof.history import percentile

NODES = 3
BLOCK = 100
"""Puts of one side before it is the other one's turn."""
AT_ONCE = 16
PAYLOAD_BYTES = 100
BULK_BYTES = 100 * 1000 * 1000
BULKS = 5
REST_S = 10.0
WAKE_S = 5.0
ANSWER_S = 120.0
SETTLE_S = 1.0


class Node:
    """One node's process and its lines."""

    def __init__(self, plan: Plan, events: queue.Queue[dict[str, Any]]) -> None:
        self.plan = plan
        self._events = events
        self._answers: queue.Queue[Any] = queue.Queue()
        command = [sys.executable, consensus_node.__file__, msgspec.json.encode(plan).decode()]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            if "answer" in said:
                self._answers.put(said["answer"])
            else:
                self._events.put({**said, "number": self.plan.number})

    def order(self, do: str, **what: Any) -> None:
        """Tell the node to do something; its answer comes later."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **what}).encode() + b"\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """What it found."""
        return self._answers.get(timeout=ANSWER_S)

    def ask(self, do: str, **what: Any) -> Any:
        """Order and wait."""
        self.order(do, **what)
        return self.answer()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()


class Group:
    """Three nodes, and who leads them by their own words."""

    def __init__(self, directory: Path, ports: list[int], *, raft: Raft) -> None:
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        self.plans = [
            Plan(
                number=number,
                ports=tuple(ports),
                directory=str(directory),
                tick_ms=raft.heartbeat_ms,
                election_ticks=max(2, raft.election_timeout_ms // raft.heartbeat_ms),
                payload_bytes=PAYLOAD_BYTES,
            )
            for number in range(1, NODES + 1)
        ]
        self.nodes: dict[int, Node] = {}
        self._roles: dict[int, dict[str, Any]] = {}

    def __enter__(self) -> Self:
        for number in range(1, NODES + 1):
            self.start(number)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for node in self.nodes.values():
            node.kill()

    def start(self, number: int) -> None:
        """Start a node, for the first time or again."""
        self.nodes[number] = Node(self.plans[number - 1], self._events)

    def kill(self, number: int) -> float:
        """Kill a node; when."""
        at = time.monotonic()
        self.nodes.pop(number).kill()
        self._roles.pop(number, None)
        return at

    def leader(self) -> tuple[int, float]:
        """Wait until one node leads and all others follow it; its number and when it was ready."""
        while True:
            leads = [role for role in self._roles.values() if role["role"] == "leads"]
            if leads:
                newest = max(leads, key=lambda role: role["term"])
                wanted = ("follows " + str(newest["number"]), newest["term"])
                others = [role for role in self._roles.values() if role is not newest]
                agreed = all((role["role"], role["term"]) == wanted for role in others)
                if agreed and len(self._roles) == len(self.nodes):
                    return newest["number"], newest["at"]
            event = self._events.get(timeout=ANSWER_S)
            if event["event"] != "role":
                raise RuntimeError(f"node {event['number']}: {event}")
            if event["number"] in self.nodes:
                self._roles[event["number"]] = event


def main(words: list[str]) -> int:
    """Run everything and print one table; 1 when a goal was missed."""
    options = _options(words)
    raft = Raft()
    print(f"# {platform.machine()}, {_cores()} cores, Python {platform.python_version()},", end=" ")
    print(f"heartbeat {raft.heartbeat_ms} ms, election timeout {raft.election_timeout_ms} ms")
    rows: list[Row] = []
    with _directory() as directory, Group(directory, _places(directory), raft=raft) as group:
        lead, _ = group.leader()
        time.sleep(SETTLE_S)
        with etcd_beside(directory) as other:
            rows += at_rest(group, lead, other)
            rows += commits(group, lead, directory, other, puts=options.puts)
        rows.append(beats(group, lead))
        rows.append(elections(group, kills=options.kills))
    print(table(rows))
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(rows)))
    return 0 if all(row.reached for row in rows) else 1


class Row(msgspec.Struct, frozen=True):
    """One figure. goal: "" when there is none."""

    what: str
    found: str
    goal: str = ""
    reached: bool = True


@contextlib.contextmanager
def etcd_beside(directory: Path) -> Iterator[etcd.EtcdHerd | None]:
    """Three etcds with the same certificates, where etcd is installed."""
    if not etcd.installed():
        yield None
        return
    homes = [directory / name_of(number) for number in range(1, NODES + 1)]
    with etcd.EtcdHerd(directory, homes, _free_ports(2 * NODES)) as other:
        other.put(BLOCK, payload_bytes=PAYLOAD_BYTES)
        yield other


def commits(
    group: Group, lead: int, directory: Path, other: etcd.EtcdHerd | None, *, puts: int
) -> list[Row]:
    """Puts of ours and of etcd in turn, one client each; then ours with several under way."""
    leader = group.nodes[lead]
    leader.ask("put", count=BLOCK)
    ours: list[float] = []
    theirs: list[float] = []
    reads: list[float] = []
    for _ in range(max(1, puts // BLOCK)):
        ours += leader.ask("put", count=BLOCK)
        if other is not None:
            theirs += other.put(BLOCK, payload_bytes=PAYLOAD_BYTES)
            reads += other.read(BLOCK // 4)
    fsync = _fsync_s(directory)
    many = leader.ask("put_together", count=puts, at_once=AT_ONCE)
    p50, p99 = percentile(ours, 50), percentile(ours, 99)
    rows = [
        Row(f"one write and fsync of {PAYLOAD_BYTES} bytes here, p50", _ms(fsync)),
        Row("commit, propose to applied on the leader, p50", _ms(p50), "<= 2 ms", p50 <= 0.002),
        Row("the same, p99", _ms(p99), "<= 10 ms", p99 <= 0.010),
        Row(
            f"commits a second, {AT_ONCE} under way",
            f"{len(many['latencies']) / many['seconds']:.0f} (p99 "
            f"{_ms(percentile(many['latencies'], 99))})",
        ),
    ]
    if not theirs:
        return [*rows, Row("etcd, the same puts", "not installed: apt-get install etcd-server")]
    return rows + against(ours, theirs, reads)


def against(ours: list[float], theirs: list[float], reads: list[float]) -> list[Row]:
    """Ours beside etcd's. Its puts come through HTTP: what that takes is told apart by reads."""
    client = percentile(reads, 50)
    rows = [Row("etcd: a read without consensus (client and HTTP alone), p50", _ms(client))]
    for percent in (50, 99):
        mine, its = percentile(ours, percent), percentile(theirs, percent)
        net = max(its - client, 1e-9)
        rows.append(Row(f"etcd put, p{percent}", f"{_ms(its)}, {_ms(net)} without HTTP"))
        rows.append(
            Row(f"ours / etcd, p{percent}", f"{mine / its:.2f}, {mine / net:.2f} without HTTP")
        )
    return rows


def at_rest(group: Group, lead: int, other: etcd.EtcdHerd | None) -> list[Row]:
    """Processor time while a lease is renewed and nothing else; the busiest node counts.

    etcd rests in the same seconds, with the same heartbeat and no lease.
    """
    with kept_awake():
        ours, theirs = rest(group, lead, other)
    wake_us = wake_cost_us(WAKE_S)
    asleep, theirs_asleep = rest(group, lead, other)
    rows = [
        Row("processor at rest, the busiest node", f"{ours:.2f} %", "<= 1 %", ours <= 1),
        Row("the same on this machine as it is", f"{asleep:.2f} %"),
        Row("a bare wake-up there, ten times a second", f"{wake_us:.0f} us"),
    ]
    if other is not None:
        rows.insert(1, Row("etcd at rest in the same seconds", f"{theirs:.2f} %"))
        rows.insert(3, Row("etcd, the same", f"{theirs_asleep:.2f} %"))
    return rows


def rest(group: Group, lead: int, other: etcd.EtcdHerd | None) -> tuple[float, float]:
    """Percent of a core that the busiest of our nodes takes, and the busiest of etcd's."""
    period_s = renew_ms(TTL_MS) / 1000
    before = {number: node.ask("cpu") for number, node in group.nodes.items()}
    theirs = other.cpu_s() if other is not None else [0.0]
    renewals = int(REST_S / period_s) - 1
    group.nodes[lead].order("put", count=renewals, pause_s=period_s)
    time.sleep(REST_S)
    assert len(group.nodes[lead].answer()) == renewals
    used = [node.ask("cpu") - before[number] for number, node in group.nodes.items()]
    after = other.cpu_s() if other is not None else [0.0]
    used_there = [now - then for now, then in zip(after, theirs, strict=True)]
    return 100 * max(used) / REST_S, 100 * max(used_there) / REST_S


def beats(group: Group, lead: int) -> Row:
    """How late heartbeats arrive while a snapshot of 100 MB goes to the same node."""
    to = next(number for number in group.nodes if number != lead)
    group.nodes[to].ask("delays")
    found = [group.nodes[lead].ask("beat", to=to, bulk_bytes=BULK_BYTES) for _ in range(BULKS)]
    time.sleep(0.2)
    delays = group.nodes[to].ask("delays")
    p99, sent = percentile(delays, 99), sum(one["sent"] for one in found)
    took = percentile([one["bulk_s"] for one in found], 50)
    text = f"{_ms(p99)} (max {_ms(max(delays))}, {sent - len(delays)} of {sent} lost,"
    text += f" {BULKS} transfers of {took:.2f} s)"
    return Row("heartbeat delay beside a snapshot of 100 MB, p99", text, "<= 50 ms", p99 <= 0.050)


def elections(group: Group, *, kills: int) -> Row:
    """From the SIGKILL of the leader until another one may take commands."""
    taken = []
    for _ in range(kills):
        lead, _ = group.leader()
        for node in group.nodes.values():
            node.ask("look", seconds=0.005)
        time.sleep(SETTLE_S)
        killed_at = group.kill(lead)
        _, ready_at = group.leader()
        taken.append(ready_at - killed_at)
        group.start(lead)
    p50 = percentile(taken, 50)
    text = f"{p50:.2f} s (max {max(taken):.2f} s, n {kills})"
    return Row("new leader after the leader was killed, p50", text, "<= 1.5 s", p50 <= 1.5)


def table(rows: list[Row]) -> str:
    """All figures."""
    lines = ["| figure | found | goal |", "|---|---|---|"]
    for row in rows:
        goal = row.goal if row.reached else f"{row.goal} MISSED"
        lines.append(f"| {row.what} | {row.found} | {goal} |")
    return "\n".join(lines)


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    """A directory on a real disk, removed in the end."""
    directory = Path(tempfile.mkdtemp(prefix="pgherd-bench-", dir="/var/tmp"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _places(directory: Path) -> list[int]:
    """A home with certificates for each node; their ports."""
    authority = make_ca("bench")
    for number in range(1, NODES + 1):
        home = directory / name_of(number)
        home.mkdir()
        issued = make_node_certificate(authority, name_of(number), ["127.0.0.1"])
        write_private(home / "node.crt", issued.certificate_pem)
        write_private(home / "node.key", issued.key_pem)
        write_private(home / "ca.crt", authority.certificate_pem)
    return _free_ports(NODES)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]


def _fsync_s(directory: Path) -> float:
    """What the disk alone takes."""
    taken = []
    handle = os.open(directory / "probe", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for _ in range(BLOCK):
        began = time.perf_counter()
        os.write(handle, bytes(PAYLOAD_BYTES))
        os.fdatasync(handle)
        taken.append(time.perf_counter() - began)
    os.close(handle)
    return percentile(taken, 50)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"


def _options(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench raft", description=__doc__)
    parser.add_argument("--puts", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=15)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    return parser.parse_args(words)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
