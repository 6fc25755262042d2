"""What the router is told: per direction, and for ports at both ends of a connection."""

from __future__ import annotations

from pgherd.chaos.networks import Rule, address


def test_nodes_have_networks_of_their_own() -> None:
    assert len({address(number).rpartition(".")[0] for number in range(1, 10)}) == 9


def test_a_rule_is_of_one_direction() -> None:
    [line] = Rule("10.83.1.2", "10.83.2.2").text().splitlines()
    words = "add rule inet chaos forward ip saddr 10.83.1.2 ip daddr 10.83.2.2 drop"
    assert " ".join(line.split()) == words


def test_ports_are_dropped_on_the_way_there_and_back() -> None:
    lines = Rule("10.83.1.2", "10.83.2.2", ports=(5432, 5433)).text().splitlines()
    assert [" ".join(line.split()[-6:]) for line in lines] == [
        "dport { 5432, 5433 } drop",
        "sport { 5432, 5433 } drop",
    ]


def test_what_becomes_of_a_packet_stands_last() -> None:
    rule = Rule("10.83.1.2", "10.83.2.2", match="meta length > 600", verdict="counter drop")
    assert rule.text().rstrip().endswith("meta length > 600 counter drop")
