"""The page of all metrics, from the tables that make them: docs/reference/metrics.md.

Owns its form; what a metric means is its own help. Which to watch, and what to do, is
docs/operate/metrics.md, which people write.
"""

from __future__ import annotations

from pgherd.telemetry import durations
from pgherd.telemetry.metrics import COUNTERS, GAUGES
from pgherd.telemetry.nodemetrics import NODE_COUNTERS, NODE_GAUGES

HEAD = """\
# All metrics

Made by `./dev docs` from the tables of names; do not edit. What to watch, and what each alert asks
for: [metrics and alerts](../operate/metrics.md). A histogram has `_bucket`, `_sum` and `_count`.

| metric | kind | labels | meaning |
|---|---|---|---|
"""


def rows() -> list[tuple[str, str, tuple[str, ...], str]]:
    """Name, kind, labels and help of every metric, by name."""
    found = [
        *((name, "gauge", labels, text) for name, (text, labels) in (GAUGES | NODE_GAUGES).items()),
        *(
            (name, "counter", labels, text)
            for name, (text, labels) in (COUNTERS | NODE_COUNTERS).items()
        ),
        *(
            (name, "histogram", labels, text)
            for name, (text, labels, _) in durations.HISTOGRAMS.items()
        ),
        (durations.HOLD, "histogram", (), durations.HOLD_HELP),
        (durations.POOL_WAIT, "histogram", (), durations.POOL_WAIT_HELP),
    ]
    return sorted(found)


def page() -> str:
    """The whole page."""
    return HEAD + "".join(
        f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in labels)} | {text} |\n"
        for name, kind, labels, text in rows()
    )
