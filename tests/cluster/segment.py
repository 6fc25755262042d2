"""One Ethernet of this machine's own: a bridge in a network namespace, and machines on it."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from pgherd.chaos.machine import run
from pgherd.chaos.networks import wait_for_namespace

NEW_NETWORK = 0x4000_0000
TOOLS = ("ip", "nft", "unshare", "nsenter", "setpriv")
SUBNET, SUBNET6 = "10.84.0", "fd00:84::"
CLIENT = f"{SUBNET}.254"


def require() -> None:
    """Skip, and say why, where namespaces cannot be made."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        pytest.skip(f"this machine has no {', '.join(missing)}")
    if subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode:
        pytest.skip("network namespaces cannot be made here")


class Segment:
    """Machines by name, n1 at .1, n2 at .2 and so on, and the hub, where the client is."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.hosts = {name: f"{SUBNET}.{number}" for number, name in enumerate(names, start=1)}
        self._keepers: dict[str, subprocess.Popen[bytes]] = {}
        try:
            self._make("hub")
            self.run("hub", "ip", "link", "add", "name", "eth0", "type", "bridge")
            self._join("hub", 254)
            for number, name in enumerate(names, start=1):
                self._make(name)
                end = ("netns", str(self._keepers[name].pid), "name", "eth0")
                self.run("hub", "ip", "link", "add", "name", name, "type", "veth", "peer", *end)
                self.run("hub", "ip", "link", "set", name, "master", "eth0", "up")
                self._join(name, number)
        except BaseException:
            self.close()
            raise

    def _make(self, name: str) -> None:
        guard = ["setpriv", "--pdeathsig", "KILL"]
        keeper = subprocess.Popen([*guard, "unshare", "--net", "sleep", "infinity"])
        self._keepers[name] = keeper
        wait_for_namespace(keeper.pid)
        self.run(name, "ip", "link", "set", "lo", "up")

    def _join(self, name: str, number: int) -> None:
        for address in (f"{SUBNET}.{number}/24", f"{SUBNET6}{number:x}/64"):
            plain = () if "." in address else ("nodad",)
            self.run(name, "ip", "address", "add", address, "dev", "eth0", *plain)
        self.run(name, "ip", "link", "set", "eth0", "up")

    def close(self) -> None:
        """End the keepers; the namespaces go with the last of their processes."""
        for keeper in self._keepers.values():
            keeper.kill()
            keeper.wait()

    def wrap(self, name: str) -> list[str]:
        """What puts a command on a machine."""
        return ["nsenter", f"--net=/proc/{self._keepers[name].pid}/ns/net"]

    def run(self, name: str, *command: str, text: str = "") -> str:
        """Run a program on a machine; its output."""
        return run(*self.wrap(name), *command, text=text)

    @contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Be on a machine with this thread, and with those that it starts."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/proc/{self._keepers[name].pid}/ns/net", os.O_RDONLY)
        try:
            set_network(there)
            yield
        finally:
            set_network(before)
            os.close(there)
            os.close(before)

    def link(self, name: str) -> str:
        """The link address of a machine."""
        words = self.run(name, "ip", "-oneline", "link", "show", "dev", "eth0").split()
        return words[words.index("link/ether") + 1]

    def has(self, name: str, address: str) -> bool:
        """Whether an address is on a machine."""
        words = self.run(name, "ip", "-oneline", "address", "show", "dev", "eth0").split()
        return any(word.partition("/")[0] == address for word in words)

    def neighbour(self, address: str, *, of: str = "hub") -> str:
        """The link address that a machine remembers for an address; "" for none."""
        words = self.run(of, "ip", "neighbour", "show", address).split()
        return words[words.index("lladdr") + 1] if "lladdr" in words else ""

    def deaf(self, name: str) -> Callable[[], object]:
        """A machine hears no ARP any more; what undoes that."""
        hook = "{ type filter hook input priority 0; policy drop; }"
        self.run(name, "nft", "-f", "-", text=f"add table arp t\nadd chain arp t input {hook}\n")
        return lambda: self.run(name, "nft", "delete", "table", "arp", "t")


def set_network(descriptor: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "setns")


def until(condition: Callable[[], object], what: str, *, within_s: float = 10.0) -> None:
    """Wait for a condition with a deadline."""
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, f"not within {within_s:g} s: {what}"
        time.sleep(0.05)
