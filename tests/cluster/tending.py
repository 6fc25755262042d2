"""Asking a running herd for work on its nodes, and waiting for its end."""

from __future__ import annotations

from typing import Any

from pgherd.proof.herd import LocalHerd

ENDED = ("done", "failed", "cancelled")


def ended(herd: LocalHerd, action: dict[str, Any], *, deadline_s: float = 60) -> dict[str, Any]:
    """The action once it has ended."""
    found = action

    def over() -> bool:
        nonlocal found
        found = herd.ask(f"/actions/{action['id']}")
        return found["state"] in ENDED

    herd.wait_for(over, f"the end of {action['action']}", deadline_s=deadline_s)
    return found


def done(herd: LocalHerd, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Ask for an action and wait until it is done."""
    asked = herd.ask(path, method="POST", body=body or {}, timeout_s=15.0)
    found = ended(herd, asked)
    assert found["state"] == "done", found
    return found


def node(herd: LocalHerd, name: str) -> dict[str, Any]:
    """A node as the API shows it."""
    found: dict[str, Any] = herd.ask(f"/nodes/{name}")
    return found
