"""The archive of WAL: through a failover, for a replica whose WAL is gone, and for one that never
streams.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tending import node

from pgherd.model.archive import SEGMENT_BYTES, read_name
from pgherd.proof.herd import LocalHerd
from pgherd.proof.layout import merge, read_settings, write_settings


@pytest.fixture
def archive() -> Iterator[Path]:
    """A directory that PostgreSQL's user may write to, as a share would be."""
    made = Path(tempfile.mkdtemp(prefix="pgherd-archive-"))
    made.chmod(0o777)
    yield made
    shutil.rmtree(made)


def lay_over(herd: LocalHerd, name: str, changes: dict[str, Any]) -> None:
    place = herd.places[name]
    write_settings(place, merge(read_settings(place), changes))


def write(herd: LocalHerd, rows: int, *, switch: bool = True) -> int:
    """Some rows, and the end of their segment; how many there are."""
    first = herd.wait_primary()
    herd.query(first, "CREATE TABLE IF NOT EXISTS archived (id bigserial PRIMARY KEY, text text)")
    herd.query(
        first, f"INSERT INTO archived (text) SELECT md5(g::text) FROM generate_series(1,{rows}) g"
    )
    if switch:
        herd.query(first, "SELECT pg_switch_wal()")
    return count(herd, first)


def count(herd: LocalHerd, name: str) -> int:
    [(found,)] = herd.query(name, "SELECT count(*) FROM archived")
    return int(found)


def wait_rows(herd: LocalHerd, name: str, rows: int) -> None:
    def there() -> bool:
        exists = herd.query(name, "SELECT to_regclass('archived') IS NOT NULL") == [(True,)]
        return exists and count(herd, name) == rows

    herd.wait_for(there, f"{rows} rows on {name}", deadline_s=60)


def wait_streams(herd: LocalHerd, name: str) -> None:
    """Wait until it does and counts again: n3 never streams, so the herd is never redundant."""

    def counts() -> bool:
        return node(herd, name)["state"] == "streaming" and name in voters(herd)

    herd.wait_for(counts, f"{name} back", deadline_s=90)


def voters(herd: LocalHerd) -> list[str]:
    return [str(name) for name in herd.status()["synchronous"]["voters"]]


def wait_whole(herd: LocalHerd, archive: Path) -> None:
    """What the former primary had finished comes from the new one, a moment later."""
    herd.wait_for(lambda: gaps(archive) == [], "an archive without a gap", deadline_s=60)


def gaps(archive: Path) -> list[str]:
    """Segments that are missing between the first and the last, whatever their timeline."""
    files = {name.name: read_name(name.name) for name in archive.iterdir()}
    whole = sorted({file.begins for file in files.values() if file is not None and file.whole})
    return [
        hex(begins)
        for begins in range(whole[0], whole[-1], SEGMENT_BYTES)
        if begins not in set(whole)
    ]


@pytest.mark.parametrize("stable", ["debian-15"], indirect=True)
def test_a_running_herd_begins_to_archive(herd: LocalHerd, archive: Path) -> None:
    """By a reload: segments of both sides of a switchover; what fails is said."""
    for name in herd.nodes:
        herd.reload_node(name, {"archive": {"directory": str(archive)}})
    first = herd.wait_primary()
    herd.wait_for(
        lambda: "pgherd-wal-" in str(herd.query(first, "SHOW archive_command")),
        "its command",
        deadline_s=30,
    )
    write(herd, 100)
    herd.wait_for(lambda: timelines(archive), "the first segment", deadline_s=30)
    herd.switchover()
    second = herd.wait_primary(other_than=first)
    write(herd, 100)
    herd.wait_for(lambda: len(timelines(archive)) == 2, "one of the new timeline", deadline_s=30)
    wait_whole(herd, archive)
    # A node whose archive is another one is told; one that fails is, too, and says what waits.
    elsewhere = archive / "not mounted"
    herd.reload_node(second, {"archive": {"directory": str(elsewhere), "tries": 1}})
    write(herd, 100)

    def is_said() -> bool:
        said = " ".join(herd.status()["warnings"])
        return f"cannot use {elsewhere}" in said and f"{second}'s is directory {elsewhere}" in said

    herd.wait_for(is_said, "both warnings", deadline_s=30)
    for name in herd.nodes:
        herd.reload_node(name, {"archive": {"directory": None}})
    herd.wait_for(
        lambda: herd.query(second, "SHOW archive_command") == [("true",)], "its end", deadline_s=30
    )
    herd.query(second, "DROP TABLE archived")
    herd.wait_stable(60)


def timelines(archive: Path) -> set[int]:
    """Of the whole segments that are there."""
    files = [read_name(one.name) for one in archive.iterdir()]
    return {file.timeline for file in files if file is not None and file.whole}


