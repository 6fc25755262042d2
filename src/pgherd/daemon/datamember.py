"""What a data member has and a witness has not: the server, the watch over it, and the hands.

Imported only where there is a PostgreSQL to run: a witness never loads a driver for one.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from functools import partial

import msgspec

from pgherd.act.book import NAME as BOOK
from pgherd.act.book import Book
from pgherd.act.executor import Executor
from pgherd.act.hands import Cloning, Hands
from pgherd.config.settings import Settings
from pgherd.daemon import translate
from pgherd.ledger.commands import AnyCommand, Outcome
from pgherd.model.action import Planned
from pgherd.model.errors import OperatorError
from pgherd.model.facts import Reign
from pgherd.model.ids import NodeId
from pgherd.model.pgconfig import ConfigVersion
from pgherd.model.promises import Promises
from pgherd.model.remedy import Copied
from pgherd.observe.server import ServerWatch
from pgherd.postgres.binaries import Binaries, find
from pgherd.postgres.datadir import major_of
from pgherd.postgres.identity import PostgresUser, resolve
from pgherd.postgres.memory import ServerMemory
from pgherd.postgres.server import PostgresServer


def make(
    settings: Settings,
    *,
    promises: Callable[[], Promises],
    save: Callable[[Promises], Awaitable[None]],
    history: Callable[[], tuple[Reign, ...]],
    is_busy: Callable[[], bool],
    changed: Callable[[], None],
    finished: Callable[[Planned, bool], None],
    progress: Callable[[Copied | None], None],
    submit: Callable[[AnyCommand], Awaitable[Outcome]],
    tell: Callable[[str, str], None],
    config: Callable[[], ConfigVersion],
) -> tuple[PostgresServer, ServerWatch, Executor]:
    """The parts of a data member. Raises OperatorError where no server can be run."""
    pg = settings.postgresql
    user = resolve(pg.user)
    binaries = fitting(settings, user)
    if pg.tls is not None and not binaries.has_tls:
        raise OperatorError(
            f"postgresql.tls is set, but {binaries.bin_dir}/postgres was built without OpenSSL",
            "remove postgresql.tls, or name a build that has it: postgresql.bin_dir",
        )
    server = PostgresServer(
        data_dir=pg.data_dir,
        port=pg.port,
        socket_dir=pg.socket_directory(),
        binaries=binaries,
        user=user,
        settings=msgspec.structs.replace(
            translate.server_settings(settings),
            cluster=config().of(NodeId(settings.node.name), leads=False),
            access=config().access,
        ),
        log_file=pg.data_dir.parent / "postgresql.log",
    )
    memory = ServerMemory()
    watch = ServerWatch(
        server,
        memory=memory,
        promises=promises,
        history=history,
        is_busy=is_busy,
        changed=changed,
        probe_interval_ms=settings.failover.probe.interval_ms,
        probe_timeout_ms=settings.failover.probe.timeout_ms,
        probe_failures=settings.failover.probe.failures,
        write_stall_ms=settings.failover.probe.write_stall_ms,
        ballast_bytes=pg.ballast_bytes,
        tell=tell,
        find=partial(fitting, settings, user),
    )
    hands = Hands(
        me=NodeId(settings.node.name),
        server=server,
        memory=memory,
        promises=promises,
        save=save,
        history=history,
        new_incarnation=lambda: secrets.token_hex(3),
        progress=progress,
        submit=submit,
        config=config,
        cloning=cloning(settings),
        tell=tell,
    )
    book = Book(settings.raft.data_dir / BOOK, tell)
    return server, watch, Executor(hands, look=watch.look, finished=finished, book=book)


def fitting(settings: Settings, user: PostgresUser | None) -> Binaries:
    """The programs for this node's data; where it has none, or there are none, the newest.

    A newer major that is installed beside must not make its own data unusable.
    """
    pg = settings.postgresql
    major = major_of(pg.data_dir)
    if str(pg.bin_dir) == "auto" and major:
        try:
            return find("auto", user=user, major=major)
        except OperatorError:
            pass  # the directory's state says that its programs are not there
    return find(str(pg.bin_dir), user=user)


def cloning(settings: Settings) -> Cloning:
    """How this node's copies are made."""
    wanted = settings.postgresql.clone
    return Cloning(max_rate_bytes=wanted.max_rate_bytes, command=wanted.command)
