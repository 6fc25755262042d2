"""The addresses of this node that move: asks the rules at every look, and does what they say.

Runs in the agent's own loop and keeps no timer. Renews the time that the kernel counts for an
address, announces one that was taken for a minute, and says in journal, report and metrics what
became of it. Imported only where `vip` is configured. Whether one belongs here is `plan.vip`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Executor
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from pgherd.act.vip import Place, VipFailed
from pgherd.daemon.threads import running
from pgherd.model.ids import Instant
from pgherd.model.observation import ServerSeen
from pgherd.model.vip import Follow, Vip, VipSeen
from pgherd.plan.vip import KERNEL_MS, Look, Verdict, decide, is_overtaken
from pgherd.telemetry import logs
from pgherd.telemetry.boottime import now_ms

if TYPE_CHECKING:
    from pgherd.config.settings import Settings
    from pgherd.daemon.build import Node

log = logs.get("daemon")

RENEW_MS = 1000
"""The kernel is told of a later end when it is later by this much."""

STALL_MS = 1000
"""A loop that was late by this much stood still."""

AGAIN_MS = 1000
"""Until an address that was claimed, or could not be taken, is tried again."""

SELDOM_MS = 5000
"""The same after a while: RFC 5227 wants those to slow down whom others contradict."""

SOON_MS = 3000
"""For so long what should come in a moment is waited for, before the network is asked again."""


CHECK_MS = 5000
"""How often a machine is asked whether it could have an address that it does not have."""

FAILED_FOR_MS = 30_000
"""For so long a node that failed to take an address is one that could not have it."""

CLAIMED_MS = 10_000
"""An owner of ours that hangs is silent in consensus long before its kernel lets an address go."""

ANNOUNCE_MS = (*range(0, 5000, 1000), *range(5000, 60_001, 5000))
"""When after it was taken an address is announced: an announcement may be lost, a switch slow."""

T = TypeVar("T")
TAKEN, LEFT = "vip.taken", "vip.left"

THREADS = 2
"""One address is probed, which takes half a second, and others are not kept waiting by that."""

Tell = Callable[[str, str], None]


class Keeper:
    """One address. tell: an event and its sentence · changed: the others should hear of it.

    pool: threads that nothing else uses, so that a disk that hangs keeps no address here; None: the
    loop's own.
    """

    def __init__(
        self,
        place: Place,
        *,
        tell: Tell,
        changed: Callable[[], None],
        pool: Executor | None = None,
    ) -> None:
        self.place = place
        self.owned = False
        self.taking: Instant | None = None
        """Since when it is about to be taken."""
        self.claimed_by, self.claimed_since = "", Instant(0)
        self._tell = tell
        self._changed = changed
        self._pool = pool
        self._verdict = Verdict(0, "", stays=True)
        self._looked = asyncio.Event()
        self._until = Instant(0)
        self._work: asyncio.Task[None] | None = None
        self._try_at = Instant(0)
        self._announce_at: list[int] = []
        self._cannot = ""
        self._checked_at: Instant | None = None
        self._failure, self._failed_at = "", Instant(0)

    async def _aside(self, act: Callable[..., T], *values: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, act, *values)

    def has(self, now: Instant) -> bool:
        """Whether it is here: what the kernel has taken away is not, whatever is under way."""
        return self.owned and now < self._until + KERNEL_MS

    @property
    def problem(self) -> str:
        """Why this node cannot have it; "" when it can."""
        return self._cannot or self._failure

    async def begin(self) -> None:
        """An earlier agent's address is kept until its end; one without an end is not ours."""
        held = await self._aside(self.place.found)
        if held is None:
            return
        self.owned = True
        self._until = Instant(now_ms() + (held.seconds or 0) * 1000)
        if held.seconds is None or held.prefix != self.place.vip.prefix:
            await self._leave("it was here at the start of this agent, from elsewhere")

    async def end(self, *, leave: str) -> None:
        """Stop looking; leave: why the address is given up, "" when the next agent may have it."""
        if self._work is not None:
            self._verdict = Verdict(0, leave)
            self._looked.set()
            await asyncio.gather(self._work, return_exceptions=True)
        if leave and self.owned:
            await self._leave(leave)

    def look(self, verdict: Verdict, now: Instant) -> None:
        """Begin what a verdict asks for; what is under way looks at the newest before it counts."""
        self._verdict = verdict
        self._looked.set()
        if self._work is not None and not self._work.done():
            return
        until = verdict.until if verdict.until is not None and verdict.until > now else None
        if self.owned and now >= self._until:
            self._do(self._leave("its time was over: this agent was not awake to renew it"))
        elif verdict.stays:
            return
        elif not self.owned:
            if until is None and not verdict.soon:
                self.claimed_by = ""
            elif now >= self._try_at:
                self._do(self._take())
        elif until is None:
            self._do(self._leave(verdict.reason))
        elif until - self._until >= RENEW_MS:
            self._do(self._renew(until))
        elif self._announce_at and now >= self._announce_at[0]:
            self._do(self._announce(now))
        if not self.owned:
            self._check(now)

    def _do(self, work: Coroutine[None, None, None]) -> None:
        self._work = asyncio.create_task(work, name=f"vip {self.place.vip.address}")

    def _check(self, now: Instant) -> None:
        """Now and then: could this machine have it at all?"""
        if self._checked_at is not None and now - self._checked_at < CHECK_MS:
            return
        self._checked_at = now
        before, self._cannot = self._cannot, self.place.why_not()
        if self._cannot != before:
            self._say_failed(self._cannot) if self._cannot else log.info("vip.possible", **self._of)
        if now - self._failed_at >= FAILED_FOR_MS:
            self._failure = ""

    @property
    def _of(self) -> dict[str, str]:
        vip = self.place.vip
        return {"address": vip.address, "interface": vip.interface}

    # --- what is done -----------------------------------------------------------------------------

    async def _take(self) -> None:
        now = now_ms()
        lasts = self.claimed_by and now - self.claimed_since >= CLAIMED_MS
        self._try_at = Instant(now + (SELDOM_MS if lasts else AGAIN_MS))
        self.taking = now
        self._changed()
        try:
            claim = await self._aside(self.place.probe)
            if claim:
                self._was_claimed(claim)
                return
            self.claimed_by = ""
            verdict = await self._allowed()
            until = verdict.until
            if until is None or until <= now_ms():
                return
            await self._aside(self.place.put, seconds_to(until))
            self.owned, self._until = True, until
            self._failure = self._cannot = ""
            self._say(TAKEN, f"is here now: {verdict.reason}", rule=verdict.rule)
            now = now_ms()
            self._announce_at = [now + after for after in ANNOUNCE_MS]
            await self._announce(now)
        except VipFailed as failed:
            self._fail(failed)
        finally:
            self.taking = None
            self._changed()

    async def _allowed(self) -> Verdict:
        """The newest verdict, once it waits for nothing any more."""
        try:
            async with asyncio.timeout(SOON_MS / 1000):
                while self._verdict.soon:
                    self._looked.clear()
                    await self._looked.wait()
        except TimeoutError:
            pass  # it is tried again
        return self._verdict

    async def _renew(self, until: Instant) -> None:
        try:
            await self._aside(self.place.put, seconds_to(until))
            self._until = until
        except VipFailed as failed:
            self._fail(failed)  # the kernel takes it away if this goes on

    async def _announce(self, now: Instant) -> None:
        while self._announce_at and self._announce_at[0] <= now:
            self._announce_at.pop(0)
        try:
            await self._aside(self.place.announce)
        except VipFailed as failed:
            log.warning("vip.unheard", reason=str(failed), **self._of)

    async def _leave(self, why: str) -> None:
        try:
            await self._aside(self.place.remove)
        except VipFailed as failed:
            self._fail(failed)
            return
        self.owned, self._announce_at = False, []
        self._try_at = Instant(0)
        self._say(LEFT, f"is here no more: {why}", rule=self._verdict.rule)
        self._changed()

    def _was_claimed(self, claim: str) -> None:
        if claim != self.claimed_by:
            self.claimed_by, self.claimed_since = claim, now_ms()
            self._say("vip.claimed", f"is not taken: {claim} has it", rule=self._verdict.rule)

    def _fail(self, failed: VipFailed) -> None:
        before, self._failure, self._failed_at = self._failure, str(failed), now_ms()
        if self._failure != before:
            self._say_failed(self._failure)

    def _say_failed(self, why: str) -> None:
        log.warning("vip.failed", reason=why, **self._of)
        self._tell("vip.failed", f"{self.place.vip.address} cannot be here: {why}")

    def _say(self, kind: str, text: str, *, rule: int) -> None:
        say = log.warning if kind == "vip.claimed" else log.info
        say(kind, rule=rule, reason=text, **self._of)
        vip = self.place.vip
        self._tell(kind, f"{vip.address} ({vip.follow.value}) {text}")


