"""Actuators of a standby cluster: stream from a source, copy it, stand down for it.

A server is pointed to a source only after the histories of both were compared: a standby that is
given WAL of another timeline under a number that it knows would mix the two.
"""

from __future__ import annotations

import asyncio
import shutil

import msgspec

from pgherd.act.demoting import hold_or_stop
from pgherd.act.failpoints import reached
from pgherd.act.following import last_position, no_ghosts
from pgherd.act.hands import ActFailed, Hands, log
from pgherd.model import action as act
from pgherd.model.errors import PostgresError
from pgherd.model.ids import Term, format_lsn
from pgherd.model.standbycluster import NAME, RemoteSeen, Source, SourceSeen
from pgherd.postgres import admin, clone, pgcontrol, remote
from pgherd.postgres.look import Look
from pgherd.telemetry.boottime import now_ms


async def stream(hands: Hands, a: act.Stream) -> None:
    """Ask first, whatever comes of it; name the source once it is seen to fit."""
    known, is_named = hands.memory.source or SourceSeen(), names(hands, a.source)
    found = await judged(hands, a)
    asked = msgspec.structs.replace(found, mark=known.mark, asked=a.source.mark, asked_at=now_ms())
    if is_named and not found.problem:
        text = "it answers, and nothing comes: see the log of this node's server"
        asked = msgspec.structs.replace(asked, problem=text)
    if is_named or found.problem:
        if asked.problem != known.problem:
            log.warning("source.problem", source=a.source.mark, reason=asked.problem)
        hands.memory.source = asked
        return
    conninfo = remote.stream_conninfo(hands.server, a.source, name=str(hands.me))
    await hands.server.set_upstream(conninfo, a.source.slot or None)
    hands.memory.source = msgspec.structs.replace(asked, mark=a.source.mark)
    log.info("source.named", source=a.source.mark)


def names(hands: Hands, source: Source) -> bool:
    """Whether the server was pointed to this source, and still is."""
    known, now = hands.memory.source, hands.server.live.get("primary_conninfo", "")
    return known is not None and known.mark == source.mark and NAME in now


async def judged(hands: Hands, a: act.Stream) -> SourceSeen:
    """Whether this server can follow a source; problem, diverged: see SourceSeen."""
    try:
        seen = remote.answering(a.source, await remote.ask(hands.server, a.source))
    except PostgresError as error:
        return SourceSeen(problem=str(error))
    if seen.problem:
        return SourceSeen(problem=seen.problem)
    if a.system_id and seen.system_id != a.system_id:
        text = f"{seen.host}:{seen.port} is of cluster {seen.system_id}, this one is {a.system_id}"
        return SourceSeen(problem=text)
    look = await hands.server.look()
    return await asyncio.to_thread(compared, hands, a.source, seen, look)


def compared(hands: Hands, source: Source, seen: RemoteSeen, look: Look) -> SourceSeen:
    """By both histories. What PostgreSQL itself would refuse counts once it has: our own timeline
    may be known late.
    """
    end = max(look.replay_lsn, look.receive_lsn or look.replay_lsn)
    there = remote.theirs(seen)
    branches = remote.own_branches(hands.server, look.timeline)
    left = remote.left_at(branches[0], there, end)
    mixed = any(remote.collides(own, there, end) for own in branches)
    if mixed or (left is not None and names(hands, source)):
        at = f" from {format_lsn(left)} on" if left is not None else ""
        return SourceSeen(
            problem=f"has WAL that {seen.host}:{seen.port} has not{at}", diverged=True
        )
    return SourceSeen()


async def copy(hands: Hands, a: act.CopySource) -> None:
    """A copy beside the old directory, then a swap by rename; the old one is kept."""
    await no_ghosts(hands)
    incarnation, rate = hands.new_incarnation(), hands.cloning.max_rate_bytes
    server = hands.server
    side = await clone.basebackup(
        server.data_dir,
        binaries=server.binaries,
        user=server.user,
        conninfo=remote.stream_conninfo(server, a.source, name=f"copy-{hands.me}"),
        incarnation=incarnation,
        max_rate=f"{rate >> 10}k" if rate else None,
        on_progress=hands.progress,
    )
    await reached("copy_source.copied")
    control = await pgcontrol.read(server.binaries.bin_dir, side, user=server.user)
    if a.system_id and control.system_id != a.system_id:
        await asyncio.to_thread(shutil.rmtree, side, ignore_errors=True)
        raise ActFailed(
            f"the copy is of cluster {control.system_id}, this one is {a.system_id}: see who"
            f" listens at {a.source.mark}"
        )
    hands.uncut = True  # from here on directory and promises change together
    last = await last_position(hands)
    await server.stop("fast", timeout_s=hands.stop_timeout_s)
    swapped = await clone.swap_in(side, server.data_dir, user=server.user, last=last, settled=None)
    log.info("copy.swapped", source=a.source.mark, kept=str(swapped.kept or ""))
    await hands.change(
        incarnation=incarnation,
        floor=None,
        dirty_rewind=False,
        adopted=Term(0),
        adopted_leader=None,
        frozen=None,
    )


async def stand_down(hands: Hands, a: act.StandDown) -> None:
    """Nothing is acknowledged any more, then a stop that ships everything to every standby."""
    hands.memory.names_generation = hands.memory.settled = 0
    await hold_or_stop(hands)
    await admin.close_gate(hands.server)
    await reached("stand_down.closed")
    took = await hands.server.stop("fast", timeout_s=hands.patient_stop_s)
    log.info("server.stood-down", how=took, reason=a.reason)
