"""What this machine allows, and the way into namespaces that belong to one run alone.

Owns the question what is missing for nodes with networks and disks of their own, the words for it,
and the start of the run inside a network and a mount namespace: every device, route, rule and mount
that a run makes is gone with its last process. Leaves making them to `networks` and `disks`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

from pgherd.model.errors import OperatorError

INSIDE = "PGHERD_CHAOS_INSIDE"
COMMAND_TIMEOUT_S = 30
TOOLS = {
    "ip": "iproute2",
    "tc": "iproute2",
    "nft": "nftables",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "mount": "mount",
    "fsfreeze": "util-linux",
    "mkfs.ext4": "e2fsprogs",
}
"""program -> the package of Debian that brings it."""
GROUPS = Path("/sys/fs/cgroup")
GROUP_KINDS = ("freezer", "memory", "pids")


class Missing(msgspec.Struct, frozen=True):
    """Something that this machine lacks, and what to type for it."""

    what: str
    command: str


def missing() -> list[Missing]:
    """What keeps nodes of this machine from networks and disks of their own."""
    again = "./dev chaos"
    if os.geteuid() != 0:
        return [Missing("namespaces and mounts need root", f"sudo {again}, or --loopback")]
    packages = sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})
    found = []
    if packages:
        command = f"apt-get install {' '.join(packages)}, then {again}"
        found.append(Missing(f"programs of {', '.join(packages)}", command))
    lacking = [kind for kind in GROUP_KINDS if not os.access(GROUPS / kind, os.W_OK)]
    if lacking:
        text = f"cgroups (v1) that can be written: {', '.join(lacking)}"
        found.append(Missing(text, "another machine, or --loopback"))
    if not found and not _may_unshare():
        found.append(Missing("the right to make namespaces", "a machine of its own, or --loopback"))
    return found


def require() -> None:
    """Say what is missing; nothing is started then."""
    found = missing()
    if found:
        raise OperatorError(
            f"this machine cannot hold nodes apart: {'; '.join(one.what for one in found)}",
            "; ".join(one.command for one in found),
        )


def is_inside() -> bool:
    """Whether this process has namespaces of its own."""
    return os.environ.get(INSIDE) == "1"


def enter(words: list[str]) -> None:
    """Become the same command in a network and a mount namespace of its own."""
    environment = {**os.environ, INSIDE: "1"}
    command = ["unshare", "--net", "--mount", "--propagation", "private"]
    os.execvpe(command[0], [*command, sys.executable, "-m", "pgherd.chaos", *words], environment)


def run(*command: str, text: str = "") -> str:
    """Run a program to its end; its output, or an error that carries its own words."""
    done = subprocess.run(
        command,
        input=text,
        check=False,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def _may_unshare() -> bool:
    command = ("unshare", "--net", "--mount", "--propagation", "private", "true")
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
