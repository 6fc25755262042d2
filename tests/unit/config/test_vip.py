"""Addresses that move are accepted, or refused with what to write instead."""

from __future__ import annotations

import pytest

from pgherd.config.load import load_text
from pgherd.config.problems import ConfigError
from pgherd.config.reload import diff

NODE = "version: 1\nnode: {name: n1, address: {advertise: 127.0.0.1, proxy: {listen: 0.0.0.0}}}\n"
NODE += "postgresql: {}\n"
WIDE = NODE.replace("0.0.0.0", "'::'")
ONE = "{address: 10.0.1.100/24, interface: eth0}"


def problems(text: str) -> list[str]:
    """What is wrong with a text, one line a problem."""
    with pytest.raises(ConfigError) as caught:
        load_text(text, file="f")
    return [str(problem) for problem in caught.value.problems]


def test_an_entry_needs_an_address_and_an_interface() -> None:
    [vip] = load_text(f"{NODE}vip: [{ONE}]").vip
    assert (vip.address.ip, vip.address.prefix) == ("10.0.1.100", 24)
    assert (vip.interface, vip.follow) == ("eth0", "primary")
    six = "vip: [{address: 'FD00:0::64/64', interface: bond0.7, follow: proxy}]"
    [vip] = load_text(WIDE + six).vip
    assert (str(vip.address), vip.follow) == ("fd00::64/64", "proxy")
    assert load_text(NODE).vip == ()


@pytest.mark.parametrize(
    ("address", "why", "what"),
    [
        ("10.0.1.100", "has no prefix length", "write 10.0.1.100/24, with the length"),
        ("fd00::64", "has no prefix length", "write fd00::64/64, with the length"),
        ("10.0.1.256/24", "is not an address with a prefix length", "10.0.1.100/24"),
        ("db.example/24", "is not an address with a prefix length", "10.0.1.100/24"),
        ("10.0.1.100/33", "is not an address with a prefix length", "10.0.1.100/24"),
        ("10.0.1.0/24", "is the network, not an address in it", ""),
        ("fd00::/64", "is the network, not an address in it", ""),
        ("10.0.1.255/24", "is the network's broadcast address", ""),
        ("127.0.0.5/8", "is no address that clients could be given", ""),
        ("224.0.0.5/24", "is no address that clients could be given", ""),
        ("fe80::1/64", "is no address that clients could be given", ""),
    ],
)
def test_what_is_no_address_says_what_would_be(address: str, why: str, what: str) -> None:
    [problem] = problems(f"{NODE}vip: [{{address: '{address}', interface: eth0}}]")
    assert problem.startswith("f:4: vip[0].address: ")
    assert why in problem
    assert what in problem


@pytest.mark.parametrize(
    ("vip", "path", "why"),
    [
        ("[{address: 10.0.1.100/24}]", "vip[0].interface", "is missing"),
        (f"[{ONE[:-1]}, follow: leader}}]", "vip[0].follow", "write primary, replica or proxy"),
        ("[{address: 10.0.1.100/24, interface: eth0/1}]", "vip[0].interface", "ip -brief link"),
        ("[{address: 10.0.1.100/24, interface: ''}]", "vip[0].interface", "ip -brief link"),
        (f"[{ONE[:-1]}, port: 1}}]", "vip[0].port", "is not a key of pgherd"),
        (ONE, "vip", "must be a list (write vip: [...])"),
        (f"[{ONE}, {ONE}]", "vip[1].address", "10.0.1.100 is listed twice"),
    ],
)
def test_other_mistakes(vip: str, path: str, why: str) -> None:
    [problem] = problems(f"{NODE}vip: {vip}")
    assert problem.startswith(f"f:4: {path}: ")
    assert why in problem


def test_the_nodes_own_address_cannot_move() -> None:
    own = NODE.replace("{listen: 0.0.0.0}", "{listen: 0.0.0.0, advertise: 10.0.1.100}")
    [problem] = problems(f"{own}vip: [{ONE}]")
    assert "10.0.1.100 is this node's own address, which cannot move" in problem


def test_somebody_has_to_listen_on_it() -> None:
    """A proxy that listens on the node's own address refuses clients of another."""
    narrow = "version: 1\nnode: {name: n1, address: 127.0.0.1}\npostgresql: {}\n"
    [problem] = problems(f"{narrow}vip: [{ONE}]")
    assert "nothing here would listen on 10.0.1.100" in problem
    assert "node.address: {advertise: 127.0.0.1, proxy: {listen: 0.0.0.0}}" in problem
    [problem] = problems(f"{NODE}vip: [{{address: fd00::64/64, interface: eth0}}]")
    assert "node.address: {advertise: 127.0.0.1, proxy: {listen: '::'}}" in problem
    server = narrow.replace("127.0.0.1", "{advertise: 127.0.0.1, postgresql: {listen: 0.0.0.0}}")
    assert load_text(f"{server}vip: [{ONE}]").vip, "PostgreSQL itself is somebody"
    [problem] = problems(f"{server}vip: [{ONE[:-1]}, follow: proxy}}]")
    assert "proxy: {listen: 0.0.0.0}" in problem, "but not for who follows the proxy"


def test_there_has_to_be_something_to_follow() -> None:
    witness = NODE.replace("name: n1,", "name: n1, witness: true,")
    [problem] = problems(f"{witness}vip: [{ONE}]")
    assert "a witness node has no PostgreSQL to follow" in problem
    assert load_text(f"{witness}vip: [{ONE[:-1]}, follow: proxy}}]").vip
    [problem] = problems(f"{NODE.replace('postgresql: {}', '')}vip: [{ONE}]")
    assert "a proxy node has no PostgreSQL to follow" in problem
    bare = f"{NODE}proxy: {{listeners: []}}\nvip: [{ONE[:-1]}, follow: proxy}}]"
    assert "there is no proxy here to follow" in problems(bare)[0]


def test_whether_the_interface_is_there_is_asked_of_the_machine() -> None:
    """By who checks the file; an agent starts without a device that may come late."""
    text = f"{NODE}vip: [{ONE.replace('eth0', 'no-such-device')}, {{address: 10.0.1.9/24,"
    text += " interface: lo}]"
    assert load_text(text).vip
    with pytest.raises(ConfigError) as caught:
        load_text(text, file="f", check_devices=True)
    [problem] = caught.value.problems
    assert str(problem).startswith(
        "f:4: vip[0].interface: there is no interface no-such-device now (this machine has "
    )
    assert "lo" in problem.hint


def test_there_may_not_be_too_many() -> None:
    many = ", ".join(f"{{address: 10.0.1.{n}/24, interface: eth0}}" for n in range(1, 18))
    [problem] = problems(f"{NODE}vip: [{many}]")
    assert "has 17 addresses (at most 16)" in problem


def test_a_changed_list_needs_no_restart() -> None:
    before, after = load_text(NODE), load_text(f"{NODE}vip: [{ONE}]")
    [change] = diff(before, after)
    assert (change.key, change.change) == ("vip", "live")