@pytest.mark.full
@pytest.mark.fault(69)
def test_archive_through_a_failover_and_back(stable: Any, archive: Path) -> None:
    """The whole life of an archive, on one herd."""
    overrides = {
        "archive": {"directory": str(archive)},
        "postgresql": {"parameters": {"wal_keep_size": "0", "checkpoint_timeout": "1h"}},
    }
    with LocalHerd(3, postgres_bin=stable.postgres_bin, overrides=overrides) as herd:
        lay_over(herd, "n3", {"node": {"tags": {"nostream": True}}})
        herd.start()
        follows_by_archive(herd)
        fails_over(herd, archive)
        comes_back_by_archive(herd)
        archives_nothing_alone(herd, archive)


def follows_by_archive(herd: LocalHerd) -> None:
    """n3 gets rows though nobody streams to it, counts for nothing, and its lag is true."""
    first = herd.wait_primary()
    herd.wait_for(
        lambda: node(herd, "n3")["state"] == "archive recovery",
        "n3 without a stream",
        deadline_s=60,
    )
    wait_rows(herd, "n3", write(herd, 1000))
    clients = herd.query(first, "SELECT application_name FROM pg_stat_replication")
    assert not any(name.startswith("n3.") for (name,) in clients), clients
    slots = herd.query(first, "SELECT slot_name FROM pg_replication_slots")
    assert ("pgherd_n3",) not in slots, slots
    assert "n3" not in voters(herd)
    write(herd, 1000, switch=False)
    herd.wait_for(lambda: node(herd, "n3")["lag_bytes"] > 0, "its true lag", deadline_s=30)


def fails_over(herd: LocalHerd, archive: Path) -> None:
    first = herd.wait_primary()
    write(herd, 1000, switch=False)
    herd.kill_node(first)
    second = herd.wait_primary(other_than=first, deadline_s=60)
    assert second != "n3"
    rows = write(herd, 1000)
    wait_rows(herd, "n3", rows)
    wait_whole(herd, archive)
    herd.restart_node(first)
    wait_streams(herd, first)


def comes_back_by_archive(herd: LocalHerd) -> None:
    """Its slot is dropped and its WAL recycled while it is away: it comes back without a copy."""
    first = herd.wait_primary()
    other = next(name for name in herd.nodes if name not in (first, "n3"))
    directory = herd.places[other].data.stat().st_ino
    incarnation = (herd.places[other].data / "pgherd.incarnation").read_text()
    herd.kill_node(other)
    for _ in range(4):
        rows = write(herd, 100)
    herd.query(first, f"SELECT pg_replication_slot_advance('pgherd_{other}', pg_current_wal_lsn())")
    herd.query(first, "CHECKPOINT")
    herd.restart_node(other)
    wait_streams(herd, other)
    assert count(herd, other) == rows
    book = json.loads((herd.places[other].directory / "raft" / "remedies.json").read_text())
    steps = [(one["step"], one["ending"]) for one in book["remedies"]]
    assert ("fetch from archive", "done") in steps, steps
    assert "copy" not in {step for step, _ in steps}
    assert herd.places[other].data.stat().st_ino == directory
    assert (herd.places[other].data / "pgherd.incarnation").read_text() == incarnation
    herd.wait_for(
        lambda: herd.query(other, "SHOW restore_command") == [("",)],
        "no archive any more",
        deadline_s=30,
    )


FINISHED = """SET synchronous_commit = local; INSERT INTO archived (text) VALUES ('alone');
SELECT pg_walfile_name(pg_switch_wal())"""
"""What a client can do to a primary that is cut off; nobody was promised that row."""
FAILED = "SELECT failed_count FROM pg_stat_archiver"


def archives_nothing_alone(herd: LocalHerd, archive: Path) -> None:
    """A primary that nobody hears finishes a segment: it does not go before the others have it."""
    first = herd.wait_primary()
    others = [name for name in herd.nodes if name != first]
    [before] = herd.query(first, FAILED)
    for name in others:
        herd.pause_node(name)
    try:
        [(finished,)] = herd.query(first, FINISHED)
        herd.wait_for(
            lambda: herd.query(first, FAILED) > [before], "a try that failed", deadline_s=60
        )
        assert not (archive / str(finished)).exists()
    finally:
        for name in others:
            herd.resume_node(name)
    end = read_name(str(finished))
    assert end is not None

    def goes_on() -> bool:
        write(herd, 10)
        files = [read_name(one.name) for one in archive.iterdir()]
        return any(file is not None and file.begins > end.begins for file in files)

    herd.wait_for(goes_on, "a later segment in the archive", deadline_s=60)
    wait_whole(herd, archive)
