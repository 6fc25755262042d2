"""Proves what is told of copies under way, and how a copy is asked for."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pgherd.cli.output import bar
from pgherd.cli.progress import Progress
from pgherd.ledger import commands as cmd
from pgherd.model.ids import NodeId
from pgherd.model.remedy import Copied, Ending, Remedy, Repairs, Step

N1, N2 = NodeId("n1"), NodeId("n2")
COPY = Remedy(Step.COPY, 81, "asked for", 1_700_000_000_000, source=N1)
HALF = Copied(50, 1 << 30, 2 << 30, after_ms=10_000)


@pytest.fixture
def url(herd, served) -> tuple[str, str]:
    herd.current = replace(herd.current, level=6)
    return "--api-url", served.url


def says(herd, repairs: Repairs) -> None:
    heard = herd.heard[N2]
    herd.heard[N2] = replace(heard, report=replace(heard.report, repairs=repairs))


def test_a_bar_is_as_long_as_what_is_done() -> None:
    """And stays within its ends."""
    assert bar(0) == "[....................] 0 %"
    assert bar(50) == "[##########..........] 50 %"
    assert bar(103) == "[####################] 103 %"


def test_progress_is_a_line_for_each_node(herd, url, pgherd):
    """Where nothing is under way it says so, and --watch ends."""
    assert pgherd("progress", "--watch", *url).out == "nothing is under way\n"
    says(herd, Repairs(remedies=(COPY,), copied=HALF))
    assert pgherd("progress", *url).out == (
        "n2 copy from n1 [##########..........] 50 % 1.0 GB of 2.0 GB, 102.4 MB/s, 10 s left\n"
    )
    says(herd, Repairs(remedies=(COPY,)))
    assert pgherd("progress", *url).out == "n2 copy from n1: begins\n"


def test_status_shows_the_bar_the_lag_and_what_was_tried(herd, url, pgherd):
    """In the words of the node, and why it failed."""
    failed = replace(COPY, ending=Ending.FAILED, why="no space left", tries=3)
    herd.report_server(N2, receiver=None)
    says(herd, Repairs(stuck="receives nothing from n1", remedies=(failed,)))
    out = pgherd("status", *url).out
    assert "! n2: copy of n1, failed, 3 times in a row: no space left" in out
    assert "stuck" in out
    says(herd, Repairs(remedies=(COPY,), copied=HALF))
    heard = herd.heard[N2]
    herd.heard[N2] = replace(heard, report=replace(heard.report, progress_percent=50))
    out = pgherd("status", *url).out
    assert "rebuilding" in out
    assert "[##########..........] 50 %" in out


def test_a_copy_is_followed_with_its_progress(herd, url, pgherd):
    """From a replica by name, or from the primary; both at once is refused before anything."""

    async def ends(herd) -> None:
        [work] = herd.current.upkeep.open_works()
        herd.must(cmd.TakeInHand(work.id, 0, N2, mark="7", text="is copied", rule=1101))
        herd.must(cmd.CrossOff(work.id, 1, rule=1103))

    herd.react = ends
    asked = pgherd("reinit", "n2", "--from", "n3", "--yes", *url)
    assert (asked.code, asked.out) == (0, "reinitialize of n2: done\n"), asked.err
    assert "anew from n3" in asked.err
    assert herd.current.upkeep.works[-1].source == "n3"
    assert pgherd("reinit", "n2", "--from-leader", "--yes", *url).code == 0
    assert herd.current.upkeep.works[-1].from_leader
    assert pgherd("reinit", "n2", "--yes", *url).code == 0
    assert herd.current.upkeep.works[-1].source is None
    both = pgherd("reinit", "n2", "--from", "n3", "--from-leader", "--yes", *url)
    assert both.code == 2


class Told:
    """An API that tells of one copy after another; it stands for `Common` too."""

    def __init__(self, *percents: int | None) -> None:
        self.percents = list(percents)

    def api(self) -> Told:
        return self

    def get(self, path: str) -> dict:
        assert path == "/api/v1/progress"
        percent = self.percents.pop(0)
        one = {
            "node": "n2",
            "phase": "copy",
            "source": None,
            "percent": percent,
            "done_bytes": 0,
            "total_bytes": 0,
            "bytes_per_second": None,
            "left_seconds": None,
        }
        return {"progress": [one]}


def test_who_waits_is_told_every_tenth_part(capsys):
    """Where no terminal can draw over its last line; the end is always told."""
    told, shows = Told(None, 3, 7, 12, 99, 100, 100), Progress()
    for _ in range(7):
        shows.show(told, "n2")
    shows.show(told, None)
    shows.end()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("] ")[1].split(" %")[0] for line in lines] == ["3", "12", "99", "100"]
