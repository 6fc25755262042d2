"""A server that is not of this cluster, or not in a term of it: asked who it is, and compared.

Owns the question (`remoteprogram` puts it), the connection strings of a standby cluster's streams,
and whether a server's WAL is on another's history, by PostgreSQL's own history files.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from pgherd.model.branch import FIRST, Fork
from pgherd.model.errors import PostgresError
from pgherd.model.ids import Lsn, Timeline, parse_lsn
from pgherd.model.slots import SYNCED_FROM_MAJOR
from pgherd.model.standbycluster import NAME, Remote, RemoteSeen, Source
from pgherd.postgres import branch
from pgherd.postgres.conninfo import read, write
from pgherd.postgres.settings import conninfo
from pgherd.postgres.tools import run_tool

if TYPE_CHECKING:
    from pgherd.postgres.server import PostgresServer

HOST_S = 5.0
"""More than libpq gives one address of a host (`settings.CONNECT_TIMEOUT_S`)."""


def stream_conninfo(server: PostgresServer, source: Source, *, name: str) -> str:
    """How this server, or a copy of it, connects to a source."""
    first = conninfo(
        server.settings,
        host=",".join(host for host, _ in source.hosts),
        port=0,
        application_name=f"{NAME}{name}",
        role=server.settings.replication_role,
        database=server.settings.database if server.binaries.major >= SYNCED_FROM_MAJOR else "",
    )
    pairs = {**read(first), "port": ",".join(str(port) for _, port in source.hosts)}
    if source.node is None:  # its certificate is not of our authority
        pairs = {**pairs, "sslmode": source.sslmode, "sslrootcert": ""}
    if source.wants_primary:
        pairs["target_session_attrs"] = "primary"
    return write(pairs)


async def ask(server: PostgresServer, source: Source) -> tuple[RemoteSeen, ...]:
    """What the hosts of a source say, up to the first primary. Raises PostgresError."""
    texts = [_asking(server, source, host, port) for host, port in source.hosts]
    argv = [sys.executable, "-m", "pgherd.postgres.remoteprogram", *texts]
    home = {"HOME": os.environ.get("HOME", "/")}  # libpq looks for certificates there
    result = await run_tool(argv, user=None, timeout_s=HOST_S * (len(texts) + 1), variables=home)
    if result.code != 0:
        raise PostgresError(f"cannot ask {source.mark}: {result.last_words()}")
    said = msgspec.json.decode(result.out, type=list[_Said])
    pairs = zip(source.hosts, said, strict=False)
    return tuple(_seen(host, port, one) for (host, port), one in pairs)


async def ask_all(server: PostgresServer, remote: Remote) -> tuple[RemoteSeen, ...]:
    """What the hosts of a remote say."""
    return await ask(server, Source(remote.hosts, slot="", sslmode=remote.sslmode))


class _Said(msgspec.Struct, frozen=True):
    problem: str = ""
    system_id: str = ""
    timeline: int = 0
    lsn: str = "0/0"
    is_primary: bool = False
    history: str = ""


def _seen(host: str, port: int, said: _Said) -> RemoteSeen:
    values = msgspec.structs.asdict(said)
    return RemoteSeen(host, port, **{**values, "lsn": parse_lsn(said.lsn)})


def _asking(server: PostgresServer, source: Source, host: str, port: int) -> str:
    one = msgspec.structs.replace(source, hosts=((host, port),))
    pairs = read(stream_conninfo(server, one, name="question"))
    return write({**pairs, "replication": "true"})


def answering(source: Source, seen: Sequence[RemoteSeen]) -> RemoteSeen:
    """The host that the server will stream from; what is wrong with all of them, if nobody will."""
    for one in seen:
        if not one.problem and (one.is_primary or not source.wants_primary):
            return one
    told = [f"{one.host}:{one.port}: {one.problem or 'is no primary'}" for one in seen]
    return RemoteSeen("", 0, problem="; ".join(told) or "no answer")


def own_branches(server: PostgresServer, timeline: Timeline) -> tuple[tuple[Fork, ...], ...]:
    """This server's timelines by the one it is on, and by the newest history file that it has.

    The second may be of a server that it was never able to follow.
    """
    found = [branch.read(server.data_dir, timeline)]
    newest = branch.newest(server.data_dir)
    if newest != timeline:
        found.append(branch.read(server.data_dir, newest))
    return tuple(found)


def theirs(seen: RemoteSeen) -> tuple[Fork, ...]:
    """The timelines of a source."""
    if seen.timeline == FIRST.timeline:
        return (FIRST,)
    try:
        return branch.parse(seen.history, seen.timeline)
    except ValueError as error:
        raise PostgresError(f"{seen.host}:{seen.port} has a damaged history: {error}") from error


def left_at(own: tuple[Fork, ...], source: tuple[Fork, ...], end: Lsn) -> Lsn | None:
    """Where WAL up to `end` on our branch leaves the source's; None where it does not.

    Two promotions may open the same timeline number: where one begins has to be the same too.
    """
    if not own:
        return None  # not known
    common = 0
    while common < min(len(own), len(source)) and own[common] == source[common]:
        common += 1
    limits = [branch_[common].begins for branch_ in (own, source) if len(branch_) > common]
    limit = min(limits, default=None)
    return limit if limit is not None and end > limit else None


def collides(own: tuple[Fork, ...], source: tuple[Fork, ...], end: Lsn) -> bool:
    """Whether a timeline number stands for two timelines, of which we have WAL.

    Then PostgreSQL itself cannot tell them apart, and would mix them.
    """
    known = {fork.timeline: fork.begins for fork in source}
    return any(
        fork.timeline in known and known[fork.timeline] != fork.begins and end > fork.begins
        for fork in own
    )
