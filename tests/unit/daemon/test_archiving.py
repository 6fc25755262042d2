"""What the agent tells the program for WAL, over its real socket, and what it tells people."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from waiting import until

from pgherd.config.load import load_text
from pgherd.daemon.archiving import Archiving
from pgherd.model.archive import ArchiveSeen
from pgherd.model.facts import Facts, Frozen, Phase, Reign, SyncState
from pgherd.model.ids import Instant, Lsn, MemberKey, NodeId, Position, Term, Timeline
from pgherd.model.observation import Heard, Observation, Sender, Server, ServerSeen
from pgherd.model.promises import Promises
from pgherd.postgres import archivestatus, walcommand
from pgherd.postgres.settings import ServerSettings

N1, N2 = MemberKey(NodeId("n1"), "a1"), MemberKey(NodeId("n2"), "a2")
TERM, SEG = Term(3), 16 << 20
TEXT = """version: 1
node: {name: n1, address: {advertise: 127.0.0.1}}
postgresql: {}
archive: {directory: /mnt/wal, queue_max: 32MB, tries: 2}
"""


def name(timeline: int, number: int) -> str:
    return f"{timeline:08X}{0:08X}{number:08X}"


def facts(leader: MemberKey) -> Facts:
    first = Position(Term(0), Lsn(100))
    return Facts(
        cluster="main",
        phase=Phase.STABLE,
        term=TERM,
        leader=leader,
        system_id="7",
        sync=SyncState(voters=(N2,), k=1, kd=1, r=1),
        history=(Reign(TERM, leader, first, True, 305, "", timeline=Timeline(3)),),
    )


def observed(node: MemberKey, archive: ArchiveSeen) -> Heard:
    seen = ServerSeen(state=Server.PRIMARY, timeline=Timeline(3))
    made = Observation(node.node, 1, 1, seen, Promises(), archive=archive)  # type: ignore[arg-type] # any id
    return Heard(made, Instant(0))


class Place:
    """A node as its archive sees it. What happens there is set by the test."""

    def __init__(self, home: Path, leader: MemberKey = N1) -> None:
        (home / "data" / "pg_wal" / "archive_status").mkdir(parents=True)
        self.promises = Promises(promise=TERM, incarnation="a1")
        self.told: list[tuple[str, str]] = []
        flushed = Sender(N2, TERM, "streaming", Lsn(8 * SEG), Lsn(0))
        seen = ServerSeen(state=Server.PRIMARY, timeline=Timeline(3), senders=(flushed,))
        self.newest: dict[NodeId, Heard] = {}
        reports = SimpleNamespace(
            newest=self.newest,
            archiving=None,
            heard=lambda **_: {node: one.report for node, one in self.newest.items()},
        )
        self.server = SimpleNamespace(
            socket_dir=home / "run",
            port=5442,
            user=None,
            data_dir=home / "data",
            settings=ServerSettings(passfile=""),
            ending=False,
            control=None,
            pid=1,
            reload=self.nothing,
            acting=SimpleNamespace(rows=self.nothing),
        )
        self.node: Any = SimpleNamespace(
            me=NodeId("n1"),
            settings=load_text(TEXT),
            server=self.server,
            executor=None,
            watch=SimpleNamespace(seen=seen, look=self.nothing),
            consensus=SimpleNamespace(store=SimpleNamespace(promises=lambda: self.promises)),
            stories=SimpleNamespace(tell=lambda kind, text, term: self.told.append((kind, text))),
            agent=SimpleNamespace(
                facts=facts(leader),
                stopping=False,
                leasing=SimpleNamespace(has=lambda *_, **__: True),
                reports=reports,
                policy=SimpleNamespace(detect_ms=1500),
                is_busy=lambda: False,
            ),
        )
        self.archiving = Archiving(self.node)

    async def nothing(self, *_: object) -> list[object]:
        return []

    def waits(self, *names: str) -> None:
        """These are ready to be archived."""
        for one in names:
            (archivestatus.folder(self.server.data_dir) / f"{one}.ready").touch()


class Caller:
    """The program's end of the socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, *words: str) -> list[str]:
        self.writer.write("\t".join(words).encode() + b"\n")
        answer = await asyncio.wait_for(self.reader.readline(), 10)
        return answer.decode().rstrip("\n").split("\t")


