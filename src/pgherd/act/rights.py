"""What the kernel lets this process do to a network (capabilities(7)), and to whom it passes it on.

Owns two questions about /proc/self/status and one call of prctl(2). Leaves what is done with the
rights to `vip`.
"""

from __future__ import annotations

from pathlib import Path

STATUS = Path("/proc/self/status")
NEEDED = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13}
"""name -> its bit: the first moves addresses, the second probes and announces them."""

HINT = (
    "put AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW under [Service]: systemctl edit pgherd, then"
    " systemctl restart pgherd"
)
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4


def lacking(status: Path = STATUS) -> list[str]:
    """Which of the rights that an address needs this process does not have."""
    has = mask("CapEff", status)
    return [name for name, bit in NEEDED.items() if not has >> bit & 1]


def keep_to_itself(status: Path = STATUS) -> None:
    """Give what was lent to this process to none that it starts: PostgreSQL needs no such right.

    To be called before there are threads: each has rights of its own to pass on.
    """
    if not mask("CapAmb", status):
        return
    import ctypes

    ctypes.CDLL(None).prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)


def mask(name: str, status: Path = STATUS) -> int:
    """One of the sets of rights; all of them where the system does not tell."""
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return 0 if name == "CapAmb" else -1
    found = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(found[0], 16) if found else -1
