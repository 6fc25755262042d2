"""Remedies on real servers: a rewind that fails at each of its steps, and copies of all kinds."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from pgherd.act import copying, failpoints
from pgherd.act.book import Book
from pgherd.act.executor import Executor
from pgherd.act.failpoints import Failpoints
from pgherd.act.hands import Cloning, Hands
from pgherd.ledger.commands import AnyCommand, Done, Outcome
from pgherd.model import action as act
from pgherd.model.action import Planned
from pgherd.model.errors import PostgresError
from pgherd.model.facts import Reign
from pgherd.model.ids import Lsn, MemberKey, NodeId, Position, Term, Timeline
from pgherd.model.promises import Promises
from pgherd.model.remedy import Cause, Ending, Step
from pgherd.postgres import clone, receiverlog, rewind, slots
from pgherd.postgres.binaries import Binaries
from pgherd.postgres.memory import ServerMemory
from pgherd.postgres.server import PostgresServer

pytestmark = pytest.mark.cluster

LEADER = MemberKey(NodeId("b"), "b00001")
HALF = """#!/bin/sh
for word in "$@"; do [ "$word" = --dry-run ] && exec {real} "$@"; done
echo "pg_rewind: need to copy 40 MB (total source directory size is 60 MB)" >&2
echo "pg_rewind: error: connection to server was lost" >&2
exit 1
"""

BLIND = """#!/bin/sh
{real} "$@" | sed -e 's/^\\(Data page checksum version: *\\).*/\\10/' \\
    -e 's/^\\(wal_log_hints setting: *\\).*/\\1off/'
"""


class Hospital:
    """An agent's executor over one server, with its promises in memory and its book on disk."""

    def __init__(self, server: PostgresServer, history: tuple[Reign, ...], book: Path) -> None:
        self.promises = Promises(promise=Term(2), adopted=Term(1), incarnation="a00001")
        self.path = book
        self.acts = 0
        self.hands = Hands(
            me=NodeId("a"),
            server=server,
            memory=ServerMemory(),
            promises=lambda: self.promises,
            save=self._save,
            history=lambda: history,
            new_incarnation=lambda: "a00002",
            progress=lambda copied: None,
            submit=self._submit,
        )
        self.executor = Executor(self.hands, look=self._look, finished=self._ended, book=Book(book))
        self._over = asyncio.Event()

    async def _save(self, promises: Promises) -> None:
        self.promises = promises

    async def _submit(self, command: AnyCommand) -> Outcome:
        return Done()

    async def _look(self) -> None:
        await asyncio.sleep(0)

    def _ended(self, planned: Planned, done: bool) -> None:
        self._over.set()

    async def do(self, action: act.Action) -> Ending:
        """Do it now, whatever was before; how it ended, by the book on disk."""
        self._over.clear()
        self.executor.start(Planned(56, "a test wants it", action))
        async with asyncio.timeout(120):
            await self._over.wait()
        await asyncio.sleep(0)
        newest = Book(self.path).newest
        assert newest is not None
        return newest.ending

    async def fails(
        self, wanted: act.Rewind, why: str, *, dirty: bool = False, dead_end: bool = False
    ) -> None:
        """A rewind ends so, and what is known of it outlives the agent; then it is forgiven."""
        server = self.hands.server
        if not server.is_running():
            await server.start()  # as a standby without upstream, as rule 53 does
        assert await self.do(wanted) is Ending.FAILED
        newest = self.executor.book.newest
        assert newest is not None
        assert why in newest.why, newest.why
        assert self.promises.dirty_rewind is dirty, why
        assert self.executor.dead_end is dead_end, why
        assert self.promises.floor is not None, "what it had is not forgotten"
        assert (Book(self.path).dead_end == "a00001") is dead_end, "an agent that starts anew"
        self.forgive()

    def forgive(self) -> None:
        """As if nothing had been tried."""
        self.promises = msgspec.structs.replace(self.promises, dirty_rewind=False)
        self.executor.book.mark_dead_end(None)


def half_way(binaries: Binaries, place: Path) -> Binaries:
    """An installation whose pg_rewind breaks off while it copies."""
    return instead_of("pg_rewind", HALF, binaries, place)


def blind(binaries: Binaries, place: Path) -> Binaries:
    """An installation that sees a directory without checksums and without wal_log_hints."""
    return instead_of("pg_controldata", BLIND, binaries, place)


def instead_of(name: str, script: str, binaries: Binaries, place: Path) -> Binaries:
    """An installation of which one program is a script around the real one."""
    place.mkdir()
    place.chmod(0o755)
    for program in binaries.bin_dir.iterdir():
        (place / program.name).symlink_to(program)
    (place / name).unlink()
    (place / name).write_text(script.format(real=binaries.program(name)))
    (place / name).chmod(0o755)
    return Binaries(place, binaries.version, binaries.has_tls)