def play(place: Place, story: Callable[[Caller], Awaitable[None]]) -> None:
    """Run the node's part, and tell its story as the program."""

    async def whole() -> None:
        running = asyncio.create_task(place.archiving.run())
        path = walcommand.socket_path(place.server.socket_dir, 5442)
        await until(path.exists)
        reader, writer = await asyncio.open_unix_connection(str(path))
        try:
            await story(Caller(reader, writer))
        finally:
            writer.close()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(whole())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_the_program_is_told_how(place: Place) -> None:
    """Its order, and what the server is told to run; a server that stops waits for nobody."""
    assert "pgherd-wal-5442.py push" in place.server.settings.archive_command
    assert place.archiving.use.can_fetch

    async def story(program: Caller) -> None:
        order = ["go", "directory", "/mnt/wal", "2", "60.0", "7", "n1", ""]
        assert await program.ask("push", name(3, 7)) == order
        assert (await program.ask("push", name(3, 8)))[0] == "wait"
        place.server.ending = True
        assert (await program.ask("push", name(3, 7)))[0] == "halt"
        assert (await program.ask("something", "else"))[0] == "halt"

    play(place, story)


def test_what_was_archived_is_told(place: Place) -> None:
    """Also what it archived before its agent began anew."""
    done = archivestatus.folder(place.server.data_dir) / f"{name(3, 5)}.done"
    done.touch()

    async def story(program: Caller) -> None:
        await until(lambda: place.archiving.seen().last == name(3, 5))
        assert await program.ask("done", name(3, 6), "") == ["ok"]
        seen = place.archiving.seen()
        assert (seen.last, seen.failing) == (name(3, 6), "")
        assert seen.last_unix_ms > 0
        assert place.archiving.warnings() == []

    play(place, story)


def test_what_a_former_primary_owed_comes_first(place: Place) -> None:
    """Nothing newer is told of before it is there: who fetches goes by that."""
    (place.server.data_dir / "pg_wal" / name(2, 3)).touch()
    place.newest[N2.node] = observed(N2, ArchiveSeen(place="directory /mnt/wal", last=name(2, 2)))

    async def story(program: Caller) -> None:
        ready = archivestatus.folder(place.server.data_dir) / f"{name(2, 3)}.ready"
        await until(lambda: ready.exists() and bool(place.told))
        assert place.told[0][0] == "archive.made-up"
        await program.ask("done", name(3, 6), "")
        assert place.archiving.seen().last == ""
        await program.ask("done", name(2, 3), "")
        await program.ask("done", name(3, 7), "")
        assert place.archiving.seen().last == name(3, 7)

    play(place, story)


def test_failures_are_said_and_end(place: Place) -> None:
    """Within what may wait they only wait; beyond it a file is given up, aloud."""
    place.waits(name(3, 6), name(3, 7))

    async def story(program: Caller) -> None:
        assert await program.ask("failed", name(3, 6), "no room") == ["ok"]
        seen = place.archiving.seen()
        assert (seen.failing, seen.failures, seen.waiting, seen.given_up) == ("no room", 1, 2, 0)
        [said] = place.archiving.warnings()
        assert said.startswith("WAL is not archived: no room; 2 files (32 MB) wait")
        place.waits(name(3, 8))
        assert await program.ask("failed", name(3, 6), "no room") == ["drop"]
        assert place.archiving.seen().given_up == 1
        assert f"1 files up to {name(3, 6)} were given up" in place.archiving.warnings()[1]
        await program.ask("done", name(3, 7), "")
        assert place.archiving.seen().failing == ""
        assert len(place.archiving.warnings()) == 1, "the gap stays"
        kinds = [kind for kind, _ in place.told]
        assert kinds == ["archive.failing", "archive.gap", "archive.works"]

    play(place, story)


def test_a_promise_calls_a_fetch_off(tmp_path: Path) -> None:
    """The connection ends, and nothing more is allowed."""
    place = Place(tmp_path, leader=N2)
    place.promises = Promises(promise=TERM, adopted=TERM, adopted_leader=N2.node, incarnation="a1")
    place.newest[N2.node] = observed(N2, ArchiveSeen(place="directory /mnt/wal", last=name(3, 7)))

    async def story(program: Caller) -> None:
        assert (await program.ask("fetch", name(3, 6)))[0] == "go"
        place.archiving.promised()
        assert await program.ask("fetched", name(3, 6), "") == ["ok"], "a promise of this term"
        later = Frozen(Term(4), Position(TERM, Lsn(1)))
        place.promises = msgspec.structs.replace(place.promises, promise=Term(4), frozen=later)
        assert (await program.ask("fetch", name(3, 7)))[0] == "none"
        place.archiving.promised()
        assert await asyncio.wait_for(program.reader.read(), 10) == b""

    play(place, story)


def test_one_archive_for_all(tmp_path: Path) -> None:
    """After a failover this node would archive elsewhere."""
    place = Place(tmp_path, leader=N2)
    for theirs, said in (("directory /mnt/wal", 0), ("directory /other", 1), ("", 0)):
        place.newest[N2.node] = observed(N2, ArchiveSeen(place=theirs))
        assert len(place.archiving.warnings()) == said, theirs
