"""What a page of mutants remembers between runs: which invariant noticed each, at which seed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple


class Noticed(NamedTuple):
    """Which invariant noticed a mutant, at which seed (counted from 1)."""

    invariant: str
    seed: int


def read_rows(page: Path, name: str) -> dict[str, Noticed]:
    """What a page says of the mutants whose cell is as the pattern says; nothing without a page."""
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    rows = re.findall(rf"^\| {name} \|.*\| (\w+) at seed (\d+) \|$", text, flags=re.MULTILINE)
    return {mutant: Noticed(invariant, int(seed)) for mutant, invariant, seed in rows}
