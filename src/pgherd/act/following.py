"""Actuators of a member that does not lead: start, seal, follow, rewind, rebuild, stop."""

from __future__ import annotations

import contextlib
from pathlib import Path

from pgherd.act import configuring, copying
from pgherd.act.failpoints import reached
from pgherd.act.forwarding import end_lending
from pgherd.act.ghosts import end as end_ghosts
from pgherd.act.hands import ActFailed, Hands, log
from pgherd.model import action as act
from pgherd.model.errors import PostgresError
from pgherd.model.facts import Floor, Frozen
from pgherd.model.ids import Position, Term, feed_slot
from pgherd.postgres import bootstrap, clone, live, pgcontrol, rewind, sealing
from pgherd.postgres.datadir import DirKind
from pgherd.postgres.rewind import RewindOutcome
from pgherd.postgres.settings import CLOSED_NAMES, conninfo


async def init_db(hands: Hands, a: act.InitDb) -> None:
    """Make the cluster's first data directory, by the operator's command where there is one."""
    incarnation = hands.new_incarnation()
    if hands.server.settings.bootstrap:
        await bootstrap.make(hands.server, incarnation)
    else:
        await hands.server.initdb(incarnation)
    await hands.change(incarnation=incarnation)


async def start_standby(hands: Hands, a: act.StartStandby) -> None:
    """Start under closed names and without upstream."""
    await no_ghosts(hands)
    left = (await hands.server.state()).leftovers
    if left:
        log.warning("server.leftovers", pids=left)
        await hands.server.kill_tree()
    started = await configuring.start(
        hands,
        names=CLOSED_NAMES,
        conninfo=None,
        slot=None,
        deadline_s=hands.start_deadline_s,
        delay_ms=a.delay_ms,
    )
    if hands.promises().adopted_leader == hands.me:
        # A primary from here on is one that somebody else made. Not before: until the server has
        # begun to recover, pg_control has it as the primary that it was (rule 75).
        await hands.change(adopted_leader=None)
    log.info(
        "server.started",
        pid=started.pid,
        accepting=started.accepting,
        purged=started.purged,
        overridden=started.overridden,
    )
    if started.accepting:
        await hands.server.look()  # it is this server that takes connections, and it answers


async def no_ghosts(hands: Hands) -> None:
    """End what is left of servers of this directory that nobody knows of."""
    ghosts = await end_ghosts(hands.server.data_dir)
    if ghosts:
        log.warning("server.ghosts", pids=ghosts)


async def seal(hands: Hands, a: act.Seal) -> None:
    """F2: promise, stop receiving, drain, freeze; each durable before the next.

    A delayed replica does the first two only, and counts for nothing.
    """
    await hands.promise(a.term, a.elector)
    await reached("seal.promised")
    if a.keeps_delay:
        await sealing.cut(hands.server, timeout_s=hands.seal_timeout_s)
        return
    position = await sealing.seal(hands.server, timeout_s=hands.seal_timeout_s)
    await reached("seal.drained")
    hands.guard(a.term)
    await hands.change(frozen=Frozen(a.term, hands.position(position)))


async def follow(hands: Hands, a: act.Follow) -> None:
    """F7: adopt first, then connect under the term's token."""
    hands.guard(a.term)
    await end_lending(hands, of=a.term)
    await _adopt(hands, a.term, a)
    await reached("follow.adopted")
    if a.by_archive:
        await hands.server.set_upstream(None, None, fetch=archive_of(hands))
        return
    slot = hands.slot if a.source is None else feed_slot(hands.me, a.term)
    conn = hands.conninfo(a.host, a.port, a.term)
    await hands.server.set_upstream(conn, slot, delay=live.delay_of(hands.server.live))


async def fetch(hands: Hands, a: act.Fetch) -> None:
    """The same upstream as before, with the archive behind it or without."""
    hands.guard(a.term)
    command = archive_of(hands) if a.fetches else ""
    conninfo = hands.conninfo(a.host, a.port, a.term)
    await hands.server.set_upstream(conninfo, hands.slot, fetch=command)


def archive_of(hands: Hands) -> str:
    """The command that fetches."""
    if not hands.fetch:
        raise ActFailed("there is no archive to fetch from: see this node's warnings")
    return hands.fetch


async def delay(hands: Hands, a: act.Delay) -> None:
    """Told to the running server: one without an upstream has none (`postgres.settings.sealed`)."""
    await hands.server.reload(recovery_min_apply_delay=str(a.delay_ms))


async def _adopt(
    hands: Hands, term: Term, a: act.Follow | act.Rewind | act.Rebuild, **more: object
) -> None:
    """Save that this leader may be followed; what it streams from here on is of that term."""
    now = hands.promises()
    fields: dict[str, object] = {
        "adopted": term,
        "adopted_leader": a.leader.node,
        "frozen": None,
    }
    if now.promise < term:
        fields |= {"promise": term, "promise_elector": None}
    await hands.change(**fields, **more)


