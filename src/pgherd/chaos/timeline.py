"""A run as a drawing: faults, reigns and acknowledgements over time, as text and as SVG.

Pure. Owns both drawings. Each bin of time shows its acknowledgements per second and who reigned;
below lie the faults, each as a bar.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from html import escape
from itertools import pairwise

import msgspec

from pgherd.sim.drawing import STYLE

COLUMNS = 100
LEVELS = " ▁▂▃▄▅▆▇█"
LABEL = 30
PIXELS, LEFT, ROW, HIGH = 1000, 210, 16, 90
HUES = ("#0550ae", "#1a7f37", "#9a6700", "#8250df", "#bc4c00", "#116329", "#a40e26")


class Bar(msgspec.Struct, frozen=True):
    """A fault or a reign from a time to a time, in seconds of the run. term: a reign's."""

    label: str
    began: float
    ended: float
    note: str = ""
    term: int = 0


class Story(msgspec.Struct, frozen=True):
    """What is drawn. acks: the time of each acknowledgement, in order."""

    seconds: float
    acks: Sequence[float]
    reigns: Sequence[Bar]
    faults: Sequence[Bar]


def rates(acks: Sequence[float], *, seconds: float, bins: int) -> list[float]:
    """Acknowledgements per second in each of so many equal parts."""
    width = seconds / bins
    edges = [bisect_left(acks, number * width) for number in range(bins + 1)]
    return [(later - one) / width for one, later in pairwise(edges)]


def text(story: Story) -> str:
    """The drawing in characters, one fault a line."""
    width = story.seconds / COLUMNS
    found = rates(story.acks, seconds=story.seconds, bins=COLUMNS)
    highest = max(found, default=0.0) or 1.0
    curve = "".join(bar(rate / highest) for rate in found)
    lines = [
        f"{'':{LABEL}} 0 s, {width:.1f} s a column, to {story.seconds:.0f} s",
        f"{f'acks, up to {highest:.0f} a second':{LABEL}} {curve}",
        f"{'primary':{LABEL}} {reign_line(story, [one.label[-1] for one in story.reigns])}",
        f"{'term, its last digit':{LABEL}} "
        f"{reign_line(story, [str(one.term % 10) for one in story.reigns])}",
    ]
    lines += [
        f"{one.label[: LABEL - 1]:{LABEL}} {span(one, width=width)} {one.note}".rstrip()
        for one in story.faults
    ]
    return "\n".join(lines) + "\n"


def bar(part: float) -> str:
    """A column of a height from 0 to 1; what is little is never drawn as nothing."""
    if part <= 0:
        return LEVELS[0]
    return LEVELS[max(1, min(len(LEVELS) - 1, round(part * (len(LEVELS) - 1))))]


def reign_line(story: Story, marks: Sequence[str]) -> str:
    """The mark of the reign of each column; dots while nobody reigns."""
    width = story.seconds / COLUMNS
    cells = ["."] * COLUMNS
    for reign, mark in zip(story.reigns, marks, strict=True):
        first = max(0, int(reign.began / width))
        for column in range(first, min(COLUMNS, int(reign.ended / width) + 1)):
            cells[column] = mark
    return "".join(cells)


def span(one: Bar, *, width: float) -> str:
    """A fault's bar, up to its end."""
    first = min(COLUMNS - 1, int(one.began / width))
    last = min(COLUMNS - 1, max(first, int(one.ended / width)))
    return " " * first + "#" * (last - first + 1)


def svg(story: Story) -> str:
    """The same as a picture."""
    scale = (PIXELS - LEFT - 20) / max(story.seconds, 1.0)
    height = HIGH + 60 + ROW * len(story.faults) + 40
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {PIXELS} {height}">',
        "<title>A run of chaos</title>",
        f"<style>{STYLE}text{{font-size:11px}}</style>",
        f'<rect width="{PIXELS}" height="{height}" fill="#fff"/>',
    ]
    body = [*_curve(story, scale), *_reigns(story, scale), *_faults(story, scale)]
    return "\n".join([*head, *body, *_axis(story, scale, height), "</svg>"]) + "\n"


def _curve(story: Story, scale: float) -> list[str]:
    bins = max(1, min(PIXELS - LEFT, int(story.seconds * 2)))
    found = rates(story.acks, seconds=story.seconds, bins=bins)
    highest = max(found, default=0.0) or 1.0
    step = story.seconds / bins * scale
    points = " ".join(
        f"{LEFT + (place + 0.5) * step:.1f},{HIGH - 70 * value / highest:.1f}"
        for place, value in enumerate(found)
    )
    return [
        f'<text x="8" y="30">acks, up to {highest:.0f} a second</text>',
        f'<polyline points="{points}" fill="none" stroke="#0550ae"/>',
    ]


def _reigns(story: Story, scale: float) -> list[str]:
    names = sorted({one.label for one in story.reigns})
    y = HIGH + 8
    found = [f'<text x="8" y="{y + 12}">primary, by terms</text>']
    for one in story.reigns:
        x, width = LEFT + one.began * scale, max(1.0, (one.ended - one.began) * scale)
        hue = HUES[names.index(one.label) % len(HUES)]
        tip = f"<title>{escape(one.note)}</title>"
        found.append(
            f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="14" fill="{hue}">{tip}</rect>'
        )
        if width > 18:
            found.append(
                f'<text x="{x + 2:.1f}" y="{y + 11}" style="fill:#fff">{escape(one.label)}</text>'
            )
    return found


def _faults(story: Story, scale: float) -> list[str]:
    found = []
    for place, one in enumerate(story.faults):
        y = HIGH + 36 + ROW * place
        x, width = LEFT + one.began * scale, max(2.0, (one.ended - one.began) * scale)
        words = escape(f"{one.label} {one.note}".strip())
        found += [
            f'<text x="8" y="{y + 10}">{escape(one.label)}</text>',
            f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="11" fill="#cf222e">'
            f"<title>{words}</title></rect>",
        ]
    return found


def _axis(story: Story, scale: float, height: int) -> list[str]:
    every = next((one for one in (10, 30, 60, 300, 600, 3600) if story.seconds / one <= 12), 7200)
    found = []
    for at in range(0, int(story.seconds) + 1, every):
        x = LEFT + at * scale
        found += [
            f'<line x1="{x:.1f}" y1="10" x2="{x:.1f}" y2="{height - 24}" style="opacity:.4"/>',
            f'<text x="{x:.1f}" y="{height - 8}">{at} s</text>',
        ]
    return found
