"""The page of all checks, from the table itself; `./dev docs` writes it, a test compares it."""

from __future__ import annotations

from pgherd.plan.doctor.checks import CHECKS
from pgherd.plan.doctor.table import Check

_HEAD = """# Checks

<!-- Generated from src/pgherd/plan/doctor by `./dev docs`; edit the rows there. -->

What [`pgherd doctor`](../operate/doctor.md) looks at: {count} checks. An id stays what it is.
Checks of *the herd* are made once, those of *a server* on data members, the others on every node;
*slow* ones are left out by `--quick`.
"""


_COLUMNS = ("| check | severity | of | means | fix |", "|---|---|---|---|---|")


def page() -> str:
    """The whole page."""
    lines = [_HEAD.format(count=len(CHECKS))]
    groups: dict[str, list[Check]] = {}
    for check in CHECKS:
        groups.setdefault(check.id.partition(".")[0], []).append(check)
    for group, rows in groups.items():
        lines += [
            f"## {group}",
            "",
            "| check | severity | of | means | fix |",
            "|---|---|---|---|---|",
        ]
        lines += [row(check) for check in rows]
        lines.append("")
    return "\n".join(lines)


def row(check: Check) -> str:
    """One check as a row of a table."""
    of = "the herd" if check.herd else "a server" if check.needs_server else "a node"
    of += ", slow" if check.slow else ""
    fix = check.fix.replace("{node}", "N").replace("|", "\\|")
    means = check.means.replace("|", "\\|")
    return f"| `{check.id}` | {check.severity.value} | {of} | {means} | {fix} |"
