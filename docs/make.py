"""Write the generated pages of docs/reference: `./dev docs`, or `./dev docs --check`.

Owns the list of pages and the function that each comes from. Leaves their text to those functions;
a test runs `--check`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from pgherd.config.reference import reference as configuration
from pgherd.plan.herd import RULES as HERD_RULES
from pgherd.plan.member import RULES as MEMBER_RULES
from pgherd.plan.member import MemberRule
from pgherd.plan.rule import HerdRule

ROOT = Path(__file__).resolve().parents[1]

RULES_HEAD = """# Rules

<!-- Generated from the tables in src/pgherd/plan by `./dev docs`; edit the rows there. -->

Every decision of pgherd is one of these rows: the first that applies, in this order, decides. The
number stands in events, logs, history and the API, and is never used again for another rule.
"""


def rules() -> str:
    """The page of both deciders' tables."""
    herd = "The herd: the Raft leader turns facts and reports into ledger commands"
    member = "The member: every node turns facts and what it sees into one act of its own"
    return "\n".join((RULES_HEAD, _table(herd, HERD_RULES), _table(member, MEMBER_RULES)))


def _table(title: str, rows: Sequence[HerdRule | MemberRule]) -> str:
    numbers = [row.number for row in rows]
    assert len(numbers) == len(set(numbers)), f"a rule's number is used twice: {numbers}"
    lines = [f"| {row.number} | {row.sentence} |" for row in rows]
    return "\n".join((f"## {title}", "", "| rule | sentence |", "|---|---|", *lines, ""))


PAGES = {
    "docs/reference/configuration.md": configuration,
    "docs/reference/rules.md": rules,
}
"""page -> function that returns its text."""


def main(words: list[str]) -> int:
    """Write every page, or say which differ."""
    stale = []
    for page, write in PAGES.items():
        path, text = ROOT / page, write()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(page)
        if "--check" not in words:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {page}")
    if stale and "--check" in words:
        print(f"stale: {' '.join(stale)}; run ./dev docs", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
