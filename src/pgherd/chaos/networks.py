"""A network per node, and between them a router whose rules are what breaks.

Owns addresses, the namespaces of the nodes, and the router's rules: who does not hear whom, on
which ports, how often, up to which size; and links that are down or narrow. The router is the
namespace that the run itself lives in, so that clients of the run reach every node, also one that
is cut off from its peers. Leaves what is broken when to `netfaults`.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterable

import msgspec

from pgherd.chaos.machine import run

Undo = Callable[[], None]

TABLE = "inet chaos"
SUBNET = "10.83"


def address(number: int) -> str:
    """The address of the node with this number, from 1 on."""
    return f"{SUBNET}.{number}.2"


class Rule(msgspec.Struct, frozen=True):
    """Packets on their way from a node to a node, and what becomes of them.

    ports: at either end; none: all · verdict: in the words of nft.
    """

    source: str
    target: str
    ports: tuple[int, ...] = ()
    match: str = ""
    verdict: str = "drop"

    def text(self) -> str:
        """The rule as nft reads it, once for each end of a connection."""
        way = f"ip saddr {self.source} ip daddr {self.target}"
        ports = ", ".join(map(str, self.ports))
        ends = (f"tcp dport {{ {ports} }}", f"tcp sport {{ {ports} }}") if ports else ("",)
        return "".join(
            f"add rule {TABLE} forward {way} {end} {self.match} {self.verdict}\n" for end in ends
        )


class Network:
    """Nodes by name, each behind a link of its own."""

    def __init__(self, names: Iterable[str]) -> None:
        self.addresses = {name: address(number + 1) for number, name in enumerate(names)}
        self._keepers: dict[str, subprocess.Popen[bytes]] = {}
        self._rules: list[Rule] = []
        run("ip", "link", "set", "lo", "up")
        run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        hook = "{ type filter hook forward priority 0; policy accept; }"
        run("nft", "-f", "-", text=f"add table {TABLE}\nadd chain {TABLE} forward {hook}\n")
        for name, host in self.addresses.items():
            self._keepers[name] = self._make(name, host)

    def _make(self, name: str, host: str) -> subprocess.Popen[bytes]:
        """A namespace, which lives as long as its keeper, and the link to it."""
        keeper = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"]
        )
        here, there = f"to-{name}", str(keeper.pid)
        wait_for_namespace(keeper.pid)
        gateway = host.rpartition(".")[0] + ".1"
        pair = ("type", "veth", "peer", "name", "eth0", "netns", there)
        run("ip", "link", "add", here, *pair)
        run("ip", "address", "add", f"{gateway}/24", "dev", here)
        run("ip", "link", "set", here, "up")
        inside = ("nsenter", f"--net=/proc/{there}/ns/net", "ip")
        run(*inside, "link", "set", "lo", "up")
        run(*inside, "address", "add", f"{host}/24", "dev", "eth0")
        run(*inside, "link", "set", "eth0", "up")
        run(*inside, "route", "add", "default", "via", gateway)
        return keeper

    def wrap(self, name: str) -> list[str]:
        """What puts a command into a node's namespace."""
        return ["nsenter", f"--net=/proc/{self._keepers[name].pid}/ns/net"]

    def close(self) -> None:
        """End the keepers; the namespaces go when their last process has."""
        for keeper in self._keepers.values():
            keeper.kill()
            keeper.wait()

    # -- what breaks -----------------------------------------------------------------------------

    def drop(self, source: str, target: str, *, ports: Iterable[int] = ()) -> Undo:
        """Lose everything on its way from a node to a node, or what concerns some ports."""
        return self.add([self.rule(source, target, ports=ports)])

    def cut(self, pairs: Iterable[tuple[str, str]], *, ports: Iterable[int] = ()) -> Undo:
        """Lose everything between pairs of nodes, both ways."""
        both = [way for a, b in pairs for way in ((a, b), (b, a))]
        return self.add([self.rule(a, b, ports=ports) for a, b in both])

    def everywhere(self, *, match: str, verdict: str = "drop") -> Undo:
        """Do something to packets between any two nodes."""
        names = list(self.addresses)
        pairs = [(a, b) for a in names for b in names if a != b]
        return self.add([self.rule(a, b, match=match, verdict=verdict) for a, b in pairs])

    def rule(
        self,
        source: str,
        target: str,
        *,
        ports: Iterable[int] = (),
        match: str = "",
        verdict: str = "drop",
    ) -> Rule:
        """A rule between two nodes by their names."""
        ends = self.addresses[source], self.addresses[target]
        return Rule(*ends, ports=tuple(sorted(ports)), match=match, verdict=verdict)

    def add(self, rules: list[Rule]) -> Undo:
        """Lay rules over those that are there; what undoes exactly that."""
        self._rules += rules
        self._apply()

        def undo() -> None:
            for rule in rules:
                self._rules.remove(rule)
            self._apply()

        return undo

    def _apply(self) -> None:
        texts = "".join(rule.text() for rule in self._rules)
        run("nft", "-f", "-", text=f"flush chain {TABLE} forward\n{texts}")

    def pull_out(self, name: str) -> Undo:
        """The plug of a node is pulled: its clients do not reach it either."""
        run("ip", "link", "set", f"to-{name}", "down")
        return lambda: discard(run("ip", "link", "set", f"to-{name}", "up"))

    def narrow(self, name: str, *, rate: str) -> Undo:
        """What reaches a node comes slowly."""
        device = f"to-{name}"
        shape = ("tbf", "rate", rate, "burst", "16kb", "latency", "400ms")
        run("tc", "qdisc", "add", "dev", device, "root", *shape)
        return lambda: discard(run("tc", "qdisc", "del", "dev", device, "root"))


def wait_for_namespace(pid: int) -> None:
    """Wait until a process has left the network that it was started in."""
    mine = os.readlink("/proc/self/ns/net")
    for _ in range(200):
        try:
            if os.readlink(f"/proc/{pid}/ns/net") != mine:
                return
        except OSError:
            pass
        time.sleep(0.01)
    raise RuntimeError(f"process {pid} made no network namespace")


def discard(_: object) -> None:
    """Nothing: for what is done for its effect."""
