"""What `bench/peers` has measured so far, in one file, and the tables that show it.

A run is as long as somebody can have a machine for; the next one adds its rounds to the same file.
Owns that file and the tables. Leaves measuring to `peers`.
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

KINDS = ("runs", "visits", "rest", "turns", "latencies")
ALL = {
    "postmaster": "PostgreSQL killed",
    "node": "the primary's node killed",
    "switchover": "planned switchover",
}
"""kind of fault -> as the table calls it."""

Found = dict[str, Any]


class Record:
    """All rounds in a file; without one they are shown and forgotten."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        known = json.loads(file.read_text()) if file is not None and file.exists() else {}
        self.found: dict[str, list[Found]] = {kind: known.get(kind, []) for kind in KINDS}

    def add(self, kind: str, one: Found) -> None:
        """Keep one finding, at once: the next round may fail."""
        self.found[kind].append(one)
        if self._file is not None:
            lines = [
                f'"{kind}": [\n' + ",\n".join(json.dumps(one) for one in self.found[kind]) + "\n]"
                for kind in KINDS
            ]
            self._file.write_text("{" + ",\n".join(lines) + "}\n")

    def systems(self, kind: str) -> list[str]:
        """Those that were measured, in a fixed order."""
        return sorted({str(one["system"]) for one in self.found[kind]}, key=_place)

    def lines(self) -> list[str]:
        """Everything as text for people."""
        parts = [self._run_lines(), self._outage_lines(), self._loss_lines()]
        parts += [self._rest_lines(), self._turn_lines(), self._latency_lines()]
        return [line for part in parts if part for line in [*part, ""]]

    def _run_lines(self) -> list[str]:
        return [f"{one['at']} {one['commit']}: {one['command']}" for one in self.found["runs"]] + [
            f"of {one['at']}: {', '.join(one['versions'])}" for one in self.found["runs"][-1:]
        ]

    def _outage_lines(self) -> list[str]:
        """A row per kind of fault and system."""
        rows = []
        for fault, title in ALL.items():
            for system in self.systems("visits"):
                mine = [
                    trial
                    for visit in self.found["visits"]
                    for trial in visit["trials"]
                    if visit["system"] == system and trial["fault"] == fault
                ]
                if not mine:
                    continue
                errors = [one["refused"] + one["unknown"] + one["unconnected"] for one in mine]
                failed = [one["refused"] + one["unknown"] for one in mine]
                cells = (
                    *(title, system, str(len(mine))),
                    seconds([one["outage_s"] for one in mine]),
                    f"{statistics.median(failed):.0f} ({min(failed)} - {max(failed)})",
                    f"{statistics.median(errors):.0f} ({min(errors)} - {max(errors)})",
                    seconds([one["redundant_s"] for one in mine]),
                )
                rows.append(cells)
        heads = ("fault", "system", "n", "write outage", "failed statements")
        heads += ("failed statements and connections", "whole again")
        return table(heads, rows)

    def _loss_lines(self) -> list[str]:
        rows = []
        for system in self.systems("visits"):
            mine = [one for one in self.found["visits"] if one["system"] == system]
            counts = [sum(one[key] for one in mine) for key in ("acknowledged", "lost", "odd")]
            faults = sum(len(one["trials"]) for one in mine)
            cold = seconds([one["cold_s"] for one in mine])
            rows.append((system, str(faults), *(f"{count:,}" for count in counts), cold))
        heads = ("system", "faults", "acknowledged rows", "of them lost", "duplicated or unknown")
        return table((*heads, "cold start"), rows)

    def _rest_lines(self) -> list[str]:
        """By node: the median, and the least and the most of all nodes and rounds."""
        rows = []
        for system in self.systems("rest"):
            mine = [one for one in self.found["rest"] if one["system"] == system]
            names = sorted({name for one in mine for name in one["parts_pss_mb"]})
            parts = ", ".join(
                f"{name} {statistics.median(one['parts_pss_mb'].get(name, 0) for one in mine):.0f}"
                for name in names
            )
            cells = (
                f"{spread([one['pss_mb'] for one in mine], '{:.0f}')} MB",
                parts or "not split",
                f"{spread([one['rss_mb'] for one in mine], '{:.0f}')} MB",
                f"{spread([one['cpu_percent'] for one in mine], '{:.2f}')} %",
            )
            rows.append((system, str(len(mine)), *cells))
        return table(("system", "nodes seen", "PSS", "by program", "RSS", "of a core"), rows)

    def _turn_lines(self) -> list[str]:
        """Throughput, and its ratio to the direct connection of the same round."""
        return self._ratio_lines(
            "turns", ("transactions a second",), lambda one: (one["tps"],), "{:.0f}"
        )

    def _latency_lines(self) -> list[str]:
        """At a fixed rate, with the ratio to the direct connection of the same round."""
        return self._ratio_lines(
            "latencies",
            ("p50, ms", "p99, ms"),
            lambda one: (one["p50_us"] / 1000, one["p99_us"] / 1000),
            "{:.2f}",
        )

    def _ratio_lines(
        self,
        kind: str,
        heads: Sequence[str],
        values: Callable[[Found], tuple[float, ...]],
        form: str,
    ) -> list[str]:
        groups: dict[tuple[str, str], list[Found]] = defaultdict(list)
        for one in self.found[kind]:
            groups[one["load"], one["way"]].append(one)
        rows = []
        for (load, way), mine in sorted(
            groups.items(), key=lambda one: (one[0][0], _place(one[0][1]))
        ):
            base = {one["round"]: values(one) for one in groups[load, mine[0]["direct"]]}
            cells = []
            for number in range(len(heads)):
                ratios = [values(one)[number] / base[one["round"]][number] for one in mine]
                cells.append(form.format(statistics.median(values(one)[number] for one in mine)))
                cells.append(spread(ratios, "{:.2f}"))
            rows.append((load, way, str(len(mine)), *cells))
        columns = [word for head in heads for word in (head, "of direct")]
        return table(("load", "way in", "rounds", *columns), rows)


def _place(name: str) -> tuple[bool, bool, str]:
    """Ours first, and of each the direct connection first."""
    return not name.startswith("pgherd"), "direct" not in name, name


def seconds(values: list[float]) -> str:
    """Median, least and most."""
    return f"{spread(values, '{:.1f}' if min(values) >= 3 else '{:.2f}')} s"


def spread(values: list[float], form: str) -> str:
    """The median, and between what all of them lie."""
    middle, least, most = statistics.median(values), min(values), max(values)
    if len(values) == 1:
        return form.format(middle)
    return f"{form.format(middle)} ({form.format(least)} - {form.format(most)})"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Markdown; nothing where there are no rows."""
    if not rows:
        return []
    return [
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
