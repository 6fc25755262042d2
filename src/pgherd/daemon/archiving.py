"""The archive of WAL as one node sees to it: what its program is told, and what becomes of it.

Owns the Unix socket on which PostgreSQL's `archive_command` and `restore_command` ask, the counts,
and what is made up for after a failover. What may go and come is `plan.archiving`'s; the copying is
done by the program (`postgres.walprogram`), so a slow archive never stands in the agent's way.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING

import msgspec

from pgherd.model import action as act
from pgherd.model.archive import SEGMENT_BYTES, ArchiveSeen, read_name
from pgherd.model.errors import PgherdError
from pgherd.model.facts import Phase
from pgherd.model.ids import Instant, MemberKey
from pgherd.model.observation import Server
from pgherd.plan.archiving import Verdict, may_come, may_go
from pgherd.plan.own import ArchiveUse
from pgherd.postgres import archivestatus, walcommand
from pgherd.telemetry import logs
from pgherd.telemetry.boottime import now_ms, unix_ms

if TYPE_CHECKING:
    from pgherd.config.archive import Archive
    from pgherd.config.settings import Settings
    from pgherd.daemon.build import Node
    from pgherd.postgres.settings import ServerSettings

log = logs.get("daemon")

COUNT_EVERY_S = 10.0
"""How often waiting files are counted; a look at one small directory."""
HELD_MS = 60_000
"""A file that has to wait for voters for longer is told of."""
WHOLE = 24
"""So long is the name of a whole segment."""
CALLERS_MAX = 16
"""One program archives and one fetches; what was killed may hold a connection for a moment."""


class Archiving:
    """One node's. Without a server, or without an `archive` section, nothing asks it."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._archive: Archive = node.settings.archive
        self._nostream = node.settings.node.tags.nostream
        self._seen = ArchiveSeen()
        self._problem = ""
        self._held: tuple[str, str, Instant] | None = None
        self._fetches: set[asyncio.StreamWriter] = set()
        self._wanted = asyncio.Event()
        self._soon = asyncio.Event()
        self._callers = 0
        self._looked_after = -1
        self._owed: set[str] = set()
        """What the former primary may not have archived, until it is there."""
        self._told = 0
        self.use = ArchiveUse(nostream=self._nostream)
        if node.server is not None:
            node.server.settings = self._take_up(node.server.settings)
            node.agent.reports.archiving = self
        if self._archive.kind:
            self._wanted.set()

    # --- what people and deciders hear of it ----------------------------------------------------

    def seen(self) -> ArchiveSeen:
        """For reports."""
        return self._seen

    def warnings(self) -> list[str]:
        """What is wrong with the archive here, and what that leads to."""
        if not self._archive.kind:
            return self._other_place()
        found, seen = [self._problem] if self._problem else [], self._seen
        if seen.failing:
            waits = f"{seen.waiting} files ({seen.waiting * self._bytes() >> 20} MB) wait"
            found.append(f"WAL is not archived: {seen.failing}; {waits} and take room on its disk")
        held = self._held
        if held is not None and now_ms() - held[2] > HELD_MS:
            found.append(f"{held[0]} is not archived yet: {held[1]}")
        if seen.gap:
            found.append(
                f"the archive lacks WAL: {seen.given_up} files up to {seen.gap} were given up"
                " (archive.queue_max): take a new base backup"
            )
        return [*found, *self._other_place()]

    def _other_place(self) -> list[str]:
        """The archive has to be the same for all: who follows fetches what the primary archived."""
        leader = self._node.agent.facts.leader
        heard = self._node.agent.reports.newest.get(leader.node) if leader is not None else None
        theirs = heard.report.archive.place if heard is not None else ""
        if leader is None or leader.node == self._node.me or not theirs:
            return []
        mine = self._seen.place or "none"
        return [] if theirs == mine else [f"its archive is {mine}, {leader.node}'s is {theirs}"]

    # --- settings ---------------------------------------------------------------------------------

    def _take_up(self, settings: ServerSettings) -> ServerSettings:
        """The server's settings with our commands. Finds out who can run the program: blocking."""
        archive, node = self._archive, self._node
        assert node.server is not None
        push = fetch = self._problem = ""
        if archive.kind:
            try:
                server = node.server
                command = walcommand.prepare(server.socket_dir, server.port, server.user)
            except PgherdError as error:
                self._problem = f"WAL cannot be archived: {error.message}; {error.hint}"
                push = "false"  # rather kept than lost
            else:
                push = walcommand.push(command)
                fetch = walcommand.fetch(command) if archive.source else ""
        self._seen = msgspec.structs.replace(self._seen, place=archive.shown)
        self.use = ArchiveUse(can_fetch=bool(fetch), nostream=self._nostream)
        if node.executor is not None:
            node.executor.hands.fetch = fetch
            node.executor.hands.nostream = self._nostream
        return msgspec.structs.replace(settings, archive_command=push)

    async def reloaded(self, new: Settings, base: ServerSettings) -> ServerSettings:
        """The file was read again: the server's settings with the commands as they are now."""
        self._archive = new.archive
        taken = await asyncio.to_thread(self._take_up, base)
        if new.archive.kind:
            self._wanted.set()
        return taken

    # --- life -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Answer the program for ever, and count what waits."""
        server = self._node.server
        assert server is not None
        await self._wanted.wait()
        path = walcommand.socket_path(server.socket_dir, server.port)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        listening = await asyncio.start_unix_server(self._serve, path=str(path))
        path.chmod(0o600)
        if server.user is not None:
            os.chown(path, server.user.uid, server.user.gid)
        async with listening:
            while True:
                with contextlib.suppress(OSError, PgherdError):
                    await self._look()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(COUNT_EVERY_S):
                        await self._soon.wait()
                self._soon.clear()

    def promised(self) -> None:
        """A promise was saved: what was allowed before it may not go on."""
        for writer in tuple(self._fetches):
            if self._may_come("00000001.history").why:
                writer.close()

    async def _look(self) -> None:
        """Count, have the running server know our command, and make up for a failover."""
        node, server = self._node, self._node.server
        assert server is not None
        if not self._archive.kind or node.watch is None:
            return
        status = await asyncio.to_thread(archivestatus.read, server.data_dir)
        self._seen = msgspec.structs.replace(self._seen, waiting=status.waiting)
        seen, facts = node.watch.seen, node.agent.facts
        runs = seen.state in (Server.PRIMARY, Server.STANDBY) and not node.agent.is_busy()
        if runs and self._told != server.pid:
            if not await asyncio.to_thread(self._is_known):
                await server.reload()
            self._told = server.pid
        leads = facts.phase is Phase.STABLE and facts.leader == self._key()
        if not leads or seen.state is not Server.PRIMARY:
            return
        if self._looked_after != facts.term:
            await self._make_up()
            self._looked_after = facts.term
        self._note_last(status.newest_done(seen.timeline))

    def _note_last(self, name: str) -> None:
        """The newest segment behind which nothing is owed: who fetches, and who leads next, goes by
        it."""
        if self._owed or self._looked_after != self._node.agent.facts.term:
            return
        if name > self._seen.last:  # by timeline, then by place
            self._seen = msgspec.structs.replace(self._seen, last=name)

    def _is_known(self) -> bool:
        server = self._node.server
        assert server is not None
        return walcommand.written(server.data_dir) == server.settings.archive_command

    async def _make_up(self) -> None:
        """What the former primary had finished and not archived is the new one's to archive.

        PostgreSQL takes what a standby received for archived: with archive_mode `on` that is the
        primary's business.
        """
        server, watch = self._node.server, self._node.watch
        assert server is not None
        assert watch is not None
        newest, now = self._node.agent.reports.newest.values(), watch.seen.timeline
        told = [one.report.archive.last for one in newest]
        known = [name for name in told if (file := read_name(name)) and file.timeline < now]
        made = await asyncio.to_thread(
            archivestatus.make_ready,
            server.data_dir,
            before=now,
            behind=max(known, key=lambda name: name[8:], default=""),
            user=server.user,
        )
        self._owed = {name for name in made if len(name) == WHOLE}
        if made:
            log.info("archive.made_up", files=made)
            self._node.stories.tell(
                "archive.made-up",
                f"{len(made)} files of WAL that the former primary may not have archived are"
                f" archived here, from {made[0]} on",
                term=self._node.agent.facts.term,
            )
            await server.acting.rows("SELECT pg_reload_conf()")  # it wakes the archiver

    # --- the program asks -------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._callers >= CALLERS_MAX:
            writer.close()
            return
        self._callers += 1
        try:
            while line := await reader.readline():
                words = line.decode(errors="replace").rstrip("\n").split("\t")
                if words[0] == "fetch":
                    self._fetches.add(writer)
                answer = await self._answer(words)
                writer.write("\t".join(answer).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError):
            pass  # it has ended, or says what is no line of ours
        finally:
            self._callers -= 1
            self._fetches.discard(writer)
            writer.close()

    async def _answer(self, words: list[str]) -> tuple[str, ...]:
        match words:
            case ["push", name]:
                return self._ordered(await self._may_go(name), self._archive.place)
            case ["fetch", name]:
                return self._ordered(self._may_come(name), self._archive.source)
            case ["done", name, _]:
                self._succeeded(name)
                return ("ok",)
            case ["failed", name, why]:
                return ("drop",) if await self._failed(name, why) else ("ok",)
            case ["fetched", name, _]:
                log.debug("archive.fetched", file=name)
                return ("ok" if self._may_come(name).word == "go" else "no",)
            case ["unfetched", name, why]:
                log.warning("archive.unfetched", file=name, reason=why)
                return ("ok",)
        return ("halt", "this agent does not know that question")

    def _ordered(self, verdict: Verdict, place: str) -> tuple[str, ...]:
        if verdict.word != "go":
            return verdict.word, verdict.why
        archive = self._archive
        if not place:
            return "halt", "there is no archive any more"
        return (
            "go",
            archive.kind,
            place,
            str(archive.tries),
            str(archive.timeout_ms / 1000),
            self._node.agent.facts.system_id,
            self._node.me,
            verdict.begins,
        )

    async def _may_go(self, name: str) -> Verdict:
        node = self._node
        if node.server is None or node.watch is None or node.server.ending or node.agent.stopping:
            return Verdict("halt", "this server stops")
        verdict = self._judge(name)
        if verdict.word == "wait":
            await node.watch.look()
            verdict = self._judge(name)
        if verdict.word == "skip":
            self._owed.discard(name)
        if verdict.word == "go" and self._looked_after != node.agent.facts.term:
            self._soon.set()  # the first file of a reign: what went before it may be missing
        if verdict.word != "wait":
            self._held = None
        elif self._held is None or self._held[0] != name:
            self._held = name, verdict.why, now_ms()
        return verdict

    def _judge(self, name: str) -> Verdict:
        agent, watch = self._node.agent, self._node.watch
        assert watch is not None
        promises, facts = self._node.consensus.store.promises(), agent.facts
        has_lease = agent.leasing.has(facts, promises, now=now_ms())
        size = self._bytes()
        return may_go(facts, self._key(), watch.seen, name, has_lease=has_lease, segment_bytes=size)

    def _may_come(self, name: str) -> Verdict:
        agent, facts = self._node.agent, self._node.agent.facts
        heard = agent.reports.heard(within_ms=agent.policy.detect_ms, now=now_ms())
        report = heard.get(facts.leader.node) if facts.leader is not None else None
        executor, promises = self._node.executor, self._node.consensus.store.promises()
        rewinds = executor is not None and isinstance(executor.doing(), act.Rewind)
        size = self._bytes()
        return may_come(facts, promises, report, name, rewinds=rewinds, segment_bytes=size)

    def _bytes(self) -> int:
        """Of a segment of this cluster."""
        server = self._node.server
        control = server.control if server is not None else None
        return control.wal_segment_bytes if control is not None else SEGMENT_BYTES

    def _key(self) -> MemberKey:
        return MemberKey(self._node.me, self._node.consensus.store.promises().incarnation)

    # --- what became of it ------------------------------------------------------------------------

    def _succeeded(self, name: str) -> None:
        if self._seen.failing:
            self._tell("archive.works", f"WAL is archived again, with {name}")
        self._seen = msgspec.structs.replace(
            self._seen, last_unix_ms=unix_ms(), failing="", failing_unix_ms=0
        )
        self._owed.discard(name)
        if len(name) == WHOLE:
            self._note_last(name)

    async def _failed(self, name: str, why: str) -> bool:
        """Whether this file is to be given up, as its operator wants when too much waits."""
        seen, server, limit = self._seen, self._node.server, self._archive.queue_max_bytes
        assert server is not None
        if not seen.failing:
            self._tell("archive.failing", f"{name} is not archived: {why}")
        status = await asyncio.to_thread(archivestatus.read, server.data_dir)
        gives_up = bool(limit) and status.waiting * self._bytes() > limit
        self._seen = msgspec.structs.replace(
            seen,
            failing=why,
            failing_unix_ms=seen.failing_unix_ms or unix_ms(),
            failures=seen.failures + 1,
            waiting=status.waiting,
            given_up=seen.given_up + gives_up,
            gap=name if gives_up else seen.gap,
        )
        if gives_up:
            self._owed.discard(name)
        if gives_up and not seen.gap:
            self._tell("archive.gap", f"{name} is given up: more than archive.queue_max waits")
        return gives_up

    def _tell(self, kind: str, text: str) -> None:
        log.warning(kind, text=text)
        self._node.stories.tell(kind, text, term=self._node.agent.facts.term)
