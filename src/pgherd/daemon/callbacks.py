"""Callbacks: the operator's programs that are run after something happened.

Owns which event runs which program, and that each hook has one program at a time: what comes while
one runs waits, and of several that wait only the newest is told. A newer change of role does not
wait: the program of the older one is killed. Nothing waits for a callback, and its exit code
changes nothing.
"""

from __future__ import annotations

import asyncio
from functools import partial

from pgherd.config.hooks import Hooks
from pgherd.daemon.happenings import PRIMARY, REPLICA, Happened
from pgherd.daemon.programs import Occasion, Ran, run
from pgherd.model.event import Event
from pgherd.model.facts import Kind
from pgherd.model.ids import NodeId
from pgherd.telemetry import logs
from pgherd.telemetry.metrics import Metrics

log = logs.get("hooks")

ROLE_CHANGE = "on_role_change"
BY_KIND = {
    "role.changed": ROLE_CHANGE,
    "server.started": "on_start",
    "server.stopped": "on_stop",
    "server.restarted": "on_restart",
    "server.reloaded": "on_reload",
}
CHANGED = "primary.changed"


def hook_of(event: Event, me: NodeId) -> str:
    """The hook that an event is an occasion for; "" for none."""
    if event.kind == CHANGED:
        return "on_switchover" if event.fields.get("kind") == "switchover" else "on_failover"
    return BY_KIND.get(event.kind, "") if event.node == me and not event.is_clusters else ""


def occasion(event: Event, *, hook: str, role: str, cluster: str, me: NodeId) -> Occasion:
    """What a program is told of an event."""
    variables = {
        "NODE": me,
        "TERM": str(event.term),
        "RULE": str(event.rule),
        "REASON": event.text,
        "EVENT": event.id,
        "PRIMARY": event.fields.get("to") or event.fields.get("primary", ""),
        "OLD_PRIMARY": event.fields.get("from", "") if event.kind == CHANGED else "",
        "OLD_ROLE": event.fields.get("from", "") if event.kind == "role.changed" else "",
    }
    return Occasion(hook, role, cluster, variables)


class Callbacks:
    """One node's. hooks: as configured, may be replaced at any time."""

    def __init__(
        self,
        me: NodeId,
        hooks: Hooks,
        *,
        kind: Kind,
        cluster: str,
        happened: Happened,
        metrics: Metrics,
    ) -> None:
        self.hooks = hooks
        self._me = me
        self._kind = kind
        self._cluster = cluster
        self._happened = happened
        self._metrics = metrics
        self._running: dict[str, asyncio.Task[None]] = {}
        self._waiting: dict[str, Event] = {}

    def heed(self, event: Event, *, role: str) -> None:
        """An event happened; role: what this node is then."""
        hook = hook_of(event, self._me)
        if not hook or getattr(self.hooks, hook) is None:
            return
        if hook in self._running:
            if hook in self._waiting:
                self._superseded(hook, self._waiting[hook])
            self._waiting[hook] = event
            if hook == ROLE_CHANGE:
                self._running[hook].cancel()
            return
        self._start(hook, event, role)

    async def finish(self, within_s: float) -> None:
        """Wait for what runs, and end what does not end in time."""
        self._waiting.clear()
        tasks = list(self._running.values())
        if tasks:
            await asyncio.wait(tasks, timeout=within_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, hook: str, event: Event, role: str) -> None:
        task = asyncio.create_task(self._once(hook, event, self._role(event, role)), name=hook)
        self._running[hook] = task
        task.add_done_callback(partial(self._over, hook, event, role))

    def _over(self, hook: str, event: Event, role: str, task: asyncio.Task[None]) -> None:
        """One program has ended, or was killed for a newer one, which has its turn now."""
        del self._running[hook]
        if task.cancelled():
            self._superseded(hook, event)
        elif (error := task.exception()) is not None:
            log.error("hook.broken", hook=hook, exc_info=error)
        waits = self._waiting.pop(hook, None)
        if waits is not None:
            self._start(hook, waits, role)

    def _role(self, event: Event, role: str) -> str:
        """What this node is by an event; a witness and a proxy node are always just that."""
        if self._kind is not Kind.DATA:
            return self._kind.value
        if event.kind == CHANGED:
            return PRIMARY if event.fields.get("to") == self._me else REPLICA
        return event.fields.get("role") or role

    async def _once(self, hook: str, event: Event, role: str) -> None:
        program = getattr(self.hooks, hook)
        if program is None:
            return  # a reload has taken it away meanwhile
        told = occasion(event, hook=hook, role=role, cluster=self._cluster, me=self._me)
        ran = await run(program, told)
        self._ended(hook, event, role, ran)

    def _ended(self, hook: str, event: Event, role: str, ran: Ran) -> None:
        done = ran.code == 0
        self._metrics.hook_ran(hook, "done" if done else "failed")
        self._happened(
            "hook.done" if done else "hook.failed",
            f"{hook} {role}: {ran.text}",
            term=event.term,
            duration_ms=ran.took_ms,
            fields={"hook": hook, "role": role, "event": event.id},
        )

    def _superseded(self, hook: str, event: Event) -> None:
        self._metrics.hook_ran(hook, "superseded")
        self._happened(
            "hook.superseded",
            f"{hook} of {event.id} gives way to a newer one",
            term=event.term,
            fields={"hook": hook, "event": event.id},
        )
