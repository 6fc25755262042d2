"""docs/reference/mutants.md: the mistakes that are planted, in the herd and in the consensus core.

Owns the page; its two parts, and what they remember between runs, are the two `reference` modules'.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pgherd.sim.mutants import reference as herd
from pgherd.sim.noticed import Noticed
from pgherd.sim.raft import reference as raft

PAGE = Path("docs", "reference", "mutants.md")
"""Relative to the repository, where ./dev runs everything."""

HEAD = """# Mutants

Made from the tables in `src/pgherd/sim/mutants` and `src/pgherd/sim/raft/mutants.py` by
`./dev docs`; do not edit. A test that cannot notice a known mistake proves nothing: so known
mistakes are planted on purpose, one after the other, and each must be noticed.

"""


def text_of(*, herd_noticed: Mapping[str, Noticed], raft_noticed: Mapping[str, Noticed]) -> str:
    """The page."""
    return f"{HEAD}{herd.text_of(herd_noticed)}\n{raft.text_of(raft_noticed)}"


def text(page: Path = PAGE) -> str:
    """The page as it should be, with what it remembers."""
    return text_of(herd_noticed=herd.read(page), raft_noticed=raft.read(page))


def record(
    *,
    herd_noticed: Mapping[str, Noticed] | None = None,
    raft_noticed: Mapping[str, Noticed] | None = None,
    page: Path = PAGE,
) -> None:
    """Write who noticed what, beside what the page remembers."""
    new = text_of(
        herd_noticed=herd.read(page) | dict(herd_noticed or {}),
        raft_noticed=raft.read(page) | dict(raft_noticed or {}),
    )
    page.write_text(new, encoding="utf-8")
