"""A herd to be attacked: on loopback, or with a network, disks and groups for every node.

Owns the two grounds that a run can stand on and what a node's processes are called there. Leaves
starting, asking and judging to `proof.herd`, which it extends by places alone.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import TracebackType
from typing import Any

from pgherd.chaos.disks import Disk
from pgherd.chaos.groups import Group, sweep
from pgherd.chaos.networks import Network, address
from pgherd.chaos.timers import Timer
from pgherd.proof import processes
from pgherd.proof.asking import HerdError
from pgherd.proof.client import NoAnswer
from pgherd.proof.herd import LocalHerd
from pgherd.proof.processes import Process

DATA_MB = 6144
STORE_MB = 64


class Loopback(LocalHerd):
    """Nodes side by side on this machine: processes can be struck, networks and disks cannot."""

    network: Network | None = None
    is_kept = False
    """Whether what is in its directory is evidence, and stays."""

    @property
    def disks(self) -> dict[str, dict[str, Disk]]:
        """Per node its file systems: `data` and `store`."""
        return {}

    @property
    def groups(self) -> dict[str, Group]:
        """Per node its control groups."""
        return {}

    def processes_of(self, name: str) -> dict[int, Process]:
        """Everything that belongs to a node."""
        return self._processes_of(name)

    def server_processes(self, name: str, title: str) -> list[Process]:
        """The processes of a node's server whose title has this word in it."""
        postmaster = self.postmaster_pid(name)
        return [
            process
            for process in self._processes_of(name).values()
            if process.parent == postmaster and title in process.arguments[0]
        ]

    def is_running(self, name: str) -> bool:
        """Whether a node's daemon was started and not killed since."""
        return name in self._running

    def raft_leader(self) -> str | None:
        """Who leads consensus, as the first node that answers has it."""
        try:
            found = self.status().get("raft_leader")
        except NoAnswer:
            return None
        return str(found) if found else None

    def stop_processes(self, pids: list[int], *, at_most_s: float) -> Callable[[], None]:
        """SIGSTOP, with a timer that wakes them up whatever becomes of us."""
        timer = Timer(at_most_s, f"kill -CONT {' '.join(map(str, pids))}")
        processes.send(pids, signal.SIGSTOP)
        return timer.now

    def supervisor_pid(self, name: str) -> int:
        """The process that was started for a node, and keeps the others alive."""
        return self._running[name].pid

    def must_part(self, name: str, part: str) -> int:
        """A part of a daemon that lives."""
        pid = self.part_pid(name, part)
        if pid is None:
            raise HerdError(f"{name} has no {part} process")
        return pid

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop(graceful=False)
        self.dismantle()
        if error is None and not self.is_kept:
            self.remove()

    def dismantle(self) -> None:
        """Take away what the nodes stood on, when their processes have ended: nothing, here."""


class Apart(Loopback):
    """Every node with a network, disks and control groups of its own. Needs root."""

    def __init__(self, nodes: int = 3, **more: Any) -> None:
        names = [f"n{number + 1}" for number in range(nodes)]
        sweep()
        self.network = Network(names)
        self._groups: dict[str, Group] = {}
        self._disks: dict[str, dict[str, Disk]] = {}
        hosts = [address(number + 1) for number in range(nodes)]
        super().__init__(nodes, hosts=hosts, **more)
        try:
            for name in names:
                self._groups[name] = Group(name)
                self._disks[name] = self._make_disks(name)
        except BaseException:
            self.dismantle()
            raise

    @property
    def disks(self) -> dict[str, dict[str, Disk]]:
        return self._disks

    @property
    def groups(self) -> dict[str, Group]:
        return self._groups

    def _make_disks(self, name: str) -> dict[str, Disk]:
        place = self.places[name]
        store = place.directory / "raft"
        store.mkdir(mode=0o700)
        image = self.directory / f"{name}.data.image"
        small = self.directory / f"{name}.store.image"
        return {
            "data": Disk(place.data.parent, image=image, size_mb=DATA_MB),
            "store": Disk(store, image=small, size_mb=STORE_MB),
        }

    def _wrap(self, name: str) -> list[str]:
        assert self.network is not None
        return [*self._groups[name].wrap(), *self.network.wrap(name)]

    def dismantle(self) -> None:
        """Take away what the nodes stood on; their processes have ended."""
        for disks in self._disks.values():
            for disk in disks.values():
                disk.close()
        for group in self._groups.values():
            group.close()
        if self.network is not None:
            self.network.close()