def crashing(server: PostgresServer) -> Callable[..., Awaitable[str]]:
    """A stop that ends like a power cut."""

    async def stop(mode: str = "fast", timeout_s: float = 30.0) -> str:
        await server.kill_tree()
        return "kill"

    return stop


def copied(directory: Path, to: Path) -> None:
    """The same files, rights and owners, in place of what is there."""
    shutil.rmtree(to, ignore_errors=True)
    subprocess.run(["cp", "-a", str(directory), str(to)], check=True)


async def diverged(lab) -> tuple[PostgresServer, PostgresServer, Position]:
    """An old primary `a` with a row that nobody else has, stopped; `b`, which leads; the fork."""
    a = await lab.primary("a")
    await a.acting.rows("CREATE TABLE public.rows (i int PRIMARY KEY)")
    b = await lab.replica("b", a)
    frozen = await b.seal(5.0)
    await a.acting.rows("INSERT INTO public.rows VALUES (666)")
    os.kill(a.pid, signal.SIGKILL)
    await a.kill_tree()
    await b.promote()
    await b.write_epoch(Term(2), NodeId("b"))
    await b.checkpoint()
    await slots.ensure_slots(b, {"pgherd_a"})
    await a.start()
    await a.seal(10.0)
    await a.stop()
    return a, b, frozen


def reigns(fork: Position) -> tuple[Reign, ...]:
    old = MemberKey(NodeId("a"), "a00001")
    first = Reign(Term(1), old, Position(Term(0), Lsn(1)), True, 305, "", timeline=Timeline(2))
    return first, Reign(Term(2), LEADER, fork, True, 305, "", timeline=Timeline(3))


async def fails_before_the_tool(lab, agent: Hospital, good: act.Rewind, monkeypatch) -> None:
    """The marker is set, and says no more than that it may have been begun; nothing was touched."""
    a = agent.hands.server
    with monkeypatch.context() as instead:
        instead.setattr(failpoints, "POINTS", Failpoints("rewind.marked=error"))
        await agent.fails(good, "failpoint rewind.marked", dirty=True)
    # Nobody there, a wrong password, another fork than the ledger's.
    nobody = msgspec.structs.replace(good, port=a.port)
    await agent.fails(nobody, "pg_rewind: failed", dead_end=True)
    settings = a.settings
    a.settings = msgspec.structs.replace(settings, rewind_role="postgres_nobody")
    await agent.fails(good, "postgres_nobody", dead_end=True)
    a.settings = settings
    elsewhere = msgspec.structs.replace(good, fork_lsn=Lsn(good.fork_lsn - 8))
    await agent.fails(elsewhere, "the ledger at", dead_end=True)


async def fails_while_it_copies(lab, agent: Hospital, good: act.Rewind, monkeypatch) -> None:
    """The source is lost; or the tool is not asked: no stop in order, no knowing what changed."""
    a = agent.hands.server
    whole, a.binaries = a.binaries, half_way(a.binaries, lab.base / "half")
    await agent.fails(good, "connection to server was lost", dirty=True, dead_end=True)
    a.binaries = whole
    with monkeypatch.context() as instead:
        instead.setattr(a, "stop", crashing(a))
        await agent.fails(good, "it was not shut down in order", dead_end=True)
    whole, a.binaries = a.binaries, blind(a.binaries, lab.base / "blind")
    await agent.fails(good, "neither checksums nor wal_log_hints", dead_end=True)
    a.binaries = whole


async def fails_when_it_is_rewound(lab, agent: Hospital, good: act.Rewind, monkeypatch) -> None:
    """The disk refuses what was copied; the agent goes no further; or the WAL that makes it whole
    is not had."""
    a = agent.hands.server

    def refuses(place: Path) -> int:
        assert place == a.data_dir
        raise PostgresError(f"{place} cannot be flushed")

    await a.start()
    await a.stop()
    copied(a.data_dir, lab.base / "before")
    with monkeypatch.context() as instead:
        instead.setattr(rewind.syncing, "is_there", lambda: True)
        instead.setattr(rewind.syncing, "sync_tree", refuses)
        await agent.fails(good, "cannot be flushed", dirty=True)
    copied(lab.base / "before", a.data_dir)
    with monkeypatch.context() as instead:
        instead.setattr(failpoints, "POINTS", Failpoints("rewind.rewound=error"))
        await agent.fails(good, "failpoint rewind.rewound", dirty=True)
    copied(lab.base / "before", a.data_dir)
    agent.hands.rewound_start_s = 0.0
    await agent.fails(good, "did not become consistent in time", dirty=True)


