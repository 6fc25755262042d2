"""Watches the local server: a look through SQL, a fresh-connection probe, and the postmaster's pid.

A death is seen at once (pidfd); a server that stops answering is HUNG after some failed probes in a
row, or when its WAL stands still under sessions that wait for it (`progress`); everything else is
one look, often while something changes and rarely at rest. A server that has no connection or no
process left is ill and lives: the look goes through a session that is held.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from pgherd.ledger.lineage import attributed, strayed
from pgherd.model.branch import Fork
from pgherd.model.errors import OperatorError, PostgresError
from pgherd.model.facts import Reign
from pgherd.model.ids import Instant, Lsn, Position, Term, Timeline, parse_token
from pgherd.model.observation import Server, ServerSeen
from pgherd.model.pace import LOOK_MS, SUSPECT_LOOK_MS
from pgherd.model.probed import Probed
from pgherd.model.promises import Promises
from pgherd.observe import streams
from pgherd.observe.ailments import Ailment, Ailments
from pgherd.observe.deaths import Deaths
from pgherd.observe.demands import Demands
from pgherd.observe.disk import FreeSpace
from pgherd.observe.probes import ProbeBook
from pgherd.observe.programs import Installed
from pgherd.observe.progress import WriteProgress
from pgherd.observe.recovering import Recovering
from pgherd.postgres import branch, lending, live
from pgherd.postgres.binaries import Binaries
from pgherd.postgres.conninfo import read as read_pairs
from pgherd.postgres.datadir import DirKind, DirState, is_whole
from pgherd.postgres.look import DELAYED, Look
from pgherd.postgres.memory import ServerMemory
from pgherd.postgres.probe import Probe
from pgherd.postgres.server import PostgresServer
from pgherd.postgres.settings import COMMIT, ServerSettings
from pgherd.telemetry import logs
from pgherd.telemetry.boottime import now_ms, unix_ms, until_next

log = logs.get("observe")

BUSY_MS = 40
LATE_MS = 50
LOOK_TIMEOUT_S = 1.0
UNANSWERED_MS = 10_000
"""A server that takes sessions and lets no look succeed for so long serves nobody either."""

YOUNG_MS = 10_000
"""How long after its start a postmaster may not have opened its socket yet."""
SLOTS_TOLD_MAX = 64
"""A report names no more slots; a server has a dozen places for them unless told otherwise."""
RUNNING = (Server.STARTING, Server.STANDBY, Server.PRIMARY, Server.HUNG)
ILL = {Probe.FULL: Ailment.FULL, Probe.FORKLESS: Ailment.FORKLESS}
replace = msgspec.structs.replace


class ServerWatch:
    """Keeps one `ServerSeen` fresh and says when it changed."""

    def __init__(
        self,
        server: PostgresServer,
        *,
        memory: ServerMemory,
        promises: Callable[[], Promises],
        history: Callable[[], tuple[Reign, ...]],
        is_busy: Callable[[], bool],
        changed: Callable[[], None],
        probe_interval_ms: int,
        probe_timeout_ms: int,
        probe_failures: int,
        write_stall_ms: int,
        ballast_bytes: int,
        tell: Callable[[str, str], None],
        find: Callable[[], Binaries],
    ) -> None:
        self.server = server
        self.memory = memory
        self.seen = ServerSeen(state=Server.STARTING)
        self._promises = promises
        self._history = history
        self._is_busy = is_busy
        self._changed = changed
        self._probe_every_ms = probe_interval_ms
        self._probe_timeout_ms = probe_timeout_ms
        self._failures_max = probe_failures
        self._write_stall_ms = write_stall_ms
        self._rest_s = min(LOOK_MS, probe_interval_ms) / 1000
        self._failures = 0
        self._last_probe = Probe.ALIVE
        self._probed_at = Instant(0)
        self._pid_since = Instant(0)
        self._answered_at = Instant(0)
        self._parked_at: Lsn | None = None
        self._buried = 0
        self._ailments = Ailments(tell)
        self._demands = Demands()
        self._deaths = Deaths()
        self._progress = WriteProgress()
        self._recovering = Recovering(server)
        self._poke = asyncio.Event()
        self._death: asyncio.Task[None] | None = None
        self._looking = asyncio.Lock()
        self._branch: tuple[Fork, ...] = ()
        self._branch_of = (0, Timeline(0))
        self._begins: tuple[int, Lsn] = (0, Lsn(0))
        self.space = FreeSpace(server.data_dir, ballast_bytes)
        self.probes = ProbeBook()
        self.installed = Installed(server, find)

    def poke(self) -> None:
        """Look again soon."""
        self._poke.set()

    async def run(self) -> None:
        """Watch for ever."""
        while True:
            await self.look()
            self.space.look_if_due()
            self.installed.look_if_due(self.seen.state)
            self._follow_postmaster()
            try:
                async with asyncio.timeout(self._pause_s()):
                    await self._poke.wait()
            except TimeoutError:
                pass
            self._poke.clear()

    def _pause_s(self) -> float:
        if self._is_busy() or self._failures:
            return BUSY_MS / 1000
        if self._progress.stalled_ms:
            return SUSPECT_LOOK_MS / 1000
        return until_next(self._rest_s)

    async def look(self) -> ServerSeen:
        """Look now."""
        async with self._looking:
            try:
                seen = await self._see()
            except (PostgresError, OperatorError, OSError, RuntimeError) as error:
                seen = self._blind(str(error))
            seen = self.installed.told(seen)
            if seen.state is not self.seen.state or seen.pid != self.seen.pid:
                seen = replace(seen, since=now_ms())
                log.info(
                    "server.state",
                    state=seen.state.value,
                    was=self.seen.state.value,
                    problem=seen.problem,
                )
            else:
                seen = replace(seen, since=self.seen.since)
            different = replace(seen, since=self.seen.since) != self.seen
            self.seen = seen
            if different:
                self._changed()
            return seen

    def _follow_postmaster(self) -> None:
        """Be woken by the postmaster's death."""
        alive = self._death is not None and not self._death.done()
        if self.server.is_running() and not alive:
            self._death = asyncio.create_task(self._wait_death(), name="postmaster-death")

    async def _wait_death(self) -> None:
        await self.server.wait_death()
        self._poke.set()

    def _blind(self, problem: str) -> ServerSeen:
        """A look that failed: what was seen before, but for a server that is not there any more.

        Without memory, processes or threads nothing can be asked of its directory; that it has died
        is certain all the same, and must not wait.
        """
        if self.server.is_running() or self.seen.state not in RUNNING:
            return replace(self.seen, healthy=False, problem=problem)
        self._note_death()
        return self._dead(problem)

    async def _see(self) -> ServerSeen:
        if self.server.replaced:
            return self.seen
        if not self.server.is_running():
            self._note_death()
            return await self._see_directory()
        if self.server.pid != self.memory.pid:
            self._pid_since = self._answered_at = now_ms()
        self.memory.belongs_to(self.server.pid)
        await self._probe_if_due()
        if self._failures >= self._failures_max:
            return replace(
                self.seen,
                state=Server.HUNG,
                writes_hang=False,
                healthy=False,
                probe_failures=self._failures,
                problem="it takes no new connection",
            )
        if self._last_probe is Probe.STARTING:
            self._answered_at = now_ms()
            recovery = await self._recovering.look()
            return replace(self.seen, state=Server.STARTING, pid=self.server.pid, recovery=recovery)
        try:
            look = await self.server.look(timeout_s=LOOK_TIMEOUT_S)
            stalled_ms = await self._writes_stall_ms(look)
        except PostgresError as error:
            return self._unanswered(error)
        self._answered_at = now_ms()
        self._deaths.lives(lived_ms=now_ms() - self._pid_since)
        demanded = await self._demands.of(look, self.server)
        return self._judge(replace(self._from_look(look), demanded=demanded), stalled_ms)

    async def _writes_stall_ms(self, look: Look) -> int:
        """For how long nothing has become durable although sessions wait for it."""
        if look.in_recovery or not self._progress.stands_still(
            flush=look.flush_lsn, insert=look.insert_lsn
        ):
            self._progress.moved(look.flush_lsn, now=now_ms())
            return 0
        sessions = await self.server.waiting_for_wal(LOOK_TIMEOUT_S)
        return self._progress.waits(sessions, now=now_ms())

    def _judge(self, seen: ServerSeen, stalled_ms: int) -> ServerSeen:
        """A server that answers, with what it suffers from."""
        if stalled_ms >= self._write_stall_ms:
            text = (
                f"no WAL became durable for {self._write_stall_ms / 1000:g} s and more while"
                f" sessions wait: check the disk of {self.server.data_dir / 'pg_wal'}"
            )
            problem = self._ailments.note(Ailment.WRITES_HANG, text)
            return replace(
                seen, state=Server.HUNG, writes_hang=True, healthy=False, problem=problem
            )
        return replace(seen, problem=self._ailments.note(ILL.get(self._last_probe)))

    def _note_death(self) -> None:
        """Count it if it ended by itself, once for each postmaster."""
        pid = self.server.pid
        if not pid or pid == self._buried or self.server.ending:
            return
        self._buried = pid
        lived_ms = now_ms() - self._pid_since if pid == self.memory.pid else 0
        times = self._deaths.died(lived_ms=lived_ms)
        log.warning("server.died", pid=pid, lived_ms=lived_ms, times=times)
        if times > 1:
            text = f"it died {times} times in a row, each soon after its start: see"
            self._ailments.tell(Ailment.DIES, f"{text} {self.server.log_file}")

    def _dead(self, problem: str) -> ServerSeen:
        return replace(
            self.seen,
            state=Server.STOPPED,
            pid=0,
            receiver=None,
            senders=(),
            position=None,
            drained=False,
            problem=problem,
            crashes=self._deaths.in_a_row,
            recovery=None,
        )

    def _unanswered(self, error: PostgresError) -> ServerSeen:
        """No answer through SQL: dead if the postmaster is, otherwise the probe will tell.

        Where all connections are taken, ours may be among them: that is no death.
        """
        if not self.server.is_running():
            self._note_death()
            return self._dead(str(error))
        if not self._failures:
            self._probed_at = Instant(0)
        if self._last_probe is Probe.FULL:
            return replace(self.seen, problem=self._ailments.note(Ailment.FULL))
        if now_ms() - self._answered_at >= UNANSWERED_MS:
            hung = replace(self.seen, state=Server.HUNG, writes_hang=False, healthy=False)
            return replace(hung, problem=str(error))
        return replace(self.seen, problem=str(error))

    async def _see_directory(self) -> ServerSeen:
        self._failures, self._parked_at = 0, None
        state = await self.server.state()
        if state.kind is DirKind.RUNNING and await self.server.adopt():
            self._last_probe = await self.server.probe(self._probe_timeout_ms / 1000)
            self.probes.count(self._last_probe.value)
            self._probed_at = now_ms()
            return await self._see()
        return self._from_directory(state)

    def _from_directory(self, state: DirState) -> ServerSeen:
        control = state.control
        kinds = {
            DirKind.NONE: Server.NONE,
            DirKind.UNUSABLE: Server.UNUSABLE,
            DirKind.STOPPED: Server.STOPPED,
            DirKind.RUNNING: Server.STARTING,
        }
        problem = f"{state.problem}; {state.hint}" if state.hint else state.problem
        if state.kind is DirKind.STOPPED and self._deaths.in_a_row > 1:
            problem = problem or f"died {self._deaths.in_a_row} times; see {self.server.log_file}"
        return ServerSeen(
            state=kinds[state.kind],
            system_id=control.system_id if control else "",
            major=self.server.binaries.major if control else 0,
            timeline=control.timeline if control else Timeline(0),
            clean=state.clean,
            was_primary=self._was_primary(state),
            problem=problem,
            crashes=self._deaths.in_a_row,
            starved=self.space.starves(),
        )

    def _was_primary(self, state: DirState) -> bool:
        """A copy that was never started has pg_control of its source, and the copy's label."""
        control, whole = state.control, is_whole(state, self.server.data_dir)
        stopped = state.kind is DirKind.STOPPED
        return stopped and whole and control is not None and control.was_primary

    async def _probe_if_due(self) -> None:
        now = now_ms()
        if now - self._probed_at < self._until_probe_ms():
            return
        self._probed_at = now
        self._last_probe = await self.server.probe(self._probe_timeout_ms / 1000)
        young = now_ms() - self._pid_since < YOUNG_MS
        if self._last_probe is Probe.REFUSED and young:
            self._last_probe = Probe.STARTING
        if self._last_probe.answers or self._last_probe is Probe.STARTING:
            self._failures = 0
        elif self.server.is_running():
            self._failures += 1
        took_ms, verdict = now_ms() - now, self._last_probe.value
        self.probes.note(Probed(unix_ms() - took_ms, verdict, took_ms, self._failures))

    def _until_probe_ms(self) -> int:
        """One that failed is followed by another at once, but no sooner than its deadline.

        Looks come at multiples of their interval, give or take the loop's lateness.
        """
        if self._failures:
            return self._probe_timeout_ms
        return self._probe_every_ms - LATE_MS if self._last_probe.answers else 0

    def _from_look(self, look: Look) -> ServerSeen:
        promises, memory = self._promises(), self.memory
        state = Server.STANDBY if look.in_recovery else Server.PRIMARY
        adopted = parse_token(look.upstream_token)
        follows = adopted is not None and adopted[1] == promises.adopted
        position = attributed(self._history(), promises.adopted, look.position)
        recorded = look.epoch == memory.epoch_record_term == position.epoch
        ours = [slot for slot in look.slots if slot.is_ours and not slot.temporary]
        return ServerSeen(
            state=state,
            system_id=look.system_id,
            major=self.server.binaries.major,
            timeline=max(look.timeline, memory.received) if look.in_recovery else look.timeline,
            position=position,
            drained=self._is_drained(look),
            receiver=streams.receiver(look, promises),
            upstream=promises.adopted_leader if follows else None,
            upstream_term=adopted[1] if adopted is not None else Term(0),
            upstream_incarnation=adopted[0].incarnation if adopted is not None else "",
            borrows=look.upstream_token.startswith(lending.NAME),
            senders=streams.senders(look),
            names=look.names,
            settings_problem=look.settings_problem,
            names_generation=memory.names_generation,
            settled=memory.settled,
            epoch_record_end=memory.epoch_record_end if recorded else Lsn(0),
            checkpointed_term=memory.checkpointed_term,
            checkpointed_for=memory.checkpointed_for,
            reloaded=memory.reloaded,
            insert_lsn=look.insert_lsn,
            pid=self.server.pid,
            crashes=self._deaths.in_a_row,
            healthy=self._failures == 0,
            probe_failures=self._failures,
            timeline_begins=self._timeline_begins(look, promises),
            slots=tuple(slot.name for slot in ours),
            slots_in_use=tuple(slot.name for slot in ours if slot.active),
            stray=self._stray(look, promises) if look.in_recovery else None,
            paused=look.paused,
            config=self.server.settings.version,
            config_failed=memory.config_failed,
            matched=self.server.applied.matched,
            pending=self.server.applied.pending,
            roles=memory.roles,
            logins=self.server.settings.mark,
            former_login=logs_in_as_before(self.server.settings, look.conninfo),
            replication_slots=look.slots[:SLOTS_TOLD_MAX],
            slot_budget_bytes=look.slot_budget_bytes,
            commit=self.server.live.get(COMMIT, ""),
            fetches=look.fetches,
            started_unix_ms=int(look.started_unix * 1000),
            version_num=look.version_num,
            source=streams.source(look, memory),
            fed_at=streams.fed_at(look),
            delay_ms=int(live.delay_of(self.server.live)) if look.in_recovery else 0,
            delays=look.startup_wait == DELAYED,
            received=self._received(look, promises),
        )

    def _stray(self, look: Look, promises: Promises) -> Fork | None:
        """Where PostgreSQL's own history leaves the ledger's."""
        of = self.server.pid, look.timeline
        if self._branch_of != of or not self._branch:
            self._branch, self._branch_of = branch.read(self.server.data_dir, look.timeline), of
        return strayed(self._history(), promises.adopted, self._branch)

    def _timeline_begins(self, look: Look, promises: Promises) -> Lsn:
        """Asked for once per start of a standby, where the ledger does not know whom it adopted."""
        known = any(reign.term == promises.adopted for reign in self._history())
        if known or not look.in_recovery:
            return Lsn(0)
        if self._begins[0] != self.server.pid:
            self._begins = self.server.pid, branch.newest_begins(self.server.data_dir)
        return self._begins[1]

    def _received(self, look: Look, promises: Promises) -> Position | None:
        """Of a delayed standby without upstream: the end of what it has, replayed or not."""
        quiet = look.in_recovery and not look.conninfo and look.receiver is None
        if not quiet or live.delay_of(self.server.live) == "0" or look.receive_lsn is None:
            return None
        end = Position(look.epoch, max(look.receive_lsn, look.replay_lsn))
        return attributed(self._history(), promises.adopted, end)

    def _is_drained(self, look: Look) -> bool:
        """No upstream, no receiver, and replay parked at the same place twice in a row."""
        silent = not look.conninfo and not look.fetches
        quiet = look.in_recovery and silent and look.receiver is None
        if not quiet or not look.parked:
            self._parked_at = None
            return False
        again = self._parked_at == look.replay_lsn
        self._parked_at = look.replay_lsn
        return again


def logs_in_as_before(settings: ServerSettings, conninfo: str) -> bool:
    """Whether an upstream is named under another role than new connections use."""
    role = read_pairs(conninfo).get("user", "") if settings.mark else ""
    return role not in ("", settings.replication_role)
