"""Disks that are full, hang or cannot be written to (D), and groups without memory or forks (M)."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg

from pgherd.chaos.fault import Kind, Needs, NotNow, Primitive, Scene, Strike, Undo
from pgherd.chaos.processfaults import stop_server
from pgherd.proof import processes

MEMORY_LEFT = 12 << 20
SWITCH_EVERY_S = 0.2
HOG_MB = 4096
"""More than there is of page cache in a group, which the kernel takes back before it kills."""
HOG_SECONDS_MAX = 20
FIRST_TO_GO = 1000
"""The highest of oom_score_adj; lowering the score of the others would need a capability."""


def fill(what: str, who: Callable[[Scene], str]) -> Strike:
    """Leave no byte of a file system."""

    def strike(scene: Scene) -> Undo:
        return scene.disk(who(scene), what).fill()

    return strike


def fill_wal(scene: Scene) -> Undo:
    """No byte is left for the primary, and it is made to need a new file of WAL."""
    name, over = scene.primary(), threading.Event()
    empty = scene.disk(name, "data").fill()

    def want_more() -> None:
        while not over.wait(SWITCH_EVERY_S):
            try:
                scene.herd.query(name, "SELECT pg_switch_wal()")
            except psycopg.Error:
                pass  # that is what is wanted

    thread = threading.Thread(target=want_more, name="chaos-wal", daemon=True)
    thread.start()

    def undo() -> None:
        over.set()
        empty()
        thread.join()

    return undo


def hang(what: str, who: Callable[[Scene], str]) -> Strike:
    """Every write to a file system hangs, and whoever writes cannot be killed."""

    def strike(scene: Scene) -> Undo:
        return scene.disk(who(scene), what).freeze(at_most_s=scene.at_most_s)

    return strike


def lock_store(scene: Scene) -> Undo:
    """The Raft store's file system becomes read-only between two lives of the agent."""
    name = scene.standby()
    supervisor = scene.herd.supervisor_pid(name)
    wake = scene.herd.stop_processes([supervisor], at_most_s=scene.at_most_s)
    try:
        agent = scene.herd.must_part(name, "agent")
        processes.send([agent], signal.SIGKILL)
        scene.wait(lambda: not processes.is_alive(agent), "the agent's end")
        undo = scene.disk(name, "store").lock()
    finally:
        wake()
    if undo is None:
        raise NotNow("files are open for writing")
    return undo


def lock_data(scene: Scene) -> Undo:
    """A standby's file system becomes read-only between two lives of its server."""
    name = scene.standby()
    wake = stop_server(scene, name)
    try:
        undo = scene.disk(name, "data").lock()
    finally:
        wake()
    if undo is None:
        raise NotNow("files are open for writing")
    return undo