async def is_copied_anew(lab, agent: Hospital, b: PostgresServer) -> None:
    """The marker goes with the directory, which is kept aside."""
    a = agent.hands.server
    copy = act.Rebuild(
        term=Term(2), leader=LEADER, host="127.0.0.1", port=b.port, source=NodeId("b")
    )
    assert await agent.do(copy) is Ending.DONE
    assert agent.promises.incarnation == "a00002"
    assert not agent.promises.dirty_rewind
    assert agent.promises.floor is None
    [kept] = clone.kept_copies(a.data_dir)
    assert (kept / "global" / "pg_control").exists()
    await lab.follow(a, b, 2)
    assert await a.acting.rows("SELECT i FROM public.rows") == []
    newest = Book(agent.path).newest
    assert newest is not None
    assert newest.step is Step.COPY


@pytest.mark.fault(67)
def test_a_rewind_that_fails_at_any_step_leaves_nothing_that_could_be_started(
    lab, play, monkeypatch
):
    """Untouched: free to start, never tried again. Touched: marked, until a copy replaces it."""

    async def story():
        a, b, fork = await diverged(lab)
        agent = Hospital(a, reigns(fork), lab.base / "remedies.json")
        good = act.Rewind(
            term=Term(2),
            leader=LEADER,
            host="127.0.0.1",
            port=b.port,
            floor=Position(Term(1), fork.lsn),
            fork_lsn=fork.lsn,
        )

        await fails_before_the_tool(lab, agent, good, monkeypatch)
        await fails_while_it_copies(lab, agent, good, monkeypatch)
        await fails_when_it_is_rewound(lab, agent, good, monkeypatch)
        agent.executor.book.is_over()
        await is_copied_anew(lab, agent, b)

    play(story())


def test_a_copy_by_command_is_checked_and_pg_basebackup_is_behind_it(lab, play, monkeypatch):
    """A command that fails costs nothing but its time; a copy of another cluster is removed."""

    async def story():
        b = await lab.primary("b")
        a = lab.server("a")
        agent = Hospital(a, (), lab.base / "remedies.json")
        system_id = (await b.look()).system_id
        wanted = act.Rebuild(
            term=Term(2),
            leader=LEADER,
            host="127.0.0.1",
            port=b.port,
            system_id=system_id,
            by_command=True,
        )
        hands = agent.executor.hands
        script = lab.base / "restore"
        tool = b.binaries.program("pg_basebackup")

        async def made(text: str) -> copying.Made:
            script.write_text(f"#!/bin/sh\n{text}\n")
            script.chmod(0o755)
            clone.conf.write_passfile(a.settings, user=a.user)
            hands.cloning = Cloning(command=(str(script), "backup-7"))
            return await copying.make(hands, wanted, "a00001")

        failed = await made("echo no such backup >&2; exit 3")
        assert not failed.by_command
        assert (failed.side / "PG_VERSION").exists(), "by pg_basebackup, then"
        good = await made(
            f'[ "$1" = backup-7 ] && [ "$2" = "$PGHERD_CLONE_DIRECTORY" ] && [ "$4" = b ] &&'
            f' exec {tool} -D "$2" -d "$PGHERD_CLONE_SOURCE"'
        )
        assert good.by_command
        assert clone.conf.read_incarnation(good.side) == "a00001"
        assert agent.executor.book.ladder().commanded
        sides = {failed.side, good.side}
        wrong = msgspec.structs.replace(wanted, by_command=False, system_id="7")
        with pytest.raises(PostgresError, match="this one is 7"):
            await copying.make(hands, wrong, "a00001")
        assert set(a.data_dir.parent.glob("data.side-*")) == sides, "what was wrong is removed"

    play(story())


@pytest.mark.fault(69)
def test_the_cause_of_a_receivers_trouble_is_in_the_log(lab, play, wait_until):
    """A slot that is gone, and WAL that the primary has removed: as PostgreSQL words it."""

    async def story():
        a = await lab.primary("a", parameters={"wal_keep_size": "0"})
        b = await lab.replica("b", a)
        offset = receiverlog.size(b.log_file)
        upstream = b.upstream(host="127.0.0.1", port=a.port, token="b.b00001@1")

        async def says(cause: Cause, words: str) -> bool:
            said = receiverlog.last_words(b.log_file, offset=offset)
            return said.cause is cause and words in said.text

        async def has_no_sender() -> bool:
            return not (await a.look()).senders

        await b.set_upstream(None, None)
        await wait_until("the receiver ends", has_no_sender)
        await slots.ensure_slots(a, set())
        await b.set_upstream(upstream, "pgherd_b")
        await wait_until("no slot", lambda: says(Cause.UNKNOWN, "does not exist"))
        await b.set_upstream(None, None)
        for number in range(3):
            await a.acting.rows(f"CREATE TABLE public.t{number} ()")
            await a.acting.rows("SELECT pg_switch_wal()")
        await a.checkpoint()
        await b.set_upstream(upstream, None)
        await wait_until("it is gone", lambda: says(Cause.GONE, "has already been removed"))

    play(story())
