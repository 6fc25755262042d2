"""Files that are gone, cut or lie (F), on a node that is down meanwhile."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pgherd.chaos.fault import Kind, NotNow, Primitive, Scene, Strike, Undo
from pgherd.chaos.processfaults import stop_server

STORE_BYTES_MIN = 4096


def down(scene: Scene) -> tuple[str, Undo]:
    """A standby that is killed, and what starts it."""
    name = scene.standby()
    scene.herd.kill_node(name)

    def start() -> None:
        if not scene.herd.is_running(name):
            scene.herd.start_node(name)

    return name, start


def stale_pid_file(scene: Scene) -> None:
    """A standby's server is killed, and its pid file names a stranger that lives: ourselves."""
    name = scene.standby()
    wake = stop_server(scene, name)
    try:
        file = scene.herd.places[name].data / "postmaster.pid"
        owner = file.stat()
        lines = file.read_text().splitlines()
        file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
        os.chown(file, owner.st_uid, owner.st_gid)
    except OSError as error:
        raise NotNow(str(error)) from error
    finally:
        wake()


def lose_store(scene: Scene) -> Undo:
    """A node's Raft store is lost, its data is not."""
    name, start = down(scene)
    for found in store_of(scene, name).iterdir():
        remove(found)
    return start


def cut_store(scene: Scene) -> Undo:
    """The largest file of a node's Raft store is cut short."""
    name, start = down(scene)
    files = [one for one in store_of(scene, name).rglob("*") if one.is_file()]
    largest = max(files, key=lambda one: one.stat().st_size, default=None)
    if largest is not None and largest.stat().st_size > STORE_BYTES_MIN:
        os.truncate(largest, scene.rng.randrange(STORE_BYTES_MIN, largest.stat().st_size))
    return start


def lose_data(scene: Scene) -> Undo:
    """A standby's data directory is lost."""
    name, start = down(scene)
    shutil.rmtree(scene.herd.places[name].data)
    return start


def cut_control(scene: Scene) -> Undo:
    """A standby's pg_control is cut short, and put back when the node was seen not to start."""
    name, start = down(scene)
    control = scene.herd.places[name].data / "global" / "pg_control"
    whole = control.read_bytes()
    os.truncate(control, scene.rng.randrange(1, 200))
    start()

    def undo() -> None:
        if control.exists() and control.stat().st_size < len(whole):
            control.write_bytes(whole)

    return undo


def store_of(scene: Scene, name: str) -> Path:
    return scene.herd.places[name].directory / "raft"


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def kind(
    name: str,
    rows: tuple[int, ...],
    how: str,
    undone: str,
    strike: Strike,
    *,
    hold_s: tuple[float, float] = (1.0, 4.0),
) -> Kind:
    """A kind that strikes a standby's files."""
    return Kind(
        name=name,
        primitive=Primitive.FILES,
        rows=rows,
        target="standby",
        how=how,
        undone=undone,
        strike=strike,
        hold_s=hold_s,
        alone=True,
    )


STARTED = "its daemon is started"
KINDS = (
    kind(
        "pidfile.stale",
        (20,),
        "postmaster.pid of a killed server names another process",
        "the agent's business",
        stale_pid_file,
    ),
    kind("store.lost", (), "its Raft store is deleted while it is down", STARTED, lose_store),
    kind("store.cut", (47, 48), "its Raft store is truncated while it is down", STARTED, cut_store),
    kind("data.lost", (), "its data directory is deleted while it is down", STARTED, lose_data),
    kind(
        "control.cut",
        (),
        "its pg_control is truncated while it is down",
        "it is put back",
        cut_control,
        hold_s=(4.0, 8.0),
    ),
)
