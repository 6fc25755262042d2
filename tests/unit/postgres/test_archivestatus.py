"""What waits to be archived, and what a new primary has to archive in its predecessor's place."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from pgherd.model.ids import Timeline
from pgherd.postgres import archivestatus, live, walcommand, walprogram
from pgherd.postgres.settings import CLOSED_NAMES


def name(timeline: int, number: int) -> str:
    return f"{timeline:08X}{0:08X}{number:08X}"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A new primary on timeline 2, which has received three segments of timeline 1."""
    status = tmp_path / "pg_wal" / "archive_status"
    status.mkdir(parents=True)
    for number in (1, 2, 3):
        (status.parent / name(1, number)).touch()
        (status / f"{name(1, number)}.done").touch()
    for file in (f"{name(1, 4)}.partial", "00000002.history", name(2, 4), name(2, 5)):
        (status.parent / file).touch()
    (status / "00000002.history.ready").touch()
    (status / f"{name(1, 4)}.partial.ready").touch()
    (status / f"{name(2, 4)}.done").touch()
    return tmp_path


def test_what_waits_is_counted(data_dir: Path) -> None:
    status = archivestatus.read(data_dir)
    assert status.waiting == 2
    assert status.newest_done(Timeline(2)) == name(2, 4)
    assert status.newest_done(Timeline(1)) == name(1, 3)
    assert status.newest_done(Timeline(3)) == ""


def test_what_its_predecessor_may_not_have_archived_waits_again(data_dir: Path) -> None:
    """Behind the last that it told of; of the own timeline nothing, nor what waits already."""
    more: dict[str, Any] = {"before": Timeline(2), "behind": name(1, 1), "user": None}
    assert archivestatus.make_ready(data_dir, **more) == (name(1, 2), name(1, 3))
    status = archivestatus.read(data_dir)
    assert status.ready == (
        name(1, 2),
        name(1, 3),
        f"{name(1, 4)}.partial",
        "00000002.history",
    )
    assert archivestatus.make_ready(data_dir, **more) == ()
    whole = {**more, "behind": ""}
    assert archivestatus.make_ready(data_dir, **whole) == (name(1, 1),)


def test_one_without_any_mark_is_marked(data_dir: Path) -> None:
    (archivestatus.folder(data_dir) / f"{name(1, 3)}.done").unlink()
    made = archivestatus.make_ready(data_dir, before=Timeline(2), behind=name(1, 2), user=None)
    assert made == (name(1, 3),)
    assert (archivestatus.folder(data_dir) / f"{name(1, 3)}.ready").exists()


def test_the_commands_survive_shell_and_percent_signs(tmp_path: Path) -> None:
    """PostgreSQL replaces %p and %f, and the shell splits what comes out."""
    folder = tmp_path / "it's 100% odd"
    prepared = walcommand.prepare(folder, 5442, None)
    line = walcommand.push(prepared).replace("%%", "\0").replace("%p", "pg_wal/X")
    words = shlex.split(line.replace("%f", "X").replace("\0", "%"))
    assert words[1:4] == [prepared[0], "-I", "-S"]
    program, place = folder / "pgherd-wal-5442.py", walcommand.socket_path(folder, 5442)
    assert words[4:] == [str(program), "push", str(place), "pg_wal/X", "X"]
    assert program.read_text() == Path(walprogram.__file__).read_text()
    assert walcommand.fetch(prepared).endswith("%f %p")


def test_the_archive_is_asked_only_by_who_is_told_to() -> None:
    """Not by a sealed standby, which looks at its WAL every 10 ms; rarely without a stream."""
    sealed = live.parameters_of(CLOSED_NAMES, None, None)
    assert sealed["restore_command"] == ""
    assert live.parameters_of(CLOSED_NAMES, "host=a", "s")["restore_command"] == ""
    beside = live.parameters_of(CLOSED_NAMES, "host=a", "s", fetch="get")
    assert (beside["restore_command"], beside["primary_conninfo"]) == ("get", "host=a")
    alone = live.parameters_of(CLOSED_NAMES, None, None, fetch="get")
    assert (alone["restore_command"], alone["primary_conninfo"]) == ("get", "")
    assert int(alone["wal_retrieve_retry_interval"]) == 5000
    assert "max_standby_archive_delay" not in alone
