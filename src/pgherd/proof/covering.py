"""A machine whose kernel says other things, for one process: files covered in a mount namespace.

Needs root. Nothing outside of that process changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess

CANNOT = 77


def covered(files: Mapping[str, str], folder: Path, command: str) -> list[str]:
    """What runs a shell's command where these files have these texts. folder: for the texts."""
    covers = []
    for number, (path, text) in enumerate(files.items()):
        cover = folder / f"cover-{number}"
        cover.write_text(text)
        covers.append(f"mount --bind {cover} {path} || exit {CANNOT}")
    return ["unshare", "-m", "sh", "-c", "; ".join([*covers, f"exec {command}"])]


def could_not(done: CompletedProcess[bytes]) -> bool:
    """Whether nothing can be covered here."""
    return done.returncode == CANNOT or b"unshare failed" in done.stderr
