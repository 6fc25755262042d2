"""What settings say of the time to detection, and what they must not contradict each other in."""

from __future__ import annotations

import pytest

from pgherd.config.detection import Worst, worst_case
from pgherd.config.load import load_text
from pgherd.config.problems import ConfigError

SMALLEST = "version: 1\nnode: {name: n1, address: 127.0.0.1}\n"


def worst(failover: str = "") -> Worst:
    return worst_case(load_text(SMALLEST + (f"failover: {{{failover}}}\n" if failover else "")))


def problems(failover: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        worst(failover)
    return [str(problem) for problem in caught.value.problems]


def test_the_defaults() -> None:
    """These stand in docs/design/failover.md."""
    assert worst() == Worst(dead_ms=300, hung_ms=3800, writes_ms=7050, silent_ms=2300)
    assert str(worst()) == (
        "a server that died 0.3 s, one that takes no connection 3.8 s, one that cannot write 7.1 s,"
        " a node that is silent 2.3 s"
    )


@pytest.mark.parametrize(
    ("failover", "expected"),
    [
        ("probe: {interval: 200ms}", Worst(300, 2600, 5850, 2300)),
        ("probe: {interval: 2s, timeout: 700ms, failures: 3}, lease_ttl: 8s", (300, 5900)),
        ("detect: 2s", Worst(300, 3800, 7050, 2700)),
        ("probe: {write_stall: 9s}", Worst(300, 3800, 11_050, 2300)),
    ],
)
def test_each_setting_has_its_part(failover: str, expected: Worst | tuple[int, int]) -> None:
    found = worst(failover)
    if isinstance(expected, Worst):
        assert found == expected
    else:
        assert (found.dead_ms, found.hung_ms) == expected


def test_what_does_not_fit_is_refused_at_once_with_values() -> None:
    assert problems("detect: 3s, probe: {timeout: 200ms, failures: 1, write_stall: 2s}") == [
        "<text>:3: failover.probe.timeout: 200ms and 1 failures are too little (timeout at least"
        " 3s, or failures at least 15: a stall shorter than failover.detect, 3s, is no failure)",
        "<text>:3: failover.probe.write_stall: 2s is too little (at least 3s: a stall shorter than"
        " failover.detect, 3s, is no failure)",
    ]


@pytest.mark.parametrize(
    ("failover", "ways"),
    [
        (
            "probe: {interval: 9s}",
            "failover.lease_ttl at least 12500ms or interval at most 1s",
        ),
        (
            "probe: {timeout: 5s}",
            "failover.lease_ttl at least 11500ms or failures at most 1 or timeout at most 4250ms",
        ),
        ("probe: {failures: 9}", "failover.lease_ttl at least 10500ms or failures at most 8"),
    ],
)
def test_a_hung_server_is_found_before_a_lease_would_end(failover: str, ways: str) -> None:
    [problem] = problems(failover)
    assert ways in problem
    for way in ways.split(" or "):
        key, value = way.replace("failover.", "").split(
            " at least " if "least" in way else " at most "
        )
        inner = failover.removeprefix("probe: {").removesuffix("}")
        mended = dict(part.split(": ") for part in inner.split(", "))
        if key == "lease_ttl":
            worst(f"{failover}, lease_ttl: {value}")
        else:
            mended[key] = value
            worst("probe: {" + ", ".join(f"{k}: {v}" for k, v in mended.items()) + "}")


def test_the_lease_is_that_of_the_mode() -> None:
    """auto: 10 s, in mode async 5 s."""
    text = SMALLEST + "failover: {probe: {timeout: 2s}}\n"
    assert worst_case(load_text(text)).hung_ms == 5800
    with pytest.raises(ConfigError, match="a lease lasts 5s"):
        load_text(text + "replication: {mode: async}\n")
