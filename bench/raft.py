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
from lib.consensus_node import Plan, name_of

from pgherd.config.settings import Raft
from pgherd.pki.authority import make_ca, make_node_certificate
from pgherd.pki.files import write_private
from pgherd.proof.history import percentile

NODES = 3
BLOCK = 100
"""Puts of one side before it is the other one's turn."""
AT_ONCE = 16
PAYLOAD_BYTES = 100
BULK_BYTES = 100 * 1000 * 1000
REST_S = 10.0
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

    def __enter__(self) -> Self:
        for plan in self.plans:
            self.nodes[plan.number] = Node(plan, self._events)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for node in self.nodes.values():
            node.kill()

    def leader(self, *, after: float = 0.0) -> tuple[Node, float]:
        """Wait until a node says that it leads, later than `after`, and all others that they
        follow it; the leader and when it said so."""
        leads: dict[str, Any] = {}
        followers: set[int] = set()
        while not leads or len(followers) < len(self.nodes) - 1:
            event = self._events.get(timeout=ANSWER_S)
            if event["event"] != "role":
                raise RuntimeError(f"node {event['number']}: {event}")
            if event["at"] < after or event["number"] not in self.nodes:
                continue
            if event["role"] == "leads":
                leads, followers = event, set()
            elif leads and event["role"] == f"follows {leads['number']}":
                followers.add(event["number"])
            elif not leads:
                self._early.append(event)
        return self.nodes[leads["number"]], leads["at"]
