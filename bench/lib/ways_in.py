"""What a bench of proxies measures: ways to one PostgreSQL, each a process of its own.

Owns starting and stopping them (our proxy with each of its engines or as a pool, HAProxy and
PgBouncer), what they cost by the kernel's account, and a PostgreSQL to lead to. Leaves loads and
figures to `bench/proxy` and `bench/pool`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from pgherd.model.ids import Instant, NodeId, Term
from pgherd.relay.control import ProxyControl
from pgherd.relay.messages import (
    Engine,
    ListenerSettings,
    LocalServer,
    Pool,
    ProxySettings,
    Verifiers,
)
from pgherd.relay.pump import threads_for
from pgherd.route.choose import Backend, Route, Snapshot
from pgherd.route.poolrules import PoolRules
from pgherd.route.poolsteps import PoolLimits
from pgherd.telemetry.boottime import now_ms

READY_S = 30.0
SESSIONS_MAX = 6_000
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Way:
    """One way in: where it listens, and the process that is paid for (0: none)."""

    def __init__(self, name: str, port: int, pid: int = 0) -> None:
        self.name = name
        self.port = port
        self.pid = pid

    def cpu_ns(self) -> int:
        """Processor time so far, of all its threads."""
        if not self.pid:
            return 0
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)

    def rss_bytes(self) -> int:
        """Resident memory."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE_BYTES


