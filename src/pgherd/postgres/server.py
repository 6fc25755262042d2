"""One PostgreSQL server: its life, its configuration, and the way to ask it things.

The door of this room. Owns the postmaster's pid, the live parameters, and two SQL sessions (one
that looks, one that acts). The longer procedures live in `sealing`, `admin`, `clone`, `rewind`.
Rules kept here: a server is always started as a standby; a live parameter counts only after it was
read back from the server; no process is signalled that is not of this data directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import assert_never

import msgspec

from pgherd.model.errors import OperatorError, PostgresError
from pgherd.model.ids import Lsn, NodeId, Position, Term
from pgherd.postgres import (
    accesscheck,
    admin,
    conf,
    datadir,
    launch,
    live,
    look,
    lowering,
    processes,
    sealing,
    tree,
)
from pgherd.postgres import pending as waiting
from pgherd.postgres import settings as parameters
from pgherd.postgres.admin import WaitingCommit
from pgherd.postgres.binaries import Binaries
from pgherd.postgres.datadir import DirKind, DirState
from pgherd.postgres.files import make_directory, tail
from pgherd.postgres.identity import PostgresUser
from pgherd.postgres.look import Look, SenderSeen
from pgherd.postgres.pgcontrol import ControlData
from pgherd.postgres.probe import Probe, probe
from pgherd.postgres.session import Login, Session
from pgherd.postgres.settings import CLOSED_NAMES, Place, ServerSettings
from pgherd.postgres.statement import compose, identifier

START_POLL_S = 0.015
PROMOTE_POLL_S = 0.005
KILL_TIMEOUT_S = 10.0
LEFTOVERS_TIMEOUT_S = 2.0
SETTINGS_CHECK_S = 5.0
STOP_SIGNALS = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}


class Started(msgspec.Struct, frozen=True):
    """How a start went.

    accepting = False: it still recovers at the deadline and goes on doing so · purged = what
    ALTER SYSTEM had set and lost · overridden = operator's parameters that did not count.
    """

    pid: int
    accepting: bool
    purged: tuple[str, ...] = ()
    overridden: tuple[str, ...] = ()


class PostgresServer:
    """The server of one data directory, whether it runs or not."""

    def __init__(
        self,
        *,
        data_dir: Path,
        port: int,
        socket_dir: Path,
        binaries: Binaries,
        user: PostgresUser | None,
        settings: ServerSettings,
        log_file: Path,
    ) -> None:
        launch.check_socket_path(socket_dir, port)
        self.data_dir = data_dir
        self.port = port
        self.socket_dir = socket_dir
        self.binaries = binaries
        self.user = user
        self.settings = settings
        self.log_file = log_file
        self.pid = 0
        self.ending = False
        """Whether we ended this server: its death is no accident."""
        self.control: ControlData | None = None
        """What pg_control said before the running server was started, or taken over."""
        self.live: dict[str, str] = live.parameters_of(CLOSED_NAMES, None, None)
        self._mark: dict[str, str] = {}
        self.login = login = Login(str(socket_dir), port, settings.superuser, settings.database)
        self.watching = Session(login)
        self.acting = Session(login, statement_timeout_ms=60_000)
        self.reading = Session(login, statement_timeout_ms=2_000)
        self._demanded: dict[str, int] = {}
        self._child: subprocess.Popen[bytes] | None = None
        self.conf_lock = asyncio.Lock()
        self._checked_at = 0.0
        self._settings_problem = ""
        self.applied = waiting.Applied()
        """What it has of its parameters, as of the last check."""
        self.replaced = False
        """Whether it is stopped and started within one act: nobody takes that for a death."""

    # Life

    async def initdb(self, incarnation: str) -> None:
        """Make a new cluster in this place, which must be free."""
        await datadir.initdb(
            self.data_dir,
            binaries=self.binaries,
            user=self.user,
            superuser=self.settings.superuser,
            incarnation=incarnation,
            parameters=self.settings.parameters,
        )

    async def state(self, *, system_id: str = "") -> DirState:
        """Look at the directory and its processes without connecting."""
        return await datadir.inspect(
            self.data_dir, binaries=self.binaries, user=self.user, system_id=system_id
        )

    async def start(
        self,
        *,
        names: str = CLOSED_NAMES,
        conninfo: str | None = None,
        slot: str | None = None,
        deadline_s: float = 60.0,
        lower: bool = False,
        delay_ms: int = 0,
    ) -> Started:
        """Start as a standby and wait until it takes connections, dies, or time is up.

        lower: with less than its WAL demands, to be promoted before it takes any (`lowering`).
        """
        self.control = await self._must_be_startable()
        self._demanded = {} if lower else self.control.demanded
        once = lowering.NO_HOT_STANDBY if lower else {}
        self.live = live.parameters_of(names, conninfo, slot, str(delay_ms)) | once
        effective = self._effective()
        await self._forget_sessions()
        purged, offset = await asyncio.to_thread(self._prepare, effective.values)
        argv = launch.command_line(self.binaries, self.data_dir, effective.values)
        self._child = await asyncio.to_thread(
            launch.spawn, argv, data_dir=self.data_dir, log_file=self.log_file, user=self.user
        )
        self.pid, self.ending = self._child.pid, False
        accepting = await self._wait_accepting(self._child, offset, deadline_s)
        self._demanded = {}
        self.live = {name: value for name, value in self.live.items() if name not in once}
        return Started(self.pid, accepting, purged, effective.overridden)

    async def adopt(self) -> bool:
        """Take over a server that runs already; False when none does."""
        state = await self.state()
        if state.kind is not DirKind.RUNNING or state.pid_file is None:
            return False
        if state.pid_file.port != self.port:
            raise OperatorError(
                f"PostgreSQL runs in {self.data_dir} on port {state.pid_file.port}, "
                f"the configuration says {self.port}",
                f"pg_ctl stop -D {self.data_dir}   (pgherd then starts it itself)",
            )
        written = conf.parse(await asyncio.to_thread(_read_conf, self.data_dir))
        known = {name: written[name] for name in parameters.RELOADABLE if name in written}
        self.live = {**live.parameters_of(CLOSED_NAMES, None, None), **known}
        self.control = state.control
        self.pid, self.ending = state.pid, False
        return True

    async def wait_death(self) -> None:
        """Return when the postmaster has ended; at once when there is none."""
        if self.pid:
            await processes.wait_gone(self.pid)
        self._reap()

    def is_running(self) -> bool:
        """Whether the postmaster that we know is alive."""
        return self.pid != 0 and processes.belongs(self.pid, self.data_dir)

    async def stop(self, mode: str = "fast", timeout_s: float = 30.0) -> str:
        """Stop the server, harder and harder; return what it took ("" when none ran)."""
        self.ending = True
        pid = (await asyncio.to_thread(datadir.running_pid, self.data_dir)) or self.pid
        steps = [mode, "immediate"] if mode != "immediate" else [mode]
        took = ""
        for step in steps:
            if not pid or not processes.send(pid, STOP_SIGNALS[step], data_dir=self.data_dir):
                break
            took = step
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await processes.wait_gone(pid)
                break
        left = await processes.wait_none(self.data_dir, timeout_s=LEFTOVERS_TIMEOUT_S)
        if left:
            took = "kill"
        await self.kill_tree()
        return took

    async def ends_within(self, how: str, limit_s: float) -> bool:
        """One bounded step of a stop (fast, immediate, kill): whether nothing of it is left then.

        Sessions and processes that are left are for `stop` to clear away.
        """
        if how == "kill":
            await asyncio.to_thread(tree.kill_all, self.data_dir)
        elif self.pid:
            processes.send(self.pid, STOP_SIGNALS[how], data_dir=self.data_dir)
        return not await processes.wait_none(self.data_dir, timeout_s=limit_s)

    async def shut_down_in_order(self, timeout_s: float = 60.0) -> None:
        """Leave a stopped, clean directory: a crashed one replays its WAL as a standby first."""
        await self.stop("fast", timeout_s=timeout_s)
        if not (await self.state()).clean:
            if not (await self.start(deadline_s=timeout_s)).accepting:
                raise PostgresError("crash recovery did not end in time")
            await self.stop("fast", timeout_s=timeout_s)
        state = await self.state()
        if not state.clean:
            raise PostgresError(f"it does not shut down in order: {state.problem or state.kind}")

    async def kill_tree(self) -> None:
        """SIGKILL every process of this data directory and wait until none is left."""
        self.ending = True
        deadline = asyncio.get_running_loop().time() + KILL_TIMEOUT_S
        while left := await asyncio.to_thread(processes.of_directory, self.data_dir):
            for pid in sorted(left, key=lambda each: each != self.pid):
                processes.send(pid, signal.SIGKILL, data_dir=self.data_dir)
            if asyncio.get_running_loop().time() > deadline:
                raise PostgresError(f"processes {left} of {self.data_dir} do not die")
            await asyncio.sleep(processes.GONE_POLL_S)
        self._reap()
        self.pid = 0
        await self._forget_sessions()

    # Live parameters

    async def reload(self, **changes: str) -> None:
        """Change live parameters and return when the server was seen to use them."""
        await self._apply({**self.live, **changes})

    async def set_upstream(self, conninfo: str | None, slot: str | None, **more: str) -> None:
        """Name the upstream; None: none. more: delay and fetch, as in `live.parameters_of`."""
        names = self.live["synchronous_standby_names"]
        await self._apply(live.parameters_of(names, conninfo, slot, **more))

    async def borrow_upstream(self, conninfo: str, slot: str) -> None:
        """Name an upstream for a moment: what makes a sealed standby quick to drain stays."""
        names = self.live["synchronous_standby_names"]
        await self._apply(live.parameters_of(names, None, None) | live.upstream(conninfo, slot))

    async def set_names(self, text: str, commit: str = "") -> None:
        """Set synchronous_standby_names, and what goes with them (`live.named`)."""
        await self._apply(live.named(self.live, text, commit))

    async def reconfigure(self, settings: ServerSettings) -> tuple[str, ...]:
        """Use new settings as far as a reload can; return the parameters that wait for a restart.

        It returns when whoever connects meets them, access lines and passfile included.
        """
        await accesscheck.take_up(self, settings)
        self.settings = settings
        await asyncio.to_thread(conf.write_passfile, settings, user=self.user)
        await self._apply(self.live)
        self._checked_at = 0.0
        problem = await waiting.unusable(self.acting)
        if problem:
            raise PostgresError(f"PostgreSQL does not take all of its parameters: {problem}")
        applied = await waiting.look(self.acting, self._effective().values)
        return tuple(one.name for one in applied.pending)

    async def check_settings(self) -> str:
        """What is wrong with the parameters that safety rests on; "" when nothing is."""
        wanted = self._effective().values
        names = sorted({*parameters.RELOADABLE, *CHECKED} & set(wanted))
        rows = await self.watching.rows(live.SETTINGS_SQL, [names])
        wrong = [live.wrong(row, wanted) for row in rows]
        wrong += await live.commit_elsewhere(self.watching)
        return "; ".join(text for text in wrong if text)

    # Questions

    async def probe(self, timeout_s: float = 1.0) -> Probe:
        """Open a fresh session at protocol level."""
        return await probe(
            launch.socket_path(self.socket_dir, self.port),
            user=self.settings.superuser,
            database=self.settings.database,
            timeout_s=timeout_s,
        )

    async def look(self, timeout_s: float = 2.0) -> Look:
        """Look through SQL; every few seconds this also checks the parameters."""
        now = asyncio.get_running_loop().time()
        if now - self._checked_at > SETTINGS_CHECK_S:
            self._settings_problem = await self.check_settings()
            self.applied = await waiting.look(self.watching, self._effective().values)
            self._checked_at = now
        return await look.take(
            self.watching, timeout_s=timeout_s, settings_problem=self._settings_problem
        )

    async def waiting_for_wal(self, timeout_s: float = 2.0) -> int:
        """How many processes wait for WAL to be written; reads memory alone."""
        row = await self.watching.row(look.WAITING_SQL, timeout_s=timeout_s, again=True)
        return int(row[0])

    async def written_token(self) -> str:
        """Under which token its files have it stream, whether it runs or not; "" for none."""
        written = conf.parse(await asyncio.to_thread(_read_conf, self.data_dir))
        return look.upstream_of(written.get("primary_conninfo", ""))[0]

    async def oldest_wal(self, segment_bytes: int = 16 << 20) -> Lsn:
        """Where the WAL that is still on disk begins."""
        names = await asyncio.to_thread(os.listdir, self.data_dir / "pg_wal")
        return Lsn(datadir.oldest_segment(names, segment_bytes))

    # Acts on a running server

    async def promote(self, timeout_s: float = 60.0) -> None:
        """Become a primary, under closed names only; return when recovery has ended."""
        if self.live["synchronous_standby_names"] != CLOSED_NAMES:
            raise PostgresError("refused to promote: the names are not closed")
        await self.acting.rows("SELECT pg_promote(false)")
        async with _limit(timeout_s, "promotion"):
            while True:
                (recovering,) = await self.acting.row("SELECT pg_is_in_recovery()")
                if not recovering:
                    return
                await asyncio.sleep(PROMOTE_POLL_S)

    async def checkpoint(self, timeout_s: float = 300.0) -> None:
        """Complete a checkpoint; in a session of its own, since it may take long."""
        session = Session(self.login, statement_timeout_ms=0)
        try:
            await session.rows("CHECKPOINT", timeout_s=timeout_s)
        finally:
            await session.close()

    async def seal(self, timeout_s: float) -> Position:
        """Stop receiving, drain and stand still (F2, steps 3 and 4); return the final position."""
        return await sealing.seal(self, timeout_s=timeout_s)

    async def write_epoch(self, term: Term, leader: NodeId) -> Lsn:
        """Write the epoch record of a term; return a flushed position at or behind its end."""
        return await admin.write_epoch(self, term, leader)

    async def close_gate(self) -> int:
        """Closed names, then every client's session ended; return how many there were."""
        return await admin.close_gate(self)

    async def ensure_roles(self) -> tuple[str, ...]:
        """Have the replication and the rewind role with their passwords and rights."""
        return await admin.ensure_roles(self)

    async def terminate_walsenders(
        self, which: Callable[[SenderSeen], bool]
    ) -> tuple[SenderSeen, ...]:
        """End the walsenders that a predicate picks, and wait until they are gone."""
        return await admin.terminate_walsenders(self, which)

    async def commit_waits_probe(self) -> WaitingCommit:
        """Prove that a commit waits for standbys now; the caller releases it."""
        return await admin.commit_waits_probe(self)

    def upstream(self, *, host: str, port: int, token: str) -> str:
        """primary_conninfo for a leader, under this member's token."""
        major = self.binaries.major
        return parameters.upstream_conninfo(
            self.settings, host=host, port=port, application_name=token, major=major
        )

    def own_pids(self) -> list[int]:
        """The server processes of our own sessions."""
        sessions = (self.watching, self.acting, self.reading)
        return [session.backend_pid for session in sessions if session.backend_pid]

    async def close(self) -> None:
        """Close our sessions; the server goes on."""
        await self._forget_sessions()

    # Helpers

    def _effective(self) -> parameters.Effective:
        place = Place(str(self.data_dir), self.port, str(self.socket_dir))
        now = self.live | self._mark
        return parameters.effective(self.settings, place, now, self._demanded, self.binaries.major)

    async def _must_be_startable(self) -> ControlData:
        state = await self.state()
        match state.kind:
            case DirKind.UNUSABLE:
                raise OperatorError(state.problem, state.hint)
            case DirKind.NONE:
                raise PostgresError(f"{self.data_dir} holds no cluster")
            case DirKind.RUNNING:
                raise PostgresError(f"process {state.pid} already runs in {self.data_dir}")
            case DirKind.STOPPED:
                if state.leftovers:
                    raise PostgresError(
                        f"processes {state.leftovers} of an earlier server still live in "
                        f"{self.data_dir}"
                    )
                assert state.control is not None
                return state.control
            case _:
                assert_never(state.kind)

    def _prepare(self, values: dict[str, str]) -> tuple[tuple[str, ...], int]:
        """Write the files for a start; return what was purged and where the log ends now."""
        make_directory(self.socket_dir, user=self.user, mode=0o755)
        purged = conf.write_for_start(self.data_dir, values, settings=self.settings, user=self.user)
        launch.clear_stale_locks(self.data_dir, self.socket_dir, self.port)
        try:
            return purged, self.log_file.stat().st_size
        except FileNotFoundError:
            return purged, 0

    async def _wait_accepting(
        self, child: subprocess.Popen[bytes], offset: int, deadline_s: float
    ) -> bool:
        deadline = asyncio.get_running_loop().time() + deadline_s
        while asyncio.get_running_loop().time() < deadline:
            if child.poll() is not None:
                self.pid = 0
                said = await asyncio.to_thread(tail, self.log_file, offset=offset)
                raise launch.why_not(said, port=self.port)
            if (await self.probe()).is_alive:
                return True
            await asyncio.sleep(START_POLL_S)
        return False

    async def _apply(self, wanted: dict[str, str]) -> None:
        async with self.conf_lock:
            self.live = wanted
            for alert in (conf.AUTO_CONF, ""):
                self._mark = live.new_mark()
                values = self._effective().values
                await asyncio.to_thread(conf.write_values, self.data_dir, values, user=self.user)
                self._signal_reload()
                problem = await live.verified(self.acting, values, alert=alert)
                if not alert or alert not in problem:
                    break
                await self._reset_alter_system(parameters.RELOADABLE & set(values))
            if problem:
                raise PostgresError(f"reload did not take effect: {problem}")

    def _signal_reload(self) -> None:
        if not self.pid or not processes.send(self.pid, signal.SIGHUP, data_dir=self.data_dir):
            raise PostgresError("there is no server to reload")

    async def _reset_alter_system(self, names: frozenset[str]) -> None:
        """Take back what somebody set by ALTER SYSTEM behind our back."""
        for name in sorted({*names, parameters.COMMIT}):
            await self.acting.rows(compose("ALTER SYSTEM RESET {}", identifier(name)))

    async def _forget_sessions(self) -> None:
        await self.watching.close()
        await self.acting.close()
        await self.reading.close()
        self.applied = waiting.Applied()
        self._checked_at = 0.0
        self._settings_problem = ""

    def _reap(self) -> None:
        if self._child is not None and self._child.poll() is not None:
            self._child = None


CHECKED = ("restart_after_crash", "wal_level", "fsync", "full_page_writes")


def _read_conf(data_dir: Path) -> str:
    return (data_dir / conf.CONF).read_text() if (data_dir / conf.CONF).exists() else ""


@contextlib.asynccontextmanager
async def _limit(timeout_s: float, what: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        raise PostgresError(f"{what} did not end within {timeout_s:g} s") from error
