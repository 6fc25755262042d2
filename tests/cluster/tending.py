"""Asking a running herd for work on its nodes, by its API or as a person types it."""

from __future__ import annotations

import os
import subprocess
import sys
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


def typed(herd: LocalHerd, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A command line on a node, with an admin's token, where nobody answers questions."""
    config = str(herd.places[name].config)
    return subprocess.run(
        [sys.executable, "-m", "pgherd.cli.main", *words, "--config", config],
        env={**os.environ, "PGHERD_TOKEN": herd.secrets.token},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
