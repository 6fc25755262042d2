"""Addresses follow what they follow through the deaths of real nodes on one Ethernet."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from checkups import until_red
from segment import SUBNET, SUBNET6, Segment, require, until
from wired import Wired

from pgherd.proof import layout
from pgherd.proof.client import NoAnswer

PRIMARY, REPLICA, PROXY = f"{SUBNET}.100", f"{SUBNET}.101", f"{SUBNET6}102"
NODES = ("n1", "n2", "n3")
POOR = "n3"
pytestmark = pytest.mark.xdist_group("ethernet")

GONE_S = 20.0
"""Longer than a kernel keeps an address whose agent is dead, by far."""


class OnEthernet(Wired):
    """Three nodes on one Ethernet; the last has no rights on its network, and never leads."""

    def more(self, name: str) -> dict[str, Any]:
        """What is different from a node of any other herd."""
        followed = {PRIMARY: "primary", REPLICA: "replica", PROXY: "proxy"}
        mine = {
            "node": {
                "address": {"proxy": {"listen": "::"}},
                "tags": {"nofailover": name == POOR},
            },
            "vip": [
                {
                    "address": f"{address}/{64 if ':' in address else 24}",
                    "interface": "eth0",
                    "follow": what,
                }
                for address, what in followed.items()
            ],
        }
        return layout.merge(super().more(name), mine)

    def _wrap(self, name: str) -> list[str]:
        bare = ["setpriv", "--bounding-set=-net_admin,-net_raw"] if name == POOR else []
        return [*super()._wrap(name), *bare]

    def owner(self, address: str) -> str | None:
        """Who has an address, as the API says."""
        try:
            vips = self.ask("/vip")["vips"]
        except NoAnswer:
            return None
        return next((vip["vip_owner"] for vip in vips if vip["address"] == address), None)

    def on(self, address: str) -> list[str]:
        """Where an address is, as the kernels say."""
        return [name for name in NODES if self.segment.has(name, address)]

    def settled(self, address: str, *, on: str) -> bool:
        return self.on(address) == [on] == [self.owner(address)]

    def dsn_at(self, address: str, *, via_proxy: bool = False) -> str:
        """Where clients of an address connect; the ports of these nodes differ."""
        owner = self.owner(address)
        assert owner is not None
        ports = self.places[owner].ports
        port = ports.proxy_primary if via_proxy else ports.postgres
        dsn = re.sub(r"host=\S+", f"host={address}", self.dsn_node(owner))
        return re.sub(r"port=\S+", f"port={port}", dsn)

    def recovering(self, address: str, *, via_proxy: bool = False) -> bool:
        """Whether the server that clients find at an address is a replica."""
        dsn = self.dsn_at(address, via_proxy=via_proxy)
        with psycopg.connect(dsn, connect_timeout=5) as session:
            [[found]] = session.execute("SELECT pg_is_in_recovery()").fetchall()
        return bool(found)

    def measured(self, name: str) -> dict[str, float]:
        """The metrics of addresses on a node."""
        place = self.places[name]
        url = f"http://{place.host}:{place.ports.api}/metrics"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            return {}
        found = re.findall(r'^pgherd_(vip\w+(?:{address="[^"]+"})?) (\S+)$', text, re.MULTILINE)
        return {key: float(value) for key, value in found}


@pytest.fixture(scope="module")
def ethernet() -> Iterator[OnEthernet]:
    """The herd of this module, with its tests in place of a client."""
    require()
    segment = Segment(NODES)
    try:
        with segment.inside("hub"), OnEthernet(segment) as herd:
            yield herd
    finally:
        segment.close()


@pytest.fixture
def whole(ethernet: OnEthernet) -> OnEthernet:
    """All runs, and every address is where it belongs."""
    ethernet.start()
    ethernet.wait_stable(90)
    first, second = leading(ethernet)
    until(lambda: ethernet.settled(PRIMARY, on=first), "the primary's address", within_s=30)
    until(lambda: ethernet.settled(REPLICA, on=second), "the replica's address", within_s=30)
    until(lambda: ethernet.owner(PROXY) in (first, second), "the proxy's address", within_s=30)
    return ethernet


def leading(herd: OnEthernet) -> tuple[str, str]:
    """The primary, and the replica that may have addresses."""
    first = herd.wait_primary()
    return first, next(name for name in NODES if name not in (first, POOR))


def test_a_reload_moves_adds_and_drops_addresses(whole: OnEthernet) -> None:
    """One is left by its owner, one comes, one that follows something else now stays meanwhile."""
    first, _ = leading(whole)
    another = f"{SUBNET6}103"
    before = {name: whole.part_pid(name, "agent") for name in NODES}
    kept = {name: layout.read_settings(whole.places[name])["vip"] for name in NODES}
    since = len(whole.places[first].log.read_text())
    for name, listed in kept.items():
        changed = [
            {**one, "follow": "primary"} if "102" in one["address"] else one
            for one in listed
            if REPLICA not in one["address"]
        ]
        added = {"address": f"{another}/64", "interface": "eth0", "follow": "proxy"}
        whole.reload_node(name, {"vip": [*changed, added]})
    until(lambda: not whole.on(REPLICA), "the end of the replica's address", within_s=30)
    until(lambda: whole.settled(PROXY, on=first), "the proxy's at the primary", within_s=30)
    until(lambda: len(whole.on(another)) == 1, "the new address", within_s=30)
    assert whole.on(PRIMARY) == [first]
    said = whole.places[first].log.read_text()[since:].splitlines()
    assert not [line for line in said if "vip.left" in line and PRIMARY in line]
    wanted = {PRIMARY, PROXY, another}
    until(
        lambda: {vip["address"] for vip in whole.ask("/vip")["vips"]} == wanted,
        "word of the addresses there are",
        within_s=20,
    )
    for name, listed in kept.items():
        whole.reload_node(name, {"vip": listed})
    until(lambda: not whole.on(another), "the end of the new address", within_s=30)
    until(lambda: len(whole.on(REPLICA)) == 1, "the replica's address again", within_s=30)
    assert {name: whole.part_pid(name, "agent") for name in NODES} == before


def test_every_address_leads_to_what_it_follows(whole: OnEthernet) -> None:
    """And who has no rights on its network says what to type."""
    first, second = leading(whole)
    assert not whole.recovering(PRIMARY)
    assert whole.recovering(REPLICA)
    assert not whole.recovering(PROXY, via_proxy=True), "every proxy leads to the primary"
    assert whole.segment.neighbour(PRIMARY) == whole.segment.link(first)
    until(lambda: warnings_of(whole, PRIMARY), "a warning", within_s=20)
    [warning] = warnings_of(whole, PRIMARY)
    assert warning.startswith(f"{POOR}: it cannot have the address {PRIMARY}: pgherd lacks CAP_NET")
    assert "systemctl edit pgherd" in warning
    until_red(whole, first, ("vip.problem", POOR))
    assert [vip["vip_owner"] for vip in whole.status()["vips"]][:1] == [first]
    assert whole.measured(first)[f'vip_owned{{address="{PRIMARY}"}}'] == 1
    assert whole.measured(second)[f'vip_owned{{address="{PRIMARY}"}}'] == 0


def warnings_of(herd: OnEthernet, address: str) -> list[str]:
    return [text for text in herd.status()["warnings"] if address in text]


def test_an_agent_that_dies_finds_its_addresses_again(whole: OnEthernet) -> None:
    """It keeps them if it is back in time, and takes them again if it is not."""
    _, second = leading(whole)
    killed = whole.kill_agent(second)
    until(
        lambda: (
            whole.part_pid(second, "agent") not in (None, killed)
            and "vip_transitions_total" in whole.measured(second)
        ),
        "back",
        within_s=40,
    )
    until(lambda: whole.settled(REPLICA, on=second), "it has it", within_s=20)


def test_a_session_hears_through_its_address_that_it_ends(whole: OnEthernet) -> None:
    """In a switchover the address leaves after PostgreSQL's own farewell, then it is elsewhere."""
    first, second = leading(whole)
    with psycopg.connect(whole.dsn_at(PRIMARY), autocommit=True) as session:
        session.execute("SELECT 1")
        whole.switchover(second)
        with pytest.raises(psycopg.errors.AdminShutdown):
            session.execute("SELECT 1")
    until(lambda: whole.settled(PRIMARY, on=second), "the address follows", within_s=40)
    until(lambda: whole.settled(REPLICA, on=first), "they have changed places", within_s=40)
    assert not whole.recovering(PRIMARY)


