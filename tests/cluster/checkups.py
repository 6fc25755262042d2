"""Check-ups of a running herd by its API: what a test has broken is waited for until it is red."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pgherd.proof import layout
from pgherd.proof.herd import LocalHerd

WAIT_S = 60.0
DOCTOR_S = 60.0
QUICK = "?quick=1"
Found = dict[tuple[str, str], dict[str, str]]
"""Findings by check and node; node "": of the herd."""


def checkup(herd: LocalHerd, *, via: str, query: str = "") -> Found:
    """Everything found, by check and node."""
    told = herd.ask(f"/doctor{query}", name=via, timeout_s=DOCTOR_S)
    return {(one["check"], one["node"]): one for one in told["findings"]}


def red(found: Found) -> set[tuple[str, str]]:
    """Which of them say that something is wrong."""
    return {key for key, one in found.items() if one["status"] not in ("ok", "unknown")}


def until_red(
    herd: LocalHerd,
    via: str,
    *wanted: tuple[str, str],
    query: str = QUICK,
    deadline_s: float = WAIT_S,
) -> Found:
    """The check-up in which all of these are red, asked at one node."""
    last: Found = {}

    def all_red() -> bool:
        nonlocal last
        last = checkup(herd, via=via, query=query)
        return set(wanted) <= red(last)

    try:
        herd.wait_for(all_red, f"red: {wanted}", deadline_s=deadline_s)
    except Exception as error:
        lacking = [f"{key}: {last.get(key)}" for key in wanted if key not in red(last)]
        raise AssertionError("; ".join(lacking)) from error
    return last


def changed(herd: LocalHerd, name: str, changes: dict[str, Any], *, reload: bool = True) -> None:
    """A node's file has something new, and the node knows it, or does not."""
    place = herd.places[name]
    layout.write_settings(place, layout.merge(layout.read_settings(place), changes))
    if reload:
        herd.ask(f"/nodes/{name}/config/reload", name=name, method="POST", body={})


def written_back(herd: LocalHerd) -> Callable[[], None]:
    """What gives every node the file again that it has now."""
    before = {name: herd.places[name].config.read_text() for name in herd.nodes}

    def back() -> None:
        for name, text in before.items():
            herd.places[name].config.write_text(text)
            herd.ask(f"/nodes/{name}/config/reload", name=name, method="POST", body={})

    return back
