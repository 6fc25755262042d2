"""An address moves between machines on a real Ethernet: neighbours, claims, the kernel's end."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from segment import SUBNET, SUBNET6, Segment, require, until

from pgherd.act.vip import Place
from pgherd.daemon.vips import Keeper
from pgherd.model.ids import Instant
from pgherd.model.vip import Follow, Vip
from pgherd.plan.vip import Verdict
from pgherd.telemetry.boottime import now_ms

V4, V6 = f"{SUBNET}.100", f"{SUBNET6}100"
BOTH = pytest.mark.parametrize("address", [V4, V6], ids=["ipv4", "ipv6"])
pytestmark = pytest.mark.xdist_group("ethernet")

STAY_MS = 5000


@pytest.fixture(scope="module")
def segment() -> Iterator[Segment]:
    """Two machines and a client."""
    require()
    made = Segment(["n1", "n2"])
    yield made
    made.close()


@pytest.fixture(autouse=True)
def tidy(segment: Segment) -> Iterator[None]:
    """No test leaves an address to the next one, nor what a client remembers."""
    yield
    for name in segment.names:
        for address in (V4, V6):
            with segment.inside(name):
                place(address).remove()
    segment.run("hub", "ip", "neighbour", "flush", "dev", "eth0")
    segment.run("hub", "ip", "-6", "neighbour", "flush", "dev", "eth0")


def place(address: str, interface: str = "eth0") -> Place:
    return Place(Vip(address, 64 if ":" in address else 24, interface, Follow.PRIMARY))


class Driven:
    """A keeper with its events, looked at as an agent's loop does."""

    def __init__(self, address: str) -> None:
        self.events: list[tuple[str, str]] = []
        self.keeper = Keeper(
            place(address),
            tell=lambda kind, text: self.events.append((kind, text)),
            changed=lambda: None,
        )

    async def have(self, until: Callable[[], object], *, within_s: float = 20.0) -> None:
        """The rules say that it belongs here, until something is so."""
        end = time.monotonic() + within_s
        while not until():
            assert time.monotonic() < end, f"not within {within_s:g} s: {self.events}"
            stays = Instant(now_ms() + STAY_MS)
            self.keeper.look(Verdict(1031, "here", until=stays), now_ms())
            await asyncio.sleep(0.1)

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]


class Clock:
    """So many seconds from now."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def is_over(self) -> bool:
        return time.monotonic() >= self._end


def call(address: str) -> None:
    """Have the client ask for an address and remember who has it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as channel:
        channel.sendto(b"", (address, 9))


def remembered(segment: Segment, address: str, name: str) -> bool:
    return segment.neighbour(address) == segment.link(name)


def placed_and_known(segment: Segment, address: str, name: str) -> None:
    """An address is on a machine, and the client has learnt so."""
    with segment.inside(name):
        place(address).put(60)
    with segment.inside("hub"):
        call(address)
    until(lambda: remembered(segment, address, name), f"the client knows {address}")


@pytest.mark.fault(34)
@BOTH
def test_a_stale_neighbour_learns_the_new_place(segment: Segment, address: str) -> None:
    placed_and_known(segment, address, "n1")
    with segment.inside("n1"):
        assert place(address).remove()
    with segment.inside("n2"):
        place(address).put(60)
        assert remembered(segment, address, "n1"), "nobody has told it yet"
        place(address).announce()
    until(lambda: remembered(segment, address, "n2"), "the announcement is heard")


@pytest.mark.fault(34)
def test_a_lost_announcement_is_repeated(segment: Segment) -> None:
    placed_and_known(segment, V4, "n1")
    with segment.inside("n1"):
        place(V4).remove()

    async def take() -> None:
        driven = Driven(V4)
        hear = segment.deaf("hub")
        await driven.have(lambda: driven.keeper.owned)
        await driven.have(Clock(1.5).is_over)
        assert remembered(segment, V4, "n1"), "the first announcements were lost"
        hear()
        await driven.have(lambda: remembered(segment, V4, "n2"))
        await driven.keeper.end(leave="over")

    with segment.inside("n2"):
        asyncio.run(take())


@pytest.mark.fault(34)
@BOTH
def test_an_address_that_somebody_has_is_not_taken(segment: Segment, address: str) -> None:
    """It is said whose it is; when that machine has left, it is taken."""
    with segment.inside("n1"):
        place(address).put(60)

    async def claim() -> None:
        driven = Driven(address)
        await driven.have(lambda: driven.keeper.claimed_by)
        assert not driven.keeper.owned
        assert driven.keeper.claimed_by == segment.link("n1")
        assert driven.kinds() == ["vip.claimed"]
        assert segment.link("n1") in driven.events[0][1]
        assert not segment.has("n2", address)
        with segment.inside("n1"):
            place(address).remove()
        await driven.have(lambda: driven.keeper.owned)
        assert driven.keeper.claimed_by == ""
        assert driven.kinds() == ["vip.claimed", "vip.taken"]
        await driven.keeper.end(leave="over")
        assert not segment.has("n2", address)
        assert driven.kinds()[-1] == "vip.left"

    with segment.inside("n2"):
        asyncio.run(claim())