def test_addresses_follow_when_a_node_dies(whole: OnEthernet) -> None:
    """With all its processes: only its kernel is left to take them away."""
    first, second = leading(whole)
    whole.kill_node(first)
    until(lambda: whole.settled(PRIMARY, on=second), "the address follows", within_s=40)
    until(lambda: not whole.on(REPLICA), "no replica may have it", within_s=20)
    assert not whole.recovering(PRIMARY)
    assert whole.segment.neighbour(PRIMARY) == whole.segment.link(second)
    words = f"nobody has the address {REPLICA} (follows the replica)"
    until(lambda: words in whole.status()["problems"], "word of it", within_s=20)
    until_red(whole, second, ("herd.vip_owner", ""))
    until(lambda: whole.settled(PROXY, on=second), "the proxy's follows", within_s=40)
    whole.restart_node(first)
    until(lambda: whole.settled(REPLICA, on=first), "the new replica takes it", within_s=60)


@pytest.mark.fault(34)
def test_a_node_that_hangs_loses_its_address(whole: OnEthernet) -> None:
    """No process of its own takes it away, nor can one that wakes up late."""
    first, _ = leading(whole)
    whole.pause_node(first)
    until(lambda: not whole.segment.has(first, PRIMARY), "its kernel", within_s=GONE_S)
    until(lambda: whole.owner(PRIMARY) not in (None, first), "another has it", within_s=40)
    assert first not in whole.on(PRIMARY)
    whole.resume_node(first)
    whole.wait_stable()
    until(lambda: whole.settled(PRIMARY, on=whole.wait_primary()), "one has it", within_s=40)


def test_a_node_that_stops_leaves_nothing_behind(whole: OnEthernet) -> None:
    first, second = leading(whole)
    whole.terminate_node(first, within_s=60)
    assert not any(whole.segment.has(first, address) for address in (PRIMARY, PROXY))
    until(lambda: whole.settled(PRIMARY, on=second), "the address follows", within_s=40)
