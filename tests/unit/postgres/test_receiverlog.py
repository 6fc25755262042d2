"""What a log says of the receiver, and which file systems a data directory lies on."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgherd.model.remedy import Cause, Said
from pgherd.postgres import receiverlog, syncing

AT = "2026-11-22 07:11:25.469 UTC [13053] "
REMOVED = "requested WAL segment 000000020000000000000003 has already been removed"
LOG = f"""{AT}LOG:  waiting for WAL to become available at 0/40000B8
{AT}FATAL:  could not connect to the primary server: connection to server at "10.0.0.1" failed:
\tNo route to host
\tIs the server running on that host?
{AT}LOG:  waiting for WAL to become available at 0/40000B8
{AT}ERROR:  relation "t" does not exist at character 15
"""


def test_the_newest_word_of_the_receiver_is_found() -> None:
    """With the lines that libpq adds; what clients do wrong is none of it."""
    said = receiverlog.judge(LOG)
    assert said.text.startswith("could not connect to the primary server: connection to server")
    assert said.text.endswith("No route to host Is the server running on that host?")
    assert said.cause is Cause.UNKNOWN
    newer = f"{LOG}{AT}FATAL:  could not receive data from WAL stream: ERROR:  {REMOVED}\n"
    assert receiverlog.judge(newer).cause is Cause.GONE
    assert receiverlog.judge("nothing of that\n") == Said()


@pytest.mark.parametrize(
    "words",
    [
        'FATAL:  password authentication failed for user "pgherd_replication"',
        'FATAL:  no pg_hba.conf entry for replication connection from host "10.0.0.2"',
        "fe_sendauth: no password supplied",
    ],
)
def test_who_is_not_let_in_is_told_from_who_lacks_wal(words: str) -> None:
    """No copy of data changes a password."""
    line = f"{AT}FATAL:  could not connect to the primary server: {words}\n"
    assert receiverlog.judge(line).cause is Cause.REFUSED


def test_what_was_said_before_the_trouble_is_not_its_cause(tmp_path: Path) -> None:
    """Read from an offset on; a log that was cut off since is read from its beginning."""
    log = tmp_path / "log"
    log.write_text(LOG, encoding="utf-8")
    offset = receiverlog.size(log)
    assert receiverlog.last_words(log, offset=offset) == Said()
    with log.open("a") as file:
        file.write(f"{AT}FATAL:  terminating walreceiver due to timeout\n")
    assert receiverlog.last_words(log, offset=offset).text.endswith("timeout")
    log.write_text(LOG[:300], encoding="utf-8")
    assert receiverlog.last_words(log, offset=offset).text
    assert receiverlog.last_words(tmp_path / "none", offset=0) == Said()
    assert receiverlog.size(tmp_path / "none") == 0


@pytest.mark.parametrize(
    ("release", "honest"),
    [("5.8.0", True), ("6.1.0-18-amd64", True), ("5.7.19", False), ("4.19", False), ("?", False)],
)
def test_an_old_kernels_syncfs_is_not_relied_on(release: str, honest: bool) -> None:
    """It says that all is well whatever the disk said."""
    assert syncing.is_honest(release) is honest


def test_a_tree_is_flushed_once_for_each_file_system(tmp_path: Path) -> None:
    """pg_wal and tablespaces count where they lead, and a link that leads nowhere is left out."""
    if not syncing.is_there():
        pytest.skip("this machine has no syncfs that tells of errors")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    data = tmp_path / "data"
    (data / "pg_tblspc").mkdir(parents=True)
    (data / "pg_wal").symlink_to(elsewhere)
    (data / "pg_tblspc" / "16384").symlink_to("/dev/shm")
    (data / "pg_tblspc" / "16385").symlink_to(tmp_path / "gone")
    assert [one.name for one in syncing.places(data)] == ["data", "pg_wal", "16384"]
    devices = {one.stat().st_dev for one in (tmp_path, Path("/dev/shm"))}
    assert syncing.sync_tree(data) == len(devices)