async def do_rewind(hands: Hands, a: act.Rewind) -> None:
    """Floor and dirty marker first; the marker goes when the rewound server is consistent."""
    hands.guard(a.term)
    known = hands.promises().floor
    floor = max(a.floor, known.position) if known is not None else a.floor
    await hands.change(floor=Floor(floor, a.fork_lsn), dirty_rewind=True, frozen=None)
    await reached("rewind.marked")
    await end_lending(hands)
    await hands.server.stop("fast", timeout_s=hands.patient_stop_s)
    result = await rewind.rewind(
        hands.server.data_dir,
        binaries=hands.server.binaries,
        user=hands.server.user,
        conninfo=conninfo(
            hands.server.settings,
            host=a.host,
            port=a.port,
            application_name=f"pgherd-rewind-{hands.me}",
            role=hands.server.settings.rewind_role,
            database=hands.server.settings.database,
        ),
        incarnation=hands.promises().incarnation,
        fork=a.fork_lsn,
        restore=hands.fetch,
        on_progress=hands.progress,
    )
    log.info("rewind.ended", outcome=result.outcome.value, reason=result.reason)
    if result.outcome is not RewindOutcome.DONE:
        if not result.touched:
            await hands.change(dirty_rewind=False)
        raise ActFailed(f"pg_rewind: {result.outcome.value}: {result.reason}", hopeless=True)
    await reached("rewind.rewound")
    hands.guard(a.term)
    await _adopt(hands, a.term, a)  # not before: until here its WAL was not of this leader
    await _catch_up_after_rewind(hands, a)


async def _catch_up_after_rewind(hands: Hands, a: act.Rewind) -> None:
    """A rewound server is consistent only with WAL from its source: until then it stays dirty."""
    started = await configuring.start(
        hands,
        names=CLOSED_NAMES,
        conninfo=hands.conninfo(a.host, a.port, a.term),
        slot=hands.slot,
        deadline_s=hands.rewound_start_s,
    )
    if not started.accepting:
        raise ActFailed("the rewound server did not become consistent in time")
    await hands.change(dirty_rewind=False)


async def rebuild(hands: Hands, a: act.Rebuild) -> None:
    """A new copy beside the old directory, then a swap by rename; nothing is deleted ahead."""
    hands.guard(a.term)
    await no_ghosts(hands)
    incarnation = hands.new_incarnation()
    made = await copying.make(hands, a, incarnation)
    side = made.side
    await reached("rebuild.copied")
    hands.guard(a.term)
    hands.uncut = True  # from here on directory and promises change together
    last = await last_position(hands)
    settled = await _settled(hands, a.term, side) if not made.by_command else None
    await hands.server.stop("fast", timeout_s=hands.stop_timeout_s)
    swapped = await clone.swap_in(
        side, hands.server.data_dir, user=hands.server.user, last=last, settled=settled
    )
    log.info("rebuild.swapped", kept=str(swapped.kept or ""))
    await reached("rebuild.swapped")
    new = {"incarnation": incarnation, "floor": None, "dirty_rewind": False}
    if made.by_command:  # of whose reign its WAL is shows once it runs, without upstream
        await hands.change(adopted=Term(0), adopted_leader=None, frozen=None, **new)
    else:
        await _adopt(hands, a.term, a, **new)


async def last_position(hands: Hands) -> Position | None:
    """The end of the old directory, or no less than it; None when that is not known."""
    floor = hands.promises().floor
    if (await hands.server.state()).kind is DirKind.RUNNING:
        with contextlib.suppress(PostgresError):  # it starts or hangs
            return hands.position((await hands.server.look()).position)
    return floor.position if floor is not None else None


async def _settled(hands: Hands, term: Term, side: Path) -> Position:
    """What a new copy of a stable leader holds for certain: older copies up to there may go."""
    server = hands.server
    control = await pgcontrol.read(server.binaries.bin_dir, side, user=server.user)
    return Position(term, control.checkpoint)


async def stop_server(hands: Hands, a: act.StopServer) -> None:
    """Stop, harder and harder."""
    took = await hands.server.stop("fast", timeout_s=hands.stop_timeout_s)
    log.info("server.stopped", how=took, reason=a.reason)


async def disown(hands: Hands, a: act.Disown) -> None:
    """The mark first: whatever ends this, the directory is not started as it is."""
    await hands.change(dirty_rewind=True, frozen=None)
    log.warning("server.disowned", reason=a.reason)
    await reached("disown.marked")
    await stop_server(hands, act.StopServer(a.reason))


async def clear_floor(hands: Hands, a: act.ClearFloor) -> None:
    """Forget a floor that was regained."""
    await hands.change(floor=None)


async def reload(hands: Hands, a: act.Reload) -> None:
    """Have the configuration files read again, and remember what for."""
    await hands.server.reload()
    hands.memory.reloaded = a.work
