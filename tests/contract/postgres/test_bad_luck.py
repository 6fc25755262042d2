"""Directories and processes that are not as they should be: a clear error, nothing changed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from pgherd.model.errors import OperatorError, PostgresError
from pgherd.postgres import launch, processes
from pgherd.postgres.datadir import DirKind
from pgherd.postgres.files import make_directory, write_atomic
from pgherd.postgres.server import PostgresServer
from pgherd.postgres.tools import as_user

pytestmark = pytest.mark.cluster


def snapshot(directory: Path) -> dict[str, tuple[int, int, int]]:
    """Every file of a directory with what a change would change."""
    found = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        found[str(path)] = (status.st_mtime_ns, status.st_size, status.st_ino)
    return found


async def refused(server: PostgresServer, words: str) -> None:
    """The directory is called unusable with these words, a start is refused, nothing changes."""
    before = snapshot(server.data_dir)
    state = await server.state()
    assert state.kind is DirKind.UNUSABLE, state
    assert words in state.problem
    assert state.hint
    with pytest.raises(OperatorError) as refused:
        await server.start()
    assert refused.value.hint
    assert snapshot(server.data_dir) == before


def test_a_directory_that_is_not_ours_is_refused_and_left_alone(lab, play):
    """Wrong owner, rights, version, content, system identifier, a damaged pg_control."""
    server = lab.server("a")

    async def story():
        await server.initdb("a00001")
        data = server.data_dir
        data.chmod(0o755)
        await refused(server, "open to others")
        data.chmod(0o700)
        if lab.user is not None:
            os.chown(data, 0, 0)
            await refused(server, "belongs to uid 0")
            os.chown(data, lab.user.uid, lab.user.gid)
        (data / "PG_VERSION").write_text("13\n")
        await refused(server, "is of PostgreSQL 13")
        (data / "PG_VERSION").rename(data / "kept")
        await refused(server, "is no PostgreSQL data directory")
        (data / "kept").write_text(f"{lab.binaries.major}\n")
        (data / "kept").rename(data / "PG_VERSION")
        other = await server.state(system_id="1234")
        assert other.kind is DirKind.UNUSABLE
        assert "another cluster" in other.problem
        assert (await server.state()).kind is DirKind.STOPPED
        control = data / "global" / "pg_control"
        sound = control.read_bytes()
        control.write_bytes(sound[:100] + bytes([sound[100] ^ 0xFF]) + sound[101:])
        await refused(server, "pg_control")
        control.write_bytes(sound)
        with pytest.raises(PostgresError, match="cannot rename"):
            await server.initdb("a00002")
        assert (await server.state()).incarnation == "a00001"
        assert [path.name for path in data.parent.iterdir() if ".side-" in path.name] == []

    play(story())


@pytest.mark.fault(20)
def test_a_pid_file_that_names_a_stranger_harms_nobody(lab, play):
    """A re-used pid (same user, and root) is neither adopted nor killed, and does not block."""
    server = lab.server("a")
    stranger = subprocess.Popen(["/bin/sleep", "60"], **as_user(lab.user))

    async def story():
        await server.initdb("a00001")
        for pid in (stranger.pid, os.getpid()):
            text = f"{pid}\n{server.data_dir}\n1700000000\n{server.port}\n"
            (server.data_dir / "postmaster.pid").write_text(text)
            make_directory(server.socket_dir, user=lab.user, mode=0o755)
            lock = launch.socket_path(server.socket_dir, server.port) + ".lock"
            write_atomic(Path(lock), text, user=lab.user)
            state = await server.state()
            assert (state.kind, state.foreign_pid) == (DirKind.STOPPED, pid)
            assert not await server.adopt()
            await server.kill_tree()
            assert await server.stop() == ""
            assert stranger.poll() is None
            assert (await server.start()).accepting
            await server.stop()

    try:
        play(story())
    finally:
        stranger.kill()
        stranger.wait()


def test_a_shell_that_stands_in_the_directory_is_no_server(lab, play):
    """A process that merely works in the data directory is not counted, nor killed with it."""
    server = lab.server("a")

    async def story():
        await server.initdb("a00001")
        visitor = await asyncio.create_subprocess_exec("/bin/sleep", "60", cwd=server.data_dir)
        try:
            await server.start()
            assert visitor.pid not in processes.of_directory(server.data_dir)
            await server.kill_tree()
            assert visitor.returncode is None
        finally:
            visitor.kill()
            await visitor.wait()

    play(story())


@pytest.mark.fault(19)
def test_no_second_server_beside_the_processes_of_a_dead_one(lab, play):
    """An orphan of a killed postmaster blocks the start until the tree is killed."""

    async def story():
        server = await lab.primary("a")
        await server.acting.rows("SELECT 1")
        orphan = server.acting.backend_pid
        assert processes.belongs(orphan, server.data_dir)
        os.kill(orphan, signal.SIGSTOP)  # it cannot see that its postmaster dies
        os.kill(server.pid, signal.SIGKILL)
        await server.wait_death()
        state = await server.state()
        assert state.kind is DirKind.STOPPED
        assert orphan in state.leftovers
        with pytest.raises(PostgresError, match="still live"):
            await server.start()
        await server.kill_tree()
        assert (await server.start()).accepting
        with pytest.raises(PostgresError, match="already runs"):
            await server.start()
        copy = lab.server("b")
        copy.data_dir = server.data_dir
        with pytest.raises(OperatorError, match="on port"):
            await copy.adopt()

    play(story())


@pytest.mark.fault(76)
def test_a_taken_port_and_a_bad_parameter_are_told_in_words(lab, play):
    """The postmaster's own last words reach the operator, with a next command."""
    server = lab.server("a")
    broken = lab.server("b", parameters={"shared_buffers": "a lot"})

    async def story():
        await server.initdb("a00001")
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", server.port))
            taken.listen()
            with pytest.raises(OperatorError, match=f"port {server.port} cannot be used"):
                await server.start()
        assert (await server.start()).accepting
        await broken.initdb("b00001")
        with pytest.raises(PostgresError, match="shared_buffers"):
            await broken.start()
        assert (await broken.state()).clean

    play(story())


def test_a_reload_that_the_server_refuses_is_an_error(lab, play):
    """Names that do not parse never count as set, and the server keeps the old ones."""

    async def story():
        server = await lab.primary("a")
        with pytest.raises(PostgresError, match="did not take effect"):
            await server.set_names("ANY 1 (")
        await asyncio.sleep(0)
        assert (await server.look()).names == '"pgherd-closed"'

    play(story())
