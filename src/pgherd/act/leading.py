"""Actuators of a leader: close, hand over, promote, record, open, settle (PROTOCOL.md 3-5)."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from functools import partial

from pgherd.act import configuring
from pgherd.act.demoting import hold_or_stop
from pgherd.act.failpoints import reached
from pgherd.act.forwarding import end_lending
from pgherd.act.hands import ActFailed, Hands, StaleAct, flushed, log
from pgherd.model import action as act
from pgherd.model.facts import Frozen
from pgherd.model.ids import LENT_SLOT, Lsn, Position, Term, parse_token
from pgherd.postgres import admin, processes
from pgherd.postgres.datadir import DirKind
from pgherd.postgres.look import Look, SenderSeen
from pgherd.postgres.settings import CLOSED_NAMES

POLL_S = 0.01
FAST_STOP_GRACE_S = 0.3
RECONNECT_S = 3.0
CATCH_UP_S = 3.0


async def close_gate(hands: Hands, a: act.CloseGate) -> None:
    """Closed names, client sessions and walsenders ended, a commit seen to wait; then the promise.

    The elector takes promise and names together for a closed gate, so the proof comes before both
    are there: commits of a server whose names were empty wait only once its checkpointer has seen
    the new ones (PROTOCOL.md 0.10). A walsender that has not read the closed names would go on to
    acknowledge under the old ones, in a term of this same server that knows nothing of them.
    """
    hands.may_promise(a.term, a.elector)
    hands.memory.names_generation = hands.memory.settled = 0
    if a.or_stop:
        await hold_or_stop(hands)
    await admin.close_gate(hands.server)
    await reached("close_gate.closed")
    await (await admin.commit_waits_probe(hands.server)).release()
    await admin.terminate_walsenders(hands.server, is_members)
    await hands.promise(a.term, a.elector)


def is_members(sender: SenderSeen) -> bool:
    """Whether a walsender serves a member: base backups and the like match no names."""
    return parse_token(sender.token) is not None


async def drain_and_stop(hands: Hands, a: act.DrainAndStop) -> None:
    """Let the candidate have everything, stop in order, freeze at the shutdown checkpoint."""
    await hands.promise(a.term, a.elector)
    hands.memory.names_generation = hands.memory.settled = 0
    if a.or_stop:
        await hold_or_stop(hands)
    await admin.close_gate(hands.server)
    await reached("drain_and_stop.closed")
    look = await hands.server.look()
    senders = await _candidate_caught_up(hands, a, look.flush_lsn)
    hands.uncut = True
    await _fast_stop(hands, [s.pid for s in senders if not _is(s, a)], a.limit_ms / 1000)
    await reached("drain_and_stop.stopped")
    state = await hands.server.state()
    if state.kind is not DirKind.STOPPED or not state.clean or state.control is None:
        raise ActFailed("the server did not stop in order")
    position = hands.position(Position(look.epoch, Lsn(state.control.checkpoint + 1)))
    await hands.change(frozen=Frozen(a.term, position))


def _is(sender: SenderSeen, a: act.DrainAndStop) -> bool:
    return sender.token.startswith(f"{a.candidate}@")


async def _candidate_caught_up(
    hands: Hands, a: act.DrainAndStop, end: Lsn
) -> tuple[SenderSeen, ...]:
    deadline = asyncio.get_running_loop().time() + a.limit_ms / 1000
    while True:
        look = await hands.server.look()
        if a.candidate == hands.key:  # it is restarted in place, and has everything itself
            return look.senders
        if any(_is(s, a) and s.flush_lsn >= end for s in look.senders):
            return look.senders
        if asyncio.get_running_loop().time() > deadline:
            raise ActFailed(f"{a.candidate.node} did not catch up in time")
        await asyncio.sleep(POLL_S)


async def _fast_stop(hands: Hands, others: list[int], limit_s: float) -> None:
    """A fast stop ships everything to every standby; one that hangs must not hold it up."""
    stop = asyncio.create_task(hands.server.stop("fast", timeout_s=limit_s))
    done, _ = await asyncio.wait({stop}, timeout=FAST_STOP_GRACE_S)
    if not done:
        for pid in others:
            processes.send(pid, signal.SIGTERM, data_dir=hands.server.data_dir)
    await stop


async def promote(hands: Hands, a: act.Promote) -> None:
    """F6: from the sealed position to primary under closed names, with the epoch record.

    Until the operator's hook has had its say it may be cut short; from there on it is finished.
    """
    hands.guard(a.term)
    if veto := await hands.prepare(a.term):
        raise ActFailed(veto)
    hands.guard(a.term)
    hands.uncut = True
    look = await hands.server.look()
    here = hands.position(look.position)
    if not look.in_recovery or here != a.expected:
        raise ActFailed(f"is at {here}, was elected at {a.expected}")
    if look.names != CLOSED_NAMES or look.conninfo or look.fetches:
        raise ActFailed("is not sealed under closed names")
    if any(slot.name.startswith(LENT_SLOT) for slot in look.slots):
        await end_lending(hands)
    # What it writes from here on is of this reign, even if it dies before the epoch record.
    await hands.change(adopted=a.term, adopted_leader=hands.me)
    await reached("promote.adopted")
    if a.lower:
        await configuring.promote_lower(hands)
    else:
        await hands.server.promote()
    await reached("promote.promoted")
    if hands.promises().promise > a.term:
        await hands.server.stop("immediate")
        raise StaleAct("promised a later term while it was promoted")
    await record(hands, a.term)


async def record(hands: Hands, term: Term) -> None:
    """Write the epoch record of a term; see to the roles, which followers need."""
    hands.guard(term)
    end = await admin.write_epoch(hands.server, term, hands.me)
    if hands.server.settings.mark == hands.logins():  # else rule 1301 does it, once it knows how
        for text in await admin.ensure_roles(hands.server):
            log.info("role.changed", role=text)
    hands.memory.epoch_record_term = term
    hands.memory.epoch_record_end = end


async def ensure_roles(hands: Hands, a: act.EnsureRoles) -> None:
    """Have the roles as of the secrets that are known here."""
    if hands.server.settings.mark != a.mark:
        raise ActFailed("the new password is not known here yet")
    for text in await admin.ensure_roles(hands.server):
        log.info("role.changed", role=text)
    hands.memory.roles = a.mark


async def set_names(hands: Hands, a: act.SetNames) -> None:
    """Use a generation's synchronous set."""
    hands.guard(a.term)
    await hands.server.set_names(a.names, a.commit)
    hands.memory.names_generation = a.generation


