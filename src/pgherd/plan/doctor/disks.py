"""Checks of the file systems below a node: room, how long it lasts, how durable, how fast."""

from __future__ import annotations

from pgherd.model.checkup import Place, Status
from pgherd.plan.doctor.machine import setting
from pgherd.plan.doctor.table import Patient, Table, Verdict, ill, judged, listed, need, size, well

TABLE = Table()
CRITICAL, WARNING, ADVICE = Status.CRITICAL, Status.WARNING, Status.ADVICE

ROOM_PERCENT = 10
INODES_PERCENT = 5
RUNWAY_S = 6 * 3600
FSYNC_SLOW_MS = 50.0
FSYNC_BAD_MS = 500.0
"""Five heartbeats: the others take the node for lost while it waits for its disk."""
VOLATILE = ("tmpfs", "ramfs")
FAR = ("nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "glusterfs", "ceph")
UNSAFE = ("nobarrier", "barrier=0", "data=writeback")
WAL_TIMES = 3
"""pg_wal may be so many times max_wal_size before somebody should know why."""


@TABLE.check(
    "disk.room",
    CRITICAL,
    means="PostgreSQL stops when it cannot write WAL, and a full standby stops replaying",
    fix="make room: see pgherd slots list, old copies beside the data directory, and the log files",
)
def room(p: Patient) -> Verdict:
    places = seen(p)
    floor = p.node.told.min_free_bytes if p.node.told is not None else 0
    tight, said = [], []
    for one in places:
        free, whole = need(one.free_bytes, "its room"), need(one.size_bytes, "its size")
        said.append(f"{one.name}: {size(free)} of {size(whole)} free")
        if free * 100 < whole * ROOM_PERCENT or free < floor:
            tight.append(said[-1])
    return ill("; ".join(tight)) if tight else fine(p, "; ".join(said))


@TABLE.check(
    "disk.inodes",
    CRITICAL,
    means="no file can be made any more though there is room: WAL segments and tables are files",
    fix="find the directory with very many small files (find / -xdev | cut -d/ -f2-3 | sort |"
    " uniq -c)",
)
def inodes(p: Patient) -> Verdict:
    few = [
        f"{one.name}: {one.inodes_free} of {one.inodes} file numbers left"
        for one in seen(p)
        if one.inodes and (one.inodes_free or 0) * 100 < one.inodes * INODES_PERCENT
    ]
    return ill("; ".join(few)) if few else fine(p, "there are file numbers left")


@TABLE.check(
    "disk.runway",
    WARNING,
    means="the disk of data or WAL is full before the morning",
    fix="see what grows: pgherd slots list, pg_stat_archiver, long transactions, temporary files",
    server=True,
)
def runway(p: Patient) -> Verdict | None:
    report = p.report
    if not report.disks:
        return None
    soon = [
        f"{one.mount} is full in {one.full_in_ms // 60_000} minutes"
        for one in report.disks
        if 0 <= one.full_in_ms < RUNWAY_S * 1000
    ]
    return ill("; ".join(soon)) if soon else well("no disk fills within six hours")


@TABLE.check(
    "disk.read_only",
    CRITICAL,
    means="the kernel has stopped writing after an error of the disk: nothing is kept any more",
    fix="dmesg | grep -i 'i/o error'; then take this node out: pgherd maintenance on {node}",
)
def read_only(p: Patient) -> Verdict:
    found = [one.name for one in seen(p) if "ro" in one.options]
    return ill(f"mounted read-only: {listed(found)}") if found else fine(p, "writable")


@TABLE.check(
    "disk.mount_options",
    CRITICAL,
    means="the disk's cache is not flushed: a power cut loses acknowledged commits and votes",
    fix="remove nobarrier, barrier=0 and data=writeback from /etc/fstab, and mount again",
)
def mount_options(p: Patient) -> Verdict:
    found = [
        f"{one.name} is mounted with {option}"
        for one in seen(p)
        for option in one.options
        if option in UNSAFE
    ]
    return ill("; ".join(found)) if found else fine(p, "nothing keeps fsync from being one")


@TABLE.check(
    "disk.volatile",
    CRITICAL,
    means="what consensus promised and what was committed is gone with the machine's power",
    fix="move raft.data_dir and postgresql.data_dir to a disk, then: pgherd reinit {node}",
)
def volatile(p: Patient) -> Verdict:
    found = [f"{one.name} is on {one.kind}" for one in seen(p) if one.kind in VOLATILE]
    return ill("; ".join(found)) if found else fine(p, "nothing is kept in memory only")


@TABLE.check(
    "disk.far",
    WARNING,
    means="a stall of the network is a stall of the disk, and locks or fsync may not be kept",
    fix="use a block device for data, WAL and consensus",
)
def far(p: Patient) -> Verdict:
    found = [f"{one.name} is on {one.kind}" for one in seen(p) if one.kind in FAR]
    return ill("; ".join(found)) if found else fine(p, "data, WAL and consensus are on local disks")


@TABLE.check(
    "disk.fsync_raft",
    WARNING,
    means="every decision waits for this disk; from half a second on the node is taken for lost",
    fix="move raft.data_dir to a disk of its own, without other writers",
    slow=True,
)
def fsync_raft(p: Patient) -> Verdict:
    return fsync(p, "raft")


@TABLE.check(
    "disk.fsync_wal",
    WARNING,
    means="every commit waits for this disk, here or as a copy",
    fix="take a disk with a protected cache for pg_wal, or fewer writers on it",
    slow=True,
    server=True,
)
def fsync_wal(p: Patient) -> Verdict:
    return fsync(p, "wal")


def fsync(p: Patient, name: str) -> Verdict:
    """Whether a small write becomes durable soon."""
    one = need(p.place(name), f"this node has no directory for {name}")
    took = need(one.fsync_ms, "nothing was written there")
    word = ", longer than a heartbeat waits" if took > FSYNC_BAD_MS else ""
    return judged(took > FSYNC_SLOW_MS, f"a durable write takes up to {took:.1f} ms{word}")


@TABLE.check(
    "disk.shared",
    ADVICE,
    means="a checkpoint's burst delays votes and heartbeats of the same disk",
    fix="put raft.data_dir on another disk than postgresql.data_dir",
    server=True,
)
def shared(p: Patient) -> Verdict | None:
    data, raft = p.place("data"), p.place("raft")
    if data is None or raft is None:
        return None
    same = data.device == raft.device
    return judged(same, f"consensus is on {'the same' if same else 'another'} file system as data")


@TABLE.check(
    "disk.wal_size",
    WARNING,
    means="something keeps WAL from being removed; it grows until the disk is full",
    fix="pgherd slots list; SELECT * FROM pg_stat_archiver; then drop or repair what holds it",
    server=True,
)
def wal_size(p: Patient) -> Verdict:
    most_mb = int(setting(p, "max_wal_size")) + int(setting(p, "wal_keep_size"))
    held = p.database.wal_bytes
    text = f"pg_wal has {size(held)}, with max_wal_size and wal_keep_size {size(most_mb << 20)}"
    return judged(held > WAL_TIMES * (most_mb << 20), text)


def fine(p: Patient, text: str) -> Verdict:
    """Well, if every directory could be looked at: of one that could not, nothing is known."""
    bad = [f"{one.path}: {one.problem}" for one in p.part(p.node.places, "places") if one.problem]
    need(None if bad else p, "; ".join(bad))
    return well(text)


def seen(p: Patient) -> list[Place]:
    """Every directory that could be looked at; not one of them: not known."""
    places = p.part(p.node.places, "places")
    bad = [f"{one.path}: {one.problem}" for one in places if one.problem]
    found = [one for one in places if not one.problem]
    need(found or None, "; ".join(bad) or "there is no directory yet")
    return found
