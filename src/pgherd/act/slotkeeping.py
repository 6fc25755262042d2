"""Actuator of a node's slots: what it makes, drops, moves on and gives up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable

from pgherd.act.hands import ActFailed, Hands, log
from pgherd.model import action as act
from pgherd.model.errors import PgherdError, PostgresError
from pgherd.model.ids import Lsn, slot_name
from pgherd.postgres import slots

_emptying: set[asyncio.Task[None]] = set()


async def keep_slots(hands: Hands, a: act.KeepSlots) -> None:
    """First what makes room, last what people asked for; one that fails holds up no other."""
    server = hands.server
    await _give_up(hands, a.release)
    for made in a.renew:
        await slots.renew(server, made)
        hands.tell("slot.renewed", f"slot {made.name} had lost its WAL and was made anew")
    wanted = {slot_name(node) for node in a.nodes} | set(a.feeds)
    change = await slots.ensure_slots(server, wanted, ignored=set(a.ignored))
    for name, lsn in a.advance:
        await slots.advance(server, name, lsn)
    problems = [await _problem(slots.drop(server, name)) for name in a.drop]
    problems += [await _problem(slots.make(server, made)) for made in a.make]
    log.info(
        "slots.changed",
        created=(*change.created, *(made.name for made in a.make)),
        dropped=(*change.dropped, *a.drop),
        busy=change.busy,
        renewed=tuple(made.name for made in a.renew),
        advanced=tuple(name for name, _ in a.advance),
        given_up=a.release,
    )
    if any(problems):
        raise ActFailed("; ".join(text for text in problems if text))


async def _give_up(hands: Hands, names: tuple[str, ...]) -> None:
    """Told, for it costs somebody a copy. WAL goes with a checkpoint, which nothing waits for."""
    look = await hands.server.look() if names else None
    end = look.position.lsn if look is not None else Lsn(0)
    kept = {slot.name: slot.kept_bytes(end) for slot in look.slots} if look is not None else {}
    for name in names:
        await slots.renew(hands.server, act.SlotMade(name, reserve=False))
        text = f"slot {name} kept {kept.get(name, 0) >> 20} MB while the disk is nearly full"
        hands.tell("slot.given-up", f"{text}: its member comes back by what is left, or as a copy")
    if names:
        task = asyncio.create_task(_empty(hands), name="empty-pg_wal")
        _emptying.add(task)
        task.add_done_callback(_emptying.discard)


async def _empty(hands: Hands) -> None:
    with contextlib.suppress(PgherdError, OSError):
        await hands.server.checkpoint()


async def _problem(doing: Awaitable[None]) -> str:
    try:
        await doing
    except PostgresError as error:
        return str(error)
    return ""
