"""Nodes on loopback that remember what they heard, for the tests of the peer room."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvloop

from pgherd.model.ids import NodeId, RaftId
from pgherd.model.observation import Observation, ServerSeen
from pgherd.model.promises import Promises
from pgherd.peer.errors import PeerRefused
from pgherd.peer.peers import Peers
from pgherd.peer.storemarks import StoreMark
from pgherd.pki.authority import Authority, make_ca, make_node_certificate
from pgherd.pki.files import TlsFiles, write_private
from pgherd.raft.types import Msg

DEADLINE_S = 10.0


async def until(condition: Callable[[], bool], what: str, *, seconds: float = DEADLINE_S) -> None:
    """Wait for a condition with a deadline."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"did not happen in {seconds} s: {what}"
        await asyncio.sleep(0.005)


class Node:
    """One Peers object and everything that it was told."""

    def __init__(
        self,
        name: str,
        tls: TlsFiles | None,
        *,
        port: int = 0,
        me: str = "",
        mark: StoreMark | None = None,
        **more: Any,
    ) -> None:
        self.name = NodeId(name)
        self.raft: list[tuple[NodeId, Msg]] = []
        self.reports: list[Observation] = []
        self.unreachable: list[NodeId] = []
        self.mark = mark or StoreMark()
        self.went_back: list[tuple[NodeId, str]] = []
        self.snapshots: list[tuple[NodeId, bool]] = []
        self.serve: Callable[[NodeId, str, bytes], Awaitable[bytes]] = self._echo
        self.peers = Peers(
            me=NodeId(me or name),
            listen=("127.0.0.1", port),
            tls=tls,
            on_raft=lambda node, msg: self.raft.append((node, msg)),
            on_report=lambda node, report: self.reports.append(report),
            on_request=lambda node, kind, body: self.serve(node, kind, body),
            on_unreachable=self.unreachable.append,
            store=lambda: self.mark,
            on_went_back=lambda node, why: self.went_back.append((node, why)),
            on_snapshot=lambda node, taken: self.snapshots.append((node, taken)),
            **more,
        )

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.peers.port)

    def report(self, sequence: int) -> Observation:
        return Observation(
            node=self.name,
            raft_id=RaftId(self.mark.raft_id or 1),
            sequence=sequence,
            server=ServerSeen(),
            promises=Promises(),
        )

    async def _echo(self, node: NodeId, kind: str, body: bytes) -> bytes:
        if kind == "refuse":
            raise PeerRefused("not today")
        if kind == "bug":
            raise ZeroDivisionError("secret detail")
        return f"{node} {kind} ".encode() + body


class Herd:
    """Nodes that know each other, with certificates of one CA or in plain TCP."""

    def __init__(self, directory: Path, *, tls: bool) -> None:
        self.directory = directory
        self.ca: Authority | None = make_ca("test") if tls else None
        self.nodes: dict[str, Node] = {}

    def files(self, name: str, *, ca: Authority | None = None, **options: Any) -> TlsFiles:
        """Certificate files of a node, signed by the herd's CA or by another."""
        signer = ca or self.ca
        assert signer is not None
        issued = make_node_certificate(signer, NodeId(name), ["127.0.0.1"], **options)
        home = self.directory / f"{name}-{len(list(self.directory.iterdir()))}"
        home.mkdir()
        files = TlsFiles(*(str(home / part) for part in ("node.crt", "node.key", "ca.crt")))
        write_private(files.certificate, issued.certificate_pem)
        write_private(files.key, issued.key_pem)
        write_private(files.ca, signer.certificate_pem)
        return files

    async def start(
        self,
        name: str,
        *,
        files: TlsFiles | None = None,
        port: int = 0,
        mark: StoreMark | None = None,
        **more: Any,
    ) -> Node:
        tls = files or (self.files(name) if self.ca is not None else None)
        node = self.nodes[name] = Node(name, tls, port=port, mark=mark, **more)
        await node.peers.start()
        return node

    def introduce(self) -> None:
        """Tell every node all addresses."""
        addresses = {node.name: node.address for node in self.nodes.values()}
        for node in self.nodes.values():
            node.peers.set_peers(addresses)

    async def connected(self) -> None:
        """Wait until everybody has a connection to everybody."""
        await until(
            lambda: all(all(n.peers.connected().values()) for n in self.nodes.values()),
            f"connections: { {n.name: n.peers.problems() for n in self.nodes.values()} }",
        )

    async def of(self, *names: str) -> list[Node]:
        """Start nodes and wait until they are connected."""
        nodes = [await self.start(name) for name in names]
        self.introduce()
        await self.connected()
        return nodes

    async def stop(self) -> None:
        for node in self.nodes.values():
            await node.peers.stop()


def run(new_loop: Callable[[], Any], story: Coroutine[Any, Any, None], herd: Herd) -> None:
    """Run a story, stop all nodes, and fail on anything the loop complains about."""

    async def whole() -> None:
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, c: complaints.append(c))
        try:
            async with asyncio.timeout(60):
                await story
        finally:
            await herd.stop()
        await asyncio.sleep(0)
        assert not complaints, complaints

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(whole())


@pytest.fixture
def wait() -> Callable[..., Awaitable[None]]:
    return until


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def tell(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None], Herd], None]:
    return partial(run, request.param)


@pytest.fixture(params=["tls", "plain"])
def herd(request: pytest.FixtureRequest, tmp_path: Path) -> Herd:
    return Herd(tmp_path, tls=request.param == "tls")


@pytest.fixture
def tls_herd(tmp_path: Path) -> Herd:
    return Herd(tmp_path, tls=True)


@pytest.fixture
def plain_herd(tmp_path: Path) -> Herd:
    return Herd(tmp_path, tls=False)