@pytest.mark.fault(34)
@BOTH
def test_who_asks_at_the_same_time_is_noticed(segment: Segment, address: str) -> None:
    """Else both would find the address free."""
    found: dict[str, str] = {}
    begin = threading.Barrier(2)

    def ask(name: str) -> None:
        with segment.inside(name):
            begin.wait()
            found[name] = place(address).probe()

    threads = [threading.Thread(target=ask, args=(name,)) for name in ("n1", "n2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert any(found.values()), found


@BOTH
def test_the_kernel_takes_it_away_from_an_agent_that_hangs(segment: Segment, address: str) -> None:
    with segment.inside("n1"):
        place(address).put(1)
        assert segment.has("n1", address)
        until(lambda: not segment.has("n1", address), "its time is over", within_s=6)


def test_its_time_is_renewed_while_it_belongs_here(segment: Segment) -> None:
    """And who removes it by hand sees it again."""

    async def stay() -> None:
        driven = Driven(V4)
        await driven.have(lambda: driven.keeper.owned)
        await driven.have(Clock(STAY_MS / 1000 + 1.5).is_over)
        assert driven.keeper.owned
        assert segment.has("n1", V4), "for longer than it was given at first"
        segment.run("n1", "ip", "address", "delete", f"{V4}/24", "dev", "eth0")
        await driven.have(lambda: segment.has("n1", V4))
        held = place(V4).found()
        assert held is not None
        assert held.seconds is not None
        await driven.keeper.end(leave="over")
        assert not segment.has("n1", V4)
        assert driven.kinds() == ["vip.taken", "vip.left"]

    with segment.inside("n1"):
        asyncio.run(stay())


@BOTH
def test_sessions_end_with_their_address(segment: Segment, address: str) -> None:
    """A client that waits for an answer hears of it at once; others keep theirs."""
    with segment.inside("n1"):
        place(address).put(60)
        own = f"{SUBNET6}1" if ":" in address else f"{SUBNET}.1"
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        server = socket.create_server(("", 5555), family=family)
    with segment.inside("hub"):
        waits = socket.create_connection((address, 5555), timeout=5)
        stays = socket.create_connection((own, 5555), timeout=5)
    ends = [server.accept()[0] for _ in range(2)]
    with segment.inside("n1"):
        place(address).remove()
    with pytest.raises(ConnectionResetError):
        waits.recv(1)
    assert stays.send(b"x") == 1
    assert any(end.getsockname()[0] == own and end.recv(1) == b"x" for end in ends)
    for end in (*ends, waits, stays, server):
        end.close()


def test_an_agent_that_begins_keeps_what_ends_and_removes_what_does_not(segment: Segment) -> None:
    async def begin() -> tuple[bool, list[str]]:
        driven = Driven(V4)
        await driven.keeper.begin()
        return driven.keeper.owned, driven.kinds()

    with segment.inside("n1"):
        place(V4).put(60)
        assert asyncio.run(begin()) == (True, [])
        place(V4).remove()
        segment.run("n1", "ip", "address", "add", f"{V4}/24", "dev", "eth0")
        assert asyncio.run(begin()) == (False, ["vip.left"])
        assert not segment.has("n1", V4)


def test_what_keeps_a_machine_from_having_one_is_said(segment: Segment) -> None:
    with segment.inside("n1"):
        assert place(V4).why_not() == ""
        assert place(V4, "eth7").why_not() == (
            "there is no interface eth7: this machine has eth0, lo; correct vip.interface"
        )
        with pytest.raises(Exception, match="lo is no Ethernet"):
            place(V4, "lo").probe()
        segment.run("n1", "sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1")
        with pytest.raises(Exception, match=r"sysctl -w net.ipv6.conf.eth0.disable_ipv6=0"):
            place(V6).put(1)
        segment.run("n1", "sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=0")
        segment.run("n1", "ip", "-6", "address", "add", f"{SUBNET6}1/64", "dev", "eth0", "nodad")
        segment.run("n1", "ip", "link", "set", "eth0", "down")
        with pytest.raises(Exception, match=r"eth0 is down .ip link set eth0 up"):
            place(V4).probe()
        segment.run("n1", "ip", "link", "set", "eth0", "up")


WITHOUT = """
from pgherd.act.vip import Place
from pgherd.model.vip import Follow, Vip
place = Place(Vip("{address}", 24, "eth0", Follow.PRIMARY))
print(place.why_not())
for act in (place.probe, lambda: place.put(1), place.announce):
    try:
        act()
    except Exception as error:
        print(error)
"""


def test_without_the_rights_it_is_said_what_to_type(segment: Segment) -> None:
    bare = ["setpriv", "--bounding-set=-net_admin,-net_raw"]
    program = [sys.executable, "-c", WITHOUT.format(address=V4)]
    done = subprocess.run(
        [*segment.wrap("n1"), *bare, *program], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 4, done.stdout
    for line in lines:
        assert "lacks CAP_NET_ADMIN and CAP_NET_RAW" in line
        assert "AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW" in line
    assert not segment.has("n1", V4)


HEIR = """
import subprocess, sys
from pgherd.act import rights
assert not rights.lacking(), rights.lacking()
rights.keep_to_itself()
assert not rights.lacking(), rights.lacking()
command = ["grep", "CapEff", "/proc/self/status"]
print(subprocess.run(command, capture_output=True, text=True).stdout)
"""


def test_rights_that_were_lent_to_an_ordinary_user_stay_with_the_agent() -> None:
    """As systemd lends them; PostgreSQL, which the agent starts, has none."""
    require()
    lent = "+net_admin,+net_raw"
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    command = [*user, f"--inh-caps={lent}", f"--ambient-caps={lent}", sys.executable, "-c", HEIR]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[1], 16) == 0
