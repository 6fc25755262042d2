"""A herd on loopback whose nodes can be cut off from each other, and from nobody else.

All of it runs in a network namespace of its own. Every node's processes start in a control group of
their own, by which nftables knows who sends and who receives a packet: ports alone would not tell,
since all nodes have one address. Needs root, cgroup2 and nft.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import socket
import struct
import subprocess
from pathlib import Path

from pgherd.model.errors import OperatorError
from pgherd.proof.herd import LocalHerd

CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS = 0x8914
IFF_UP_RUNNING = 0x1 | 0x40
GROUPS = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))
TABLE = "pgherd_cut"


def enter_own_network() -> None:
    """Have this process and its children talk among themselves only. Before any thread starts."""
    if os.geteuid() != 0 or not shutil.which("nft") or _root() is None:
        raise OperatorError("cutting nodes off needs root, nft and cgroup2", "leave isolated out")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise OperatorError(f"no network namespace: {os.strerror(ctypes.get_errno())}")
    with socket.socket() as any_socket:
        wish = struct.pack("16sh", b"lo", IFF_UP_RUNNING)
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, wish)


def _root() -> Path | None:
    return next((root for root in GROUPS if (root / "cgroup.controllers").exists()), None)


class CutHerd(LocalHerd):
    """A herd whose nodes have control groups."""

    def start_node(self, name: str) -> None:
        """Start it in its group: sockets belong to the group that made them."""
        group = self._group(name)
        group.mkdir(exist_ok=True)
        _enter(group)
        try:
            super().start_node(name)
        finally:
            _enter(group.parent)

    def cut_off(self, name: str) -> None:
        """Nothing passes between this node and the others; clients reach it as before."""
        rules_out, rules_in = [], []
        for number, each in enumerate(self.nodes, start=1):
            here = f'socket cgroupv2 level 1 "{self._group(each).name}"'
            rules_out.append(f"{here} meta mark set {number}")
            from_whom = [
                other
                for other, who in enumerate(self.nodes, start=1)
                if who != each and name in (who, each)
            ]
            marks = ", ".join(str(mark) for mark in from_whom)
            rules_in.append(f"meta mark {{ {marks} }} {here} drop")
        _nft(
            [
                f"table inet {TABLE} {{",
                "chain out {",
                "type filter hook output priority 0",
                *rules_out,
                "}",
                "chain in {",
                "type filter hook input priority 0",
                *rules_in,
                "}",
                "}",
            ]
        )

    def reconnect(self) -> None:
        """Everything passes again."""
        _nft([f"delete table inet {TABLE}"])

    def stop(self, *, graceful: bool = True) -> None:
        """End everything, and the groups."""
        super().stop(graceful=graceful)
        for name in self.nodes:
            if self._group(name).exists():
                self._group(name).rmdir()

    def _group(self, name: str) -> Path:
        root = _root()
        assert root is not None
        return root / f"pgherd-{os.getpid()}-{name}"


def _enter(group: Path) -> None:
    (group / "cgroup.procs").write_text(str(os.getpid()))


def _nft(lines: list[str]) -> None:
    """Load rules. nft looks groups up below /sys/fs/cgroup, which may be another hierarchy."""
    root = _root()
    script = f"mount --bind {root} /sys/fs/cgroup && exec nft -f -"
    argv = ["unshare", "--mount", "sh", "-c", script] if root != GROUPS[-1] else ["nft", "-f", "-"]
    done = subprocess.run(argv, input="\n".join(lines).encode(), capture_output=True, check=False)
    if done.returncode:
        raise OperatorError(f"nft: {done.stderr.decode().strip()}")
