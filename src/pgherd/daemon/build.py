"""Joins the rooms into one node: the only place that knows them all.

Owns the order of construction, start and stop. Holds no logic of its own beyond it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pgherd import __version__
from pgherd.config.settings import Settings
from pgherd.daemon import (
    activity,
    cancels,
    checking,
    meanings,
    rotating,
    translate,
    verifiers,
    warding,
)
from pgherd.daemon.agent import Agent
from pgherd.daemon.archiving import Archiving
from pgherd.daemon.consensus import Consensus
from pgherd.daemon.drilling import Drilling
from pgherd.daemon.gathering import Gatherer
from pgherd.daemon.hooking import NodeHooks
from pgherd.daemon.identity import Opened, open_store
from pgherd.daemon.journal import Storyteller
from pgherd.daemon.leasing import Leasing
from pgherd.daemon.memberfile import MemberKeeper, declare_lost
from pgherd.daemon.ownrecord import OwnRecord
from pgherd.daemon.port import answering, attached
from pgherd.daemon.reports import Reports
from pgherd.daemon.routing import Routing
from pgherd.daemon.securing import Securing
from pgherd.daemon.splitbrain import SplitBrain
from pgherd.daemon.standing import Standing
from pgherd.daemon.telling import Telling
from pgherd.ledger.pgconfig import newest
from pgherd.model.errors import OperatorError, PgherdError
from pgherd.model.facts import Facts
from pgherd.model.ids import NodeId, RaftId, Term
from pgherd.model.observation import Observation
from pgherd.model.promises import Promises
from pgherd.model.remedy import Copied
from pgherd.peer.peers import Peers
from pgherd.peer.storemarks import MADE_ANEW, StoreMark
from pgherd.plan.holdclock import HoldClock
from pgherd.postgres.conf import write_passfile
from pgherd.postgres.files import make_directory
from pgherd.raft.types import Msg
from pgherd.relay.control import ProxyControl
from pgherd.store.base import StoreWentBack
from pgherd.store.replica import BIRTH_INDEX, Replica
from pgherd.telemetry import durations, logs
from pgherd.telemetry.boottime import boot, now_ms, until_next
from pgherd.telemetry.journal import Journal
from pgherd.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from pgherd.act.executor import Executor
    from pgherd.daemon.amnesia import Amnesia
    from pgherd.daemon.vips import Vips
    from pgherd.observe.server import ServerWatch
    from pgherd.postgres.server import PostgresServer

log = logs.get("daemon")

PUBLISH_S = 1.0
STOP_ACT_S = 20.0
CATCH_UP_S = 5.0


class Node:
    """Everything that runs in one agent process."""

    def __init__(self, settings: Settings, *, config: str, control: Path) -> None:
        self.settings, self.config = settings, config
        self.me = NodeId(settings.node.name)
        self.failure: PgherdError | None = None
        self._failed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.journal = Journal(settings.raft.data_dir / "events.jsonl")
        self.metrics = Metrics(node=self.me, version=__version__)
        opened = open_store(settings)
        told = opened.store.initial_state()[0].commit
        self.stories = Storyteller(self.me, self.journal, self.metrics, told=told)
        self.seeds = opened.seeds
        self.raft_id = opened.raft_id
        self.known = opened.known
        self._again = False
        replica = Replica(
            opened.store,
            raft_id=opened.raft_id,
            cluster=settings.cluster.name,
            election_tick=max(2, settings.raft.election_timeout_ms // settings.raft.heartbeat_ms),
            heartbeat_tick=1,
            rng=lambda low, high: low + secrets.randbelow(high - low),
        )
        self.requests = answering(self)
        self.peers = self._make_peers(opened)
        self.gatherer = Gatherer(
            self.me, self.journal, ask=self.peers.request, connected=self.peers.connected
        )
        self.consensus = Consensus(
            replica,
            tick_ms=settings.raft.heartbeat_ms,
            client=f"{self.me}-{secrets.token_hex(6)}",
            send=self._send,
            changed=lambda applied: self.agent.facts_changed(applied),
            failed=self._consensus_failed,
            fsynced=self.metrics.fsynced,
            ticked=lambda: self.agent.ticked(),
            appended=partial(self.metrics.durations.took, durations.RAFT_APPEND),
            compacted=partial(self.metrics.durations.took, durations.RAFT_SNAPSHOT),
        )
        self.server, self.watch, self.executor = self._data_member()
        self.warding = warding.attach(self, control)
        self.vips = self._make_vips()
        self.verifiers, self.cancels = verifiers.attach(self), cancels.attach(self)
        self.meanings = meanings.attach(self)
        self.check, self.rotation = checking.attach(self), rotating.attach(self)
        self.activity = activity.attach(self)
        self.telling = Telling(self)
        self.control = self._make_control(control)
        self.agent = self._make_agent()
        self.agent.reports.heed(settings.node.tags)
        self.securing, self.archiving = Securing(self), Archiving(self)
        self.routing = Routing(self.agent)
        self.drilling = Drilling(self)
        self.port = attached(self, snapshot=self.routing.now)
        self.standing = self._make_standing()
        self.amnesia = self._make_amnesia(opened)
        self.keeper = MemberKeeper(
            settings.raft.data_dir,
            self.known,
            facts=lambda: self.agent.facts,
            marks=self.peers.marks.newest,
        )
        self.api, self.guard = self.securing.serve()
        self.hooks = NodeHooks(self)

    def _make_peers(self, opened: Opened) -> Peers:
        settings = self.settings
        peers = Peers(
            me=self.me,
            listen=(settings.node.address.bound("raft"), settings.raft.port),
            tls=translate.peer_tls(settings),
            on_raft=self._receive,
            on_report=self._report,
            on_request=self.requests.answer,
            on_unreachable=self._unreachable,
            store=self._store_mark,
            on_went_back=self._went_back,
            on_snapshot=self._snapshot_sent,
            address=translate.address(settings).raft(),
            learns=opened.forgot is not None,
        )
        for mark in self.known.marks:
            peers.marks.note(mark)
        return peers

    def _make_control(self, path: Path) -> ProxyControl | None:
        wanted, on_quiet = translate.proxy_settings(self.settings), lambda: self.agent.observed()
        if not wanted.listeners:
            return None
        asked = self.verifiers.of, self.cancels.of, self.meanings.of
        return ProxyControl(path, wanted, *asked, on_quiet=on_quiet)

    def _make_agent(self) -> Agent:
        return Agent(
            me=self.me,
            policy=translate.policy(self.settings),
            own_record=OwnRecord(
                translate.own_record(self.settings),
                submit=lambda command: self.port.submit(command, timeout_s=5.0),
            ),
            consensus=self.consensus,
            reports=Reports(self.me, started=now_ms()),
            leasing=Leasing(self.me, boot=boot(), tell=self._tell),
            split_brain=SplitBrain(
                fresh_ms=self.settings.failover.detect_ms, tell=self._tell, changed=self._publish
            ),
            warding=self.warding,
            watch=self.watch,
            executor=self.executor,
            send_report=self.peers.send_report,
            on_facts=self._on_facts,
            on_applied=lambda each: self.stories.applied(each, self.consensus.replica.facts),
            on_decided=lambda made: self.stories.decided(made, self.agent.facts.term),
            consistent=lambda: self.port.consistent(timeout_s=CATCH_UP_S),
            proxy_healthy=lambda: self.control is not None and self.control.healthy(),
            hold=HoldClock(lambda hold: self.control is None or self.control.is_quiet(hold)),
            vips=self.vips,
            amnesia=lambda: self.amnesia.text() if self.amnesia is not None else "",
        )

    def _make_vips(self) -> Vips | None:
        if not self.settings.vip:
            return None
        from pgherd.daemon import vips

        return vips.attach(self)

    def _tell(self, kind: str, text: str) -> None:
        self.stories.tell(kind, text, term=self.agent.facts.term)

    def _make_amnesia(self, opened: Opened) -> Amnesia | None:
        if opened.forgot is None:
            return None
        from pgherd.daemon.amnesia import Amnesia  # rarely needed, and then not for long

        self.consensus.retire()
        return Amnesia(
            directory=opened.forgot.directory,
            known=self.known,
            why=opened.forgot.why,
            peers=self.peers.connected,
            ask=self.port.readmit,
            server=self.server,
        )

    def _make_standing(self) -> Standing:
        return Standing(
            raft_id=self.raft_id,
            facts=lambda: self.agent.facts,
            is_led=self.consensus.replica.is_led,
            peers=self.peers.connected,
            ask=self.port.was_removed,
            removed=self._told_removed,
        )

    def _data_member(
        self,
    ) -> tuple[PostgresServer | None, ServerWatch | None, Executor | None]:
        if not self.settings.has_server:
            return None, None, None
        from pgherd.daemon import datamember

        return datamember.make(
            self.settings,
            promises=self.consensus.store.promises,
            save=self._save_promises,
            history=lambda: self.consensus.replica.facts.history,
            is_busy=lambda: self.agent.is_busy(),
            changed=lambda: self.hooks.observed(),
            finished=lambda plan, done: self.telling.act_finished(plan, done),
            progress=self._progress,
            submit=lambda command: self.port.submit(command, timeout_s=5.0),
            tell=self._tell,
            config=lambda: newest(self.consensus.replica.facts),
        )

    # --- wires -----------------------------------------------------------------------------------

    def _send(self, message: Msg) -> None:
        node = self._node_of(message.to)
        if node is not None:
            self.peers.send_raft(node, message)
        elif message.type == "Snap":
            self.consensus.snapshot_sent(message.to, taken=False)

    def _receive(self, node: NodeId, message: Msg) -> None:
        """Take a message that is for us and from whom it says: ids are never re-used."""
        if message.to == self.raft_id and self._node_of(message.frm) == node:
            self.consensus.receive(message)

    def _report(self, node: NodeId, report: Observation) -> None:
        """Take a report from whom it is of, nobody else; a removed namesake is somebody else."""
        if report.node == node and not self.agent.facts.was_removed(report.raft_id):
            self.agent.report_arrived(report)

    def _node_of(self, raft_id: int) -> NodeId | None:
        for node, member in self.consensus.replica.facts.members.items():
            if member.raft_id == raft_id:
                return node
        if self.consensus.replica.facts.was_removed(RaftId(raft_id)):
            return None
        return next((seat.node for seat in self.seeds if seat.raft_id == raft_id), None)

    def _unreachable(self, node: NodeId) -> None:
        member = self.consensus.replica.facts.members.get(node)
        if member is not None:
            self.consensus.unreachable(member.raft_id)

    def _snapshot_sent(self, node: NodeId, taken: bool) -> None:
        member = self.consensus.replica.facts.members.get(node)
        if member is not None:
            self.consensus.snapshot_sent(member.raft_id, taken=taken)

    async def _save_promises(self, promises: Promises) -> None:
        await self.consensus.save_promises(promises)
        self.archiving.promised()
        self.agent.observed()

    def _progress(self, copied: Copied | None) -> None:
        self.agent.copies(copied)

    def _store_mark(self) -> StoreMark:
        store = self.consensus.store
        identity = store.identity()
        if identity is None:
            return StoreMark()  # amnesia: this node has no store to speak of
        return StoreMark(identity.raft_id, identity.store_incarnation, store.sequence())

    def _went_back(self, node: NodeId, why: str) -> None:
        """A peer knows that our store has been further than it is, or that it is not ours.

        One that was made anew has nothing to lose: its node has amnesia. An old one is for people
        to look at: it may be a copy, and its original may run.
        """
        self.consensus.stopped = True
        if MADE_ANEW not in why:
            self._consensus_failed(StoreWentBack(f"{node} says: {why}"))
            return
        self._lost(f"{node} says: {why}")

    def _told_removed(self) -> None:
        """Whoever has just founded and is told so has not: it was a member, and its disk is new."""
        if self.consensus.store.last_index() == BIRTH_INDEX:
            self._lost("this store is new, and its Raft id was given up long ago")
        else:
            self.agent.was_removed()

    def _lost(self, why: str) -> None:
        """This store was made anew: it knows nothing, not even under which Raft id it was."""
        known = msgspec.structs.replace(self.known, raft_id=RaftId(0))
        try:
            declare_lost(self.settings.raft.data_dir, known)
        except OSError as error:
            self._consensus_failed(PgherdError(f"cannot write member.json: {error.strerror}"))
            return
        self._begin_anew(why)

    def _begin_anew(self, why: str) -> None:
        """End, so that the supervisor starts this node as what it is now."""
        log.warning("agent.begins-anew", reason=why)
        self._again = True
        self._failed.set()

    def _consensus_failed(self, failure: PgherdError) -> None:
        self.failure = failure
        self._failed.set()

    def _on_facts(self, facts: Facts) -> None:
        seeds = [seat for seat in self.seeds if not facts.was_removed(seat.raft_id)]
        addresses = {seat.node: seat.address.raft() for seat in seeds}
        addresses |= {node: member.address.raft() for node, member in facts.members.items()}
        addresses.pop(self.me, None)
        self.peers.set_peers(addresses)
        others = [member for node, member in facts.members.items() if node != self.me]
        for member in others:
            self.peers.marks.expect(member.raft_id, member.store)
        self._publish()
        self.hooks.look()

    def _publish(self) -> None:
        """Tell the proxy where sessions may go; of a removed node's old facts it hears no more."""
        self.rotation.look()
        if self.control is not None and not self.agent.removed and self.amnesia is None:
            self.control.publish(self.routing.now())

    # --- life ------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event, *, ready: Callable[[], bool]) -> int:
        """Run until told to stop or something fails; return the exit code."""
        if self.control is not None:
            await self.control.start()
        await self.peers.start()
        if self.vips is not None:
            await self.vips.begin()
        if self.watch is not None:
            await asyncio.to_thread(self._write_passfile)
            await self._know_incarnation()
            await self.watch.look()
        self.agent.facts_changed([])
        jobs = [self.agent.run(), self.api.run(), *self.telling.begin()]
        if self.amnesia is None:
            self.consensus.start()
            jobs += [self._publish_often(), self.standing.run()]
        else:
            jobs.append(self._be_readmitted(self.amnesia))
        if self.watch is not None:
            jobs += [self.watch.run(), self.archiving.run()]
        self._tasks = [asyncio.create_task(job) for job in jobs]
        log.info("agent.started", version=__version__, facts_term=self.agent.facts.term)
        ready()
        ends = [asyncio.create_task(stop.wait()), asyncio.create_task(self._failed.wait())]
        await asyncio.wait([*ends, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
        return self._why_ended(asked=stop.is_set())

    def _why_ended(self, *, asked: bool) -> int:
        """0 only when somebody asked for it: then, and only then, PostgreSQL stops too."""
        if self._again:
            return 1
        if self.failure is not None:
            log.error("agent.failed", reason=self.failure.message, next=self.failure.hint)
            return 2 if isinstance(self.failure, OperatorError) else 1
        for task in self._tasks:
            if task.done() and not task.cancelled() and task.exception() is not None:
                log.error("agent.broken", exc_info=task.exception())
                return 1
        return 0 if asked else 1

    def _write_passfile(self) -> None:
        """The passwords that the first copy needs, before there is a server."""
        assert self.server is not None
        place = self.server.data_dir.parent
        if not place.exists():
            make_directory(place, user=self.server.user, mode=0o755)
        write_passfile(self.server.settings, user=self.server.user)

    async def _know_incarnation(self) -> None:
        """The directory's own word counts: a swap may have ended just before its promise."""
        assert self.server is not None
        state = await self.server.state()
        known = self.consensus.store.promises()
        renewed = known.with_directory(state.incarnation)
        if renewed != known:
            await self.consensus.save_promises(renewed)

    async def _be_readmitted(self, amnesia: Amnesia) -> None:
        """Take no part until the others have a new place for this node, then begin anew there."""
        self.stories.tell("member.amnesia", amnesia.text(), term=Term(0))
        try:
            text = await amnesia.run()
        except PgherdError as failure:
            self._consensus_failed(failure)
            return
        self.stories.tell("member.readmitted", text, term=Term(0))
        self._begin_anew(text)

    async def _publish_often(self) -> None:
        while True:
            await asyncio.sleep(until_next(PUBLISH_S))
            self._publish()
            await asyncio.gather(self.keeper.keep(), self.securing.look())

    def reload(self) -> None:
        """SIGHUP: the file is read again."""
        self.telling.reload()

    async def stop(self, *, stop_server: bool, orphaned: bool = False) -> None:
        """Stop in order: PostgreSQL first when asked to, so that the others learn of it."""
        self.agent.stopping = True
        await self.drilling.end()
        if self.executor is not None:
            await self.executor.stop()
            await warding.leave(self, stops=stop_server, orphaned=orphaned)
        if stop_server and self.server is not None and self.server.is_running():
            took = await self.server.stop("fast", timeout_s=STOP_ACT_S)
            log.info("server.stopped", how=took, reason="the node stops")
            if self.watch is not None:
                await self.watch.look()
            self._tell_goodbye()
            await asyncio.sleep(0.2)
        if self.vips is not None:
            await self.vips.end(leave="this node stops" if stop_server or orphaned else "")
            self._tell_goodbye()
        await self.securing.end()
        await self.hooks.finish()
        self.journal.let_go()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.api.stop()
        if self.server is not None:
            await self.server.close()
        if self.control is not None:
            await self.control.stop()
        await self.consensus.stop()
        await self.peers.stop()
        self.journal.close()

    def _tell_goodbye(self) -> None:
        report: Observation = self.agent.heard()[self.me].report
        self.peers.send_report(report)


def build(settings: Settings, *, config: str, control: Path) -> Node:
    """Make one node from its settings. Raises OperatorError for what an operator must mend."""
    return Node(settings, config=config, control=control)