async def hold_writes(hands: Hands, _: act.HoldWrites) -> None:
    """Nothing is acknowledged from here on: PostgreSQL's checkpointer has to have seen it too."""
    hands.memory.names_generation = hands.memory.settled = 0
    await hold_or_stop(hands)


async def settle(hands: Hands, a: act.Settle) -> None:
    """B1 and B2: nobody uses an older set, and k of the new one have everything."""
    hands.guard(a.term)
    if a.from_empty:
        await _switch_on(hands, a)
    else:
        await _renew_walsenders(hands, a)
    await reached("settle.renewed")
    tokens = {key.token(a.term) for key in a.members}
    # What was acknowledged is flushed here; WAL of reads alone may stay unflushed for long.
    end = (await hands.server.look()).flush_lsn
    await _until(hands, lambda look: flushed(look, tokens, end) >= a.k, CATCH_UP_S)
    hands.memory.names_generation = a.generation
    hands.memory.settled = a.generation


async def _switch_on(hands: Hands, a: act.Settle) -> None:
    """From no set to one: the checkpointer must have seen it, which a waiting commit proves."""
    await hands.server.set_names(CLOSED_NAMES)
    waiting = await admin.commit_waits_probe(hands.server)
    try:
        hands.guard(a.term)
        await hands.server.set_names(a.names, a.commit)
        await _renew_walsenders(hands, a)
    finally:
        await waiting.release()


async def _renew_walsenders(hands: Hands, a: act.Settle) -> None:
    """End the walsenders that may act on an older set, one at a time, each back before the next.

    Only members' connections can match a set; base backups and the like go on undisturbed.
    """
    stale = [s for s in (await hands.server.look()).senders if is_members(s)]
    wanted = {key.token(a.term) for key in a.members}
    stale.sort(key=lambda sender: sender.token in wanted)
    for old in stale:
        hands.guard(a.term)
        pid, token = old.pid, old.token
        await admin.terminate_walsenders(hands.server, partial(_has_pid, pid=pid))
        if token in wanted:
            with contextlib.suppress(ActFailed):
                await _until(hands, partial(_streams, token=token), RECONNECT_S)


def _has_pid(sender: SenderSeen, *, pid: int) -> bool:
    return sender.pid == pid


def _streams(look: Look, *, token: str) -> bool:
    return any(s.token == token and s.state == "streaming" for s in look.senders)


async def _until(hands: Hands, is_so: Callable[[Look], bool], limit_s: float) -> None:
    deadline = asyncio.get_running_loop().time() + limit_s
    while not is_so(await hands.server.look()):
        if asyncio.get_running_loop().time() > deadline:
            raise ActFailed("the standbys of the synchronous set did not follow in time")
        await asyncio.sleep(POLL_S)


async def checkpoint(hands: Hands, a: act.Checkpoint) -> None:
    """Complete a checkpoint, and remember what for."""
    await hands.server.checkpoint()
    hands.memory.checkpointed_term = a.term
    if a.switchover:
        hands.memory.checkpointed_for = a.switchover
