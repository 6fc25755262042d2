"""Hooks of one node, joined: what happens becomes events, and events reach programs and receivers.

Owns the following of the journal, the exchange with the other nodes of how far receivers have been
served, and the change of all that by a reload. Nothing of it runs where nothing is configured but
the comparison of the server with how it was.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from pgherd.daemon.callbacks import Callbacks
from pgherd.daemon.happenings import Happenings
from pgherd.daemon.hookbook import PARTS_MAX, HookBook
from pgherd.daemon.preparing import Preparation
from pgherd.model import action as act
from pgherd.model.action import Planned
from pgherd.model.errors import PeerError
from pgherd.model.ids import NodeId
from pgherd.model.remedy import Ending
from pgherd.telemetry import logs

if TYPE_CHECKING:
    from pgherd.config.hooks import Hooks as Wanted
    from pgherd.config.settings import Settings
    from pgherd.daemon.build import Node

log = logs.get("hooks")

MARKS = "webhook-marks"
SHARE_S = 2.0
STOP_S = 20.0
"""So long the end of an agent waits for the program that is told of its server's."""


class NodeHooks:
    """All of it, for one node."""

    def __init__(self, node: Node) -> None:
        settings, stories = node.settings, node.stories
        self._node = node
        self._book = HookBook(
            settings.raft.data_dir,
            end=lambda: (node.consensus.replica.node.applied + 1) * PARTS_MAX,
        )
        self._happenings = Happenings(
            node.me, stories.happened, role=self._book.role, keep=self._book.keep_role
        )
        self._callbacks = Callbacks(
            node.me,
            settings.hooks,
            kind=settings.kind,
            cluster=settings.cluster.name,
            happened=stories.happened,
            metrics=node.metrics,
        )
        self.preparation = Preparation(
            node.me,
            settings.hooks,
            facts=lambda: node.agent.facts,
            happened=stories.happened,
            metrics=node.metrics,
        )
        self._heeded = node.journal.newest
        self._senders: dict[str, asyncio.Task[None]] = {}
        self._wanted: Wanted | None = None
        self._sharing: asyncio.Task[None] | None = None
        self._share_again = False
        if node.executor is not None:
            hands = node.executor.hands
            hands.acted = self._acted
            hands.prepare = self.preparation.before
            hands.preparing = self.preparation.busy
            hands.veto = self.preparation.veto

    # --- what happens ----------------------------------------------------------------------------

    def observed(self) -> None:
        """The local server looks different."""
        self.look()
        self._node.agent.observed()

    def look(self) -> None:
        """Tell what is new of server and role, and have the programs run that are to know."""
        node = self._node
        if node.watch is not None and not node.agent.removed:
            self._happenings.look(node.agent.facts, node.watch.seen)
        for entry in node.journal.since(self._heeded):
            self._callbacks.heed(entry.event, role=self._happenings.role)
        self._heeded = node.journal.newest
        if self._wanted is None:
            self._have(node.settings.hooks)

    def reloaded(self, text: str) -> None:
        """The server here was told to read its configuration again."""
        term, role = self._node.agent.facts.term, self._happenings.role
        self._node.stories.happened("server.reloaded", text, term=term, fields={"role": role})
        self.look()

    def _acted(self, planned: Planned, ending: str, why: str, took_ms: int) -> None:
        self._node.stories.acted(planned, ending, why, took_ms)
        if ending == Ending.DONE and isinstance(planned.action, act.Reload | act.Configure):
            self.reloaded(planned.reason)

    # --- receivers -------------------------------------------------------------------------------

    def take(self, settings: Settings) -> None:
        """Other hooks from now on."""
        self._callbacks.hooks = self.preparation.hooks = settings.hooks
        if self._wanted is not None and settings.hooks.pre_promote != self._wanted.pre_promote:
            self.preparation.forgive()
        self._have(settings.hooks)

    def _have(self, wanted: Wanted) -> None:
        """Begin to serve the receivers that are configured, as far as they are other ones."""
        before, self._wanted = self._wanted, wanted
        if before is not None and before.webhook == wanted.webhook:
            return
        for task in self._senders.values():
            task.cancel()
        self._senders = {}
        if not wanted.webhook:
            return
        from pgherd.daemon import webhooks  # where there is none, nothing of it is loaded

        node = self._node
        ground = webhooks.Ground(
            me=node.me,
            cluster=node.settings.cluster.name,
            journal=node.journal,
            book=self._book,
            leads=lambda: node.consensus.replica.ready_term,
            share=self._share,
            happened=node.stories.happened,
            metrics=node.metrics,
        )
        for name, one in webhooks.named(wanted.webhook).items():
            sender = webhooks.Sender(name, one, ground)
            task = asyncio.create_task(sender.run(), name=f"webhook-{name}")
            task.add_done_callback(partial(_broken, name))
            self._senders[name] = task

    def _share(self) -> asyncio.Future[None]:
        """Tell the others how far receivers have been served, and hear what they know."""
        if self._sharing is not None and not self._sharing.done():
            self._share_again = True
        else:
            self._sharing = asyncio.create_task(self._exchange(), name="webhook-marks")
        return self._sharing

    async def _exchange(self) -> None:
        self._share_again = True
        while self._share_again:
            self._share_again = False
            body = msgspec.msgpack.encode(self._book.delivered)
            stands = self._node.peers.connected().items()
            await asyncio.gather(*(self._tell(node, body) for node, is_up in stands if is_up))

    async def _tell(self, node: NodeId, body: bytes) -> None:
        try:
            raw = await self._node.peers.request(node, MARKS, body, timeout_s=SHARE_S)
            self._book.keep_delivered(msgspec.msgpack.decode(raw, type=dict[str, int]))
        except (PeerError, msgspec.MsgspecError) as error:
            log.debug("webhook.not-shared", peer=node, reason=str(error))

    async def answer(self, body: bytes) -> bytes:
        """A peer says how far receivers have been served; what is known here."""
        self._book.keep_delivered(msgspec.msgpack.decode(body, type=dict[str, int]))
        return msgspec.msgpack.encode(self._book.delivered)

    async def finish(self) -> None:
        """The agent ends: what is told of that is waited for, for a while."""
        self.look()
        await self._callbacks.finish(STOP_S)
        for task in self._senders.values():
            task.cancel()
        await asyncio.gather(*self._senders.values(), return_exceptions=True)
        await self._book.written()


def _broken(name: str, task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("webhook.broken", webhook=name, exc_info=error)
