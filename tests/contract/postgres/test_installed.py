"""What is installed beside a real server: versions, preloaded libraries, extensions in use."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import psycopg
import pytest

from pgherd.model.errors import OperatorError
from pgherd.model.ids import NodeId, RaftId
from pgherd.model.observation import Observation, Server, ServerSeen
from pgherd.model.programs import Programs
from pgherd.model.promises import Promises
from pgherd.observe import programs as observing
from pgherd.observe.programs import Installed
from pgherd.postgres import libraries

pytestmark = pytest.mark.cluster

ABSENT = "no_such_library"


def leader_with(**seen: object) -> Observation:
    """A primary's report that names what it has."""
    server = ServerSeen(programs=Programs(running=1, **seen))  # type: ignore[arg-type] # by name
    return Observation(NodeId("n9"), RaftId(9), 1, server, Promises())


def test_a_server_is_asked_for_what_its_next_start_needs(lab, play):
    """Version, preloaded libraries, extensions of every database; and what is not there."""

    async def story():
        server = await lab.primary("a", parameters={"shared_preload_libraries": "auto_explain"})
        await server.look()
        with psycopg.connect(lab.dsn(server), autocommit=True) as client:
            client.execute("SET synchronous_commit = local")
            client.execute("CREATE DATABASE shop")
        with psycopg.connect(lab.dsn(server), dbname="shop", autocommit=True) as client:
            client.execute("SET synchronous_commit = local")
            client.execute("CREATE EXTENSION amcheck")
        installed = Installed(server, lambda: lab.binaries)
        installed.hear(leader_with(preloads=(ABSENT, "auto_explain"), extensions=("amcheck", "x")))
        await installed.look(Server.PRIMARY)
        seen = installed.told(ServerSeen(pid=server.pid)).programs
        number = lab.binaries.number
        assert (seen.running, seen.on_disk, seen.data_major) == (number, number, number // 10_000)
        assert (seen.preloads, seen.extensions) == (("auto_explain",), ("amcheck",))
        assert (seen.no_library, seen.no_extension) == ((ABSENT,), ("x",))
        assert installed.told(ServerSeen()).programs.running == 0

        # Where the server looks is where a library is found, by any of its names.
        where = await libraries.places(server.reading)
        for name in ("auto_explain", "auto_explain.so", "$libdir/auto_explain"):
            assert libraries.missing([name], where) == ()
        assert libraries.missing([f"$libdir/{ABSENT}", "/nowhere/x.so"], where) != ()

    play(story())


def test_another_build_is_taken_up_for_the_next_start(lab, play, monkeypatch):
    """A newer one is; while none can be used the problem is told, and what was there stays."""

    async def story():
        server = await lab.primary("a")
        before = server.binaries
        answers = Answers(before)
        installed = Installed(server, answers)
        monkeypatch.setattr(observing, "FAILED_EVERY_MS", 0)
        await installed.look(Server.PRIMARY)
        assert answers.asked == 0

        stamp = (before.bin_dir / "postgres").stat()
        real = observing.mark_of
        monkeypatch.setattr(
            observing, "mark_of", lambda place: (*real(place)[:2], stamp.st_size + 1)
        )
        answers.says = OperatorError("half a package", "")
        await installed.look(Server.PRIMARY)
        assert (installed.programs.problem, installed.programs.on_disk) == ("half a package", 0)
        assert server.binaries is before
        answers.says = answers.newer()
        await installed.look(Server.PRIMARY)
        assert (installed.programs.problem, server.binaries) == ("", answers.says)
        assert installed.programs.on_disk == before.number + 1
        assert answers.asked == 2

    play(story())


@dataclass
class Answers:
    """Stands for `binaries.find`, of builds that do not exist."""

    says: object
    asked: int = 0

    def __post_init__(self) -> None:
        self._first = self.says

    def __call__(self):
        self.asked += 1
        if isinstance(self.says, OperatorError):
            raise self.says
        return self.says

    def newer(self):
        """The present one, a minor version further."""
        major, minor = self._first.version
        return msgspec.structs.replace(self._first, version=(major, minor + 1))
