"""What the kernel tells of memory is read as it is, the control group's limit included; warnings
follow the limits that the documents state."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgherd.model.ids import NodeId
from pgherd.model.vitals import Memory, PeerSeen, Vitals
from pgherd.observe import memory
from pgherd.observe.reach import Reach

N2 = NodeId("n2")
GB = 1 << 30
MEMINFO = """MemTotal:        8388608 kB
MemFree:          100000 kB
MemAvailable:    2097152 kB
SwapTotal:       1048576 kB
SwapFree:         786432 kB
HugePages_Total:       0
"""


@pytest.fixture
def place(tmp_path: Path) -> dict[str, Path]:
    """Files as the kernel has them, without a control group."""
    (tmp_path / "meminfo").write_text(MEMINFO)
    (tmp_path / "vmstat").write_text("nr_free_pages 1\noom_kill 3\n")
    (tmp_path / "cgroup").write_text("0::/system.slice/pgherd.service\n")
    return {
        "meminfo": tmp_path / "meminfo",
        "vmstat": tmp_path / "vmstat",
        "own_group": tmp_path / "cgroup",
        "groups": tmp_path / "groups",
    }


def group(place: dict[str, Path], *, limit: str, used: int, idle: int) -> None:
    directory = place["groups"] / "system.slice" / "pgherd.service"
    directory.mkdir(parents=True)
    (directory / "memory.max").write_text(f"{limit}\n")
    (directory / "memory.current").write_text(f"{used}\n")
    (directory / "memory.stat").write_text(f"anon 5\ninactive_file {idle}\n")


def test_the_machines_memory(place: dict[str, Path]) -> None:
    assert memory.look(**place) == Memory(8 * GB, 2 * GB, GB, GB // 4, oom_kills=3)


def test_a_control_group_that_is_smaller_counts(place: dict[str, Path]) -> None:
    """What file pages could be given back is available to it."""
    group(place, limit=str(4 * GB), used=3 * GB, idle=GB // 2)
    found = memory.look(**place)
    assert found is not None
    assert (found.size_bytes, found.available_bytes) == (4 * GB, 3 * GB // 2)


@pytest.mark.parametrize("limit", ["max", str(64 * GB)])
def test_a_control_group_without_a_limit_that_matters_does_not(
    place: dict[str, Path], limit: str
) -> None:
    group(place, limit=limit, used=GB, idle=0)
    found = memory.look(**place)
    assert found is not None
    assert (found.size_bytes, found.available_bytes) == (8 * GB, 2 * GB)


def test_a_system_that_tells_nothing_has_none(tmp_path: Path) -> None:
    assert memory.look(meminfo=tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (Memory(8 * GB, GB, GB, GB // 4), []),
        (Memory(8 * GB, GB // 4), ["only 256 MB of its 8192 MB of memory are available"]),
        (Memory(8 * GB, GB, GB, GB // 2 + 1), ["512 MB of its 1024 MB of swap are in use"]),
    ],
)
def test_people_are_warned_of_little_memory(seen: Memory, words: list[str]) -> None:
    assert Vitals(memory=seen).warnings(expected=frozenset()) == words


def test_people_are_warned_of_processes_that_were_killed() -> None:
    [one] = Vitals(memory=Memory(GB, GB), oom_kills=2).warnings(expected=frozenset())
    assert one.startswith("the kernel killed 2 processes")


def test_people_are_warned_of_a_way_that_is_cut_or_slow() -> None:
    """Only of one that should be there, and not before it failed three times."""
    reach, place = Reach(), (N2, "api")
    for failures in (1, 2, 3):
        reach.note(place, problem="refused")
        vitals = Vitals(peers=reach.seen())
        told = vitals.warnings(expected=frozenset({place}))
        assert told == (["it does not reach n2 by api: refused"] if failures == 3 else [])
    assert Vitals(peers=reach.seen()).warnings(expected=frozenset()) == []
    reach.note(place, problem="", rtt_ms=150.0)
    assert reach.seen() == (PeerSeen(N2, "api", is_up=True, rtt_ms=150.0),)
    [slow] = Vitals(peers=reach.seen()).warnings(expected=frozenset())
    assert "takes 150 ms, more than 100 ms" in slow
    reach.keep(set())
    assert reach.seen() == ()