def exhaust_memory(scene: Scene) -> Undo:
    """A node's group has no memory left, and the kernel is told whom to kill for it."""
    name = scene.anybody()
    group, victim = scene.group(name), victim_of(scene, name)
    undo = group.limit_memory(MEMORY_LEFT)
    hog = subprocess.Popen(
        [
            *group.wrap(),
            *("sh", "-c"),
            f"head -c {HOG_MB}m /dev/zero | timeout {HOG_SECONDS_MAX} tail > /dev/null",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def end() -> None:
        undo()
        if hog.poll() is None:
            processes.kill_all(lambda: session_of(hog.pid))
        hog.wait()

    try:
        scene.wait(lambda: not processes.is_alive(victim), "the victim's end")
    except NotNow:
        end()
        raise
    return end


def victim_of(scene: Scene, name: str) -> int:
    """The agent, the postmaster or one process of the server; the first that the kernel kills."""
    what = scene.rng.choice(("agent", "postmaster", "child"))
    scene.struck.append(what)
    if what == "agent":
        victim = scene.herd.must_part(name, "agent")
    elif what == "postmaster":
        victim = scene.postmaster(name)
    else:
        scene.postmaster(name)
        victim = scene.rng.choice(scene.herd.server_processes(name, "postgres:")).pid
    Path(f"/proc/{victim}/oom_score_adj").write_text(str(FIRST_TO_GO))
    return victim


def session_of(leader: int) -> dict[int, processes.Process]:
    """The living processes of a session."""
    return {pid: one for pid, one in processes.scan().items() if one.session == leader}


def refuse_forks(scene: Scene) -> Undo:
    """A node may start no process any more: neither its daemon nor its server."""
    return scene.group(scene.primary()).limit_processes(0)


def kind(
    name: str,
    primitive: Primitive,
    rows: tuple[int, ...],
    target: str,
    how: str,
    undone: str,
    strike: Strike,
    *,
    hold_s: tuple[float, float] = (3.0, 10.0),
    fails_over: bool = False,
    alone: bool = True,
) -> Kind:
    """A kind that needs file systems, or groups."""
    needs = Needs.DISKS if primitive is Primitive.DISK else Needs.GROUPS
    return Kind(
        name=name,
        primitive=primitive,
        rows=rows,
        target=target,
        how=how,
        undone=undone,
        strike=strike,
        needs=needs,
        hold_s=hold_s,
        fails_over=fails_over,
        alone=alone,
    )


D, M = Primitive.DISK, Primitive.MEMORY
PRIMARY, STANDBY, ANY = "primary", "standby", "any node"
FULL, ROOM = "its file system is filled", "room is made"
FROZEN, THAWED = "fsfreeze", "thawed, by a timer at the latest"

KINDS = (
    kind(
        "wal.full",
        D,
        (40, 41),
        PRIMARY,
        f"{FULL}, PGDATA and pg_wal alike",
        ROOM,
        fill_wal,
        fails_over=True,
        alone=False,
    ),
    kind("data.full", D, (40,), STANDBY, FULL, ROOM, fill("data", Scene.standby), alone=False),
    kind(
        "store.full",
        D,
        (42,),
        ANY,
        f"{FULL}, the Raft store's",
        ROOM,
        fill("store", Scene.anybody),
        alone=False,
    ),
    kind(
        "store.full.leader",
        D,
        (42,),
        "Raft leader",
        f"{FULL}, the Raft store's",
        ROOM,
        fill("store", Scene.raft_leader),
        alone=False,
    ),
    kind(
        "wal.hangs",
        D,
        (17,),
        PRIMARY,
        f"{FROZEN} of PGDATA",
        THAWED,
        hang("data", Scene.primary),
        hold_s=(3.0, 9.0),
        fails_over=True,
    ),
    kind(
        "store.hangs",
        D,
        (46,),
        PRIMARY,
        f"{FROZEN} of the Raft store",
        THAWED,
        hang("store", Scene.primary),
        hold_s=(3.0, 9.0),
        fails_over=True,
    ),
    kind(
        "store.hangs.standby",
        D,
        (46,),
        STANDBY,
        f"{FROZEN} of the Raft store",
        THAWED,
        hang("store", Scene.standby),
        hold_s=(3.0, 9.0),
    ),
    kind(
        "store.read_only",
        D,
        (43,),
        STANDBY,
        "remounted read-only while the agent is away",
        "remounted read-write",
        lock_store,
    ),
    kind(
        "data.read_only",
        D,
        (),
        STANDBY,
        "remounted read-only while the server is down",
        "remounted read-write",
        lock_data,
    ),
    kind(
        "memory.exhausted",
        M,
        (12,),
        ANY,
        "a memory limit, and a process that wants more; whom the kernel kills is drawn",
        "the limit is taken away",
        exhaust_memory,
    ),
    kind(
        "forks.refused",
        M,
        (13, 14),
        PRIMARY,
        "pids.max as many as there are",
        "the limit is taken away",
        refuse_forks,
    ),
)