@contextlib.asynccontextmanager
async def pgherd(
    folder: Path, engine: Engine, server_port: int, socket_folder: Path | None = None
) -> AsyncIterator[Way]:
    """Our proxy, a process of its own as under a supervisor, with one engine.

    socket_folder: where the server's Unix socket is, if it is to be used.
    """
    port, path = free_port(), folder / f"{engine}.sock"
    listener = ListenerSettings("127.0.0.1", port, Route.PRIMARY)
    local = socket_folder and LocalServer(NodeId("n1"), str(socket_folder), server_port)
    settings = ProxySettings(
        listeners=(listener,), sessions_max=SESSIONS_MAX, engine=engine, local=local
    )
    control = ProxyControl(path, settings)
    await control.start()
    backend = Backend(NodeId("n1"), "127.0.0.1", server_port)
    forever = Instant(now_ms() + 24 * 3600 * 1000)
    control.publish(Snapshot(1, Term(1), forever, backend, ()))
    command = [sys.executable, "-m", "pgherd.relay.main", "--control", str(path)]
    with (folder / f"{engine}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
    try:
        await until_engine(control, engine)
        yield Way(engine, port, process.pid)
    finally:
        process.terminate()
        await process.wait()
        await control.stop()


async def until_engine(control: ProxyControl, engine: Engine) -> None:
    """Wait until it listens with the engine that is to be measured, and not another."""
    deadline = time.monotonic() + READY_S
    while True:
        counters = control.counters()
        if counters is not None and counters.listening and counters.term:
            break
        if time.monotonic() > deadline:
            raise SystemExit(f"bench: the proxy ({engine}) does not get ready")
        await asyncio.sleep(0.1)
    if counters.engine != engine:
        raise SystemExit(f"bench: {engine} is not built: install gcc, then ./dev setup")


@contextlib.contextmanager
def haproxy(folder: Path, server_port: int, socket_folder: Path | None = None) -> Iterator[Way]:
    """HAProxy as a plain TCP proxy, with as many threads as our engine in C has.

    socket_folder: where the server's Unix socket is, if it is to be used.
    """
    program = shutil.which("haproxy") or "/usr/sbin/haproxy"
    if not Path(program).exists():
        raise SystemExit("bench: no haproxy here: apt-get install haproxy")
    port, threads = free_port(), threads_for(len(os.sched_getaffinity(0)))
    server = f"127.0.0.1:{server_port}"
    if socket_folder is not None:
        server = f"unix@{socket_folder}/.s.PGSQL.{server_port}"
    text = f"""global
  nbthread {threads}
  maxconn {SESSIONS_MAX}
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen pg
  bind 127.0.0.1:{port}
  option clitcpka
  option srvtcpka
  server n1 {server}
"""
    file = folder / "haproxy.cfg"
    file.write_text(text)
    process = subprocess.Popen([program, "-db", "-q", "-f", str(file)])
    try:
        until_open(port)
        yield Way("haproxy", port, process.pid)
    finally:
        process.terminate()
        process.wait()


@contextlib.asynccontextmanager
async def pgherd_pool(
    folder: Path, server_port: int, stored: str, size: int, engine: Engine
) -> AsyncIterator[Way]:
    """Our proxy with `pool: transaction`. stored: what PostgreSQL keeps of the user's password."""
    port, path = free_port(), folder / f"pool-{engine}.sock"
    listener = ListenerSettings("127.0.0.1", port, Route.PRIMARY, Pool.TRANSACTION)
    pools = PoolRules(limits=PoolLimits(size=size))
    settings = ProxySettings(
        listeners=(listener,), sessions_max=SESSIONS_MAX, engine=engine, pools=pools
    )

    async def verifiers(users: tuple[str, ...]) -> Verifiers:
        return Verifiers(users, dict.fromkeys(users, stored), b"0" * 32)

    control = ProxyControl(path, settings, verifiers)
    await control.start()
    backend = Backend(NodeId("n1"), "127.0.0.1", server_port)
    forever = Instant(now_ms() + 24 * 3600 * 1000)
    control.publish(Snapshot(1, Term(1), forever, backend, ()))
    command = [sys.executable, "-m", "pgherd.relay.main", "--control", str(path)]
    with (folder / f"pool-{engine}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
    try:
        await until_engine(control, engine)
        yield Way("pgherd" if engine is Engine.PUMP else "python", port, process.pid)
    finally:
        process.terminate()
        await process.wait()
        await control.stop()


@contextlib.contextmanager
def pgbouncer(folder: Path, server_port: int, stored: str, size: int) -> Iterator[Way]:
    """PgBouncer, pooling transactions. stored: what PostgreSQL keeps of the user's password."""
    program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
    if not Path(program).exists():
        raise SystemExit("bench: no pgbouncer here: apt-get install pgbouncer")
    port = free_port()
    users, file = folder / "users.txt", folder / "pgbouncer.ini"
    users.write_text(f'"postgres" "{stored}"\n')
    file.write_text(f"""[databases]
postgres = host=127.0.0.1 port={server_port} dbname=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
default_pool_size = {size}
max_client_conn = {SESSIONS_MAX}
log_connections = 0
log_disconnections = 0
""")
    who = "postgres" if os.geteuid() == 0 else None
    if who:
        shutil.chown(users, who)
    with (folder / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen([program, str(file)], user=who, stdout=log, stderr=log)
    try:
        until_open(port)
        yield Way("pgbouncer", port, process.pid)
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def postgres(folder: Path, bindir: Path) -> Iterator[int]:
    """A PostgreSQL for everybody on loopback, without fsync; its port. Its Unix socket is in its
    data directory, `folder / "data"`.
    """
    port, data = free_port(), folder / "data"
    who = "postgres" if os.geteuid() == 0 else None
    if who:
        folder.chmod(0o755)
        data.mkdir()
        shutil.chown(data, who)
    initdb = [bindir / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "-N"]
    subprocess.run(initdb, user=who, check=True, capture_output=True, cwd=data)
    command: list[str | Path] = [bindir / "postgres", "-D", data]
    settings = f"port={port} listen_addresses=127.0.0.1 fsync=off unix_socket_directories={data}"
    for setting in f"{settings} max_connections=250 shared_buffers=128MB".split():
        command += ["-c", setting]
    with (folder / "postgres.log").open("wb") as log:
        process = subprocess.Popen(command, user=who, stdout=log, stderr=log, cwd=data)
    ready = [bindir / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
    try:
        deadline = time.monotonic() + READY_S
        while subprocess.run(ready).returncode != 0:
            if time.monotonic() > deadline:
                raise SystemExit(f"bench: no PostgreSQL: {(folder / 'postgres.log').read_text()}")
            time.sleep(0.1)
        yield port
    finally:
        process.send_signal(2)
        process.wait()


@contextlib.contextmanager
def silent_server() -> Iterator[int]:
    """A process that logs everybody in; its port."""
    command = [sys.executable, str(Path(__file__).parent / "idle_sessions.py")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait()


def free_port() -> int:
    """A loopback port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until_open(port: int) -> None:
    """Wait until somebody listens."""
    deadline = time.monotonic() + READY_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        if time.monotonic() > deadline:
            raise SystemExit(f"bench: nothing listens on {port}")
        time.sleep(0.05)