def seconds_to(until: Instant) -> int:
    """What the kernel is told: whole seconds, at least one."""
    return max(1, -(-(until - now_ms()) // 1000))


class Vips:
    """All of one node's. see: what the rules look at, but for what is remembered here."""

    def __init__(self, keepers: Iterable[Keeper], *, see: Callable[[], Look]) -> None:
        self._keepers = tuple(keepers)
        self._see = see
        self._changing = asyncio.Lock()
        self._overtaken_since: Instant | None = None
        self._looked_at = self._awake_since = self._began_at = now_ms()
        self._stalled_ms = 0
        self._begun = False

    async def begin(self) -> None:
        """See what an earlier agent left."""
        for keeper in self._keepers:
            await keeper.begin()
        self._begun, self._looked_at = True, now_ms()

    async def change(self, wanted: Iterable[Vip], make: Callable[[Vip], Keeper]) -> None:
        """Have these from now on. One that follows something else stays until the rules say no.

        make: the keeper of one that is new, or that was at another place.
        """
        async with self._changing:
            left = {spot(one): one for one in wanted}
            gone = [one for one in self._keepers if spot(one.place.vip) not in left]
            kept = [one for one in self._keepers if spot(one.place.vip) in left]
            self._keepers = tuple(kept)
            for keeper in kept:
                keeper.place.vip = left.pop(spot(keeper.place.vip))
            for keeper in gone:
                await keeper.end(leave="vip says so no more: the file was read again")
            for vip in left.values():
                keeper = make(vip)
                await keeper.begin()
                self._keepers += (keeper,)

    def look(self) -> None:
        """To be called whenever the agent looks around."""
        if not self._begun:
            return
        seen = self._see()
        self._notice(seen)
        since = self._overtaken_since
        seen = msgspec.structs.replace(
            seen,
            began_at=self._began_at,
            awake_since=self._awake_since,
            stalled_ms=self._stalled_ms,
            overtaken_ms=seen.now - since if since is not None else 0,
            owned=frozenset(one.place.vip.address for one in self._keepers if one.has(seen.now)),
            taking={
                one.place.vip.address: one.taking for one in self._keepers if one.taking is not None
            },
        )
        for keeper in self._keepers:
            keeper.look(decide(seen, keeper.place.vip), seen.now)

    def _notice(self, seen: Look) -> None:
        """Since when this agent has been awake, and others have been ahead of its ledger."""
        late_ms = seen.now - self._looked_at
        if late_ms >= STALL_MS:
            self._awake_since, self._stalled_ms = seen.now, late_ms
        self._looked_at = seen.now
        if not is_overtaken(seen.facts, seen.reports):
            self._overtaken_since = None
        elif self._overtaken_since is None:
            self._overtaken_since = seen.now

    async def end(self, *, leave: str) -> None:
        """Before the agent ends. leave: why all addresses are given up; "": they are not."""
        self._begun = False
        for keeper in self._keepers:
            await keeper.end(leave=leave)

    def seen(self) -> tuple[VipSeen, ...]:
        """For the report."""
        now = now_ms()
        return tuple(
            VipSeen(
                address=keeper.place.vip.address,
                follow=keeper.place.vip.follow,
                interface=keeper.place.vip.interface,
                owned=keeper.has(now),
                taking=keeper.taking is not None,
                problem=keeper.problem,
                claimed_by=keeper.claimed_by,
            )
            for keeper in self._keepers
        )

    def warnings(self, *, now: Instant) -> list[str]:
        """What people should know of them."""
        found = []
        for keeper in self._keepers:
            vip = keeper.place.vip
            if keeper.problem:
                found.append(f"it cannot have the address {vip.address}: {keeper.problem}")
            if keeper.claimed_by and now - keeper.claimed_since >= CLAIMED_MS:
                found.append(
                    f"it does not take {vip.address}: {keeper.claimed_by} has it on"
                    f" {vip.interface}; look for that machine, or choose another address in vip"
                )
        return found


def spot(vip: Vip) -> tuple[str, int, str]:
    """Where an address is put, whatever it follows."""
    return vip.address, vip.prefix, vip.interface


def attach(node: Node) -> Vips:
    """One node's addresses."""
    make = maker(node)
    return Vips(map(make, wanted(node.settings)), see=lambda: see(node))


async def reload(node: Node, new: Settings) -> None:
    """Have the addresses of a file that was read again; there may have been none before."""
    if node.vips is None:
        vips = Vips((), see=lambda: see(node))
        await vips.begin()
        node.vips = node.agent.vips = vips
    await node.vips.change(wanted(new), maker(node))
    node.agent.observed()


@cache
def pool() -> Executor:
    """The threads of all keepers, for as long as the process lives."""
    return running(THREADS, "vip")


def maker(node: Node) -> Callable[[Vip], Keeper]:
    """What makes the keepers of one node."""

    def tell(kind: str, text: str) -> None:
        node.stories.tell(kind, text, term=node.agent.facts.term)
        if kind in (TAKEN, LEFT):
            node.metrics.vip_moved()

    def make(vip: Vip) -> Keeper:
        return Keeper(Place(vip), tell=tell, changed=lambda: node.agent.observed(), pool=pool())

    return make


def wanted(settings: Settings) -> tuple[Vip, ...]:
    """The addresses as the file has them."""
    return tuple(
        Vip(one.address.ip, one.address.prefix, one.interface, Follow(one.follow))
        for one in settings.vip
    )


def see(node: Node) -> Look:
    """What one node's agent sees at this moment."""
    agent, now = node.agent, now_ms()
    facts, promises = agent.facts, agent.consensus.store.promises()
    status = agent.consensus.replica.status()
    return Look(
        me=agent.leasing.key(promises),
        facts=facts,
        server=agent.watch.seen if agent.watch is not None else ServerSeen(),
        reports=agent.reports.newest,
        voters=tuple(status.conf.voters),  # type: ignore[arg-type] # the core counts in int
        lease_until=agent.leasing.deadline(facts, promises),
        detect_ms=agent.policy.detect_ms,
        proxy_healthy=node.control is not None and node.control.healthy(),
        takes_part=not (agent.removed or agent.amnesia()),
        caught_up=agent.caught_up,
        now=now,
        began_at=now,
        awake_since=now,
    )
