"""A simulated agent: production replica and deciders, driven by simulated time, network and disk.

Owns what the daemon's `agent` owns on a real node: ticks, rounds of consensus, reports, see ->
decide -> do, one executor. Its memory is lost with its process; its promises are not.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from pgherd.ledger.commands import Proposal, RenewLease
from pgherd.model import action as act
from pgherd.model.ids import Instant, MemberKey, NodeId
from pgherd.model.lease import Ask
from pgherd.model.observation import Asking, Heard, HerdView, Observation, ServerSeen
from pgherd.model.promises import Promises
from pgherd.plan import herd, leases, member
from pgherd.plan.asked import Asked
from pgherd.plan.holdclock import HoldClock
from pgherd.plan.leaseclock import ExpiryClock, HolderClock, leads
from pgherd.plan.look import running_ttl
from pgherd.plan.rule import Decision
from pgherd.raft.types import Msg, ProposalDropped
from pgherd.sim import acts, feeding
from pgherd.sim.clock import MS, Failed, Proc
from pgherd.sim.current import Current
from pgherd.sim.disk import Writer
from pgherd.sim.look import observe, proxies_quiet, see_server
from pgherd.sim.memory import Memory
from pgherd.sim.moves import Standing
from pgherd.sim.parameters import seen as config_seen
from pgherd.sim.watched import Watched
from pgherd.store.memory import MemoryStore
from pgherd.store.replica import Applied, Round

if TYPE_CHECKING:
    from pgherd.sim.world import Node, World

TICK = 100 * MS
REPORT_MS = 200
WHOLE_MS = 1000
"""As in the daemon; in a restless world an agent looks at every tick and asks all rules then."""
PROPOSAL_PATIENCE_MS = 1500
RETRY_MS = 300
SNAPSHOT_TAKES = 1000 * MS
IMAGE_EVERY = 12
IMAGE_KEPT = 4
REPORTS_PER_PROCESS = 1_000_000


def is_renewal(applied: Applied) -> bool:
    """Whether nothing happened but that a lease goes on."""
    return isinstance(applied.proposal.command, RenewLease)


class Agent:
    """One process of one node."""

    def __init__(self, world: World, node: Node, *, boot: int) -> None:
        self.world, self.clock, self.node = world, world.clock, node.name
        self.raft_id = node.raft_id
        self.proc = Proc(f"{node.name} agent {boot}")
        self.server = node.server
        self.boottime = node.boottime
        self.holder = HolderClock(f"boot{node.boottime.boots}")
        self.expiry = ExpiryClock()
        self.store = MemoryStore(node.disk, manual_sync=True)
        self.replica = Watched(
            self.store,
            raft_id=node.raft_id,
            cluster=world.cluster,
            election_tick=10,
            heartbeat_tick=1,
            rng=world.rng.randrange,
        )
        self.writer = Writer(
            world.clock, world.rng, store=self.store, proc=self.proc, failed=node.store_failed
        )
        self.promises: Promises = self.store.promises()
        self.memory = Memory()
        self.reports: dict[NodeId, Heard] = {}
        self.heard_at: dict[NodeId, int] = {}
        self.sequence = boot * REPORTS_PER_PROCESS
        self.client = f"{node.name}.{boot}"
        self._seq = 0
        self._in_flight: tuple[int, int] | None = None
        self._renewing_since: Instant | None = None
        self._looked_at = self.now
        self.awake_since = self.clock.now
        self._round_open = False
        self._current = Current()
        self._leading_since: Instant | None = None
        self._phase: tuple[object, ...] = ()
        self._phase_since = self._names_since = self.now
        self._generation, self.hold = -1, HoldClock(lambda hold: proxies_quiet(self, hold))
        self._poked = False
        self._news = True
        self._decided_at = self.now
        self._acting: act.Action | None = None
        self._act_again_at = 0
        self._reported: tuple[object, ...] = ()
        self._reported_at = -REPORT_MS
        self._server_proc = self.server.proc
        self._said: dict[str, int] = {}
        self.removed = False
        self._asked = Asked()
        self._reconcile()
        self._note_facts()
        delay = world.rng.randrange(TICK)
        self.clock.after(delay, self._tick, proc=self.proc)
        self.clock.after(delay // 2, self._look_tick, proc=self.proc)
        self.standing = Standing(self) if world.shape.spares else None

    def _reconcile(self) -> None:
        """A swap of directories may have come before the promise of the new incarnation."""
        directory = self.server.dir
        if directory is not None and directory.incarnation != self.promises.incarnation:
            self.promises = msgspec.structs.replace(
                self.promises,
                incarnation=directory.incarnation,
                frozen=None,
                floor=None,
                dirty_rewind=False,
            )

    @property
    def now(self) -> Instant:
        """What this host's clock shows."""
        return self.boottime.ms

    def was_removed(self) -> None:
        """A peer says that this node is no member any more."""
        if self.removed:
            return
        self.removed = True
        self.world.stats.left += 1
        self.world.log(self.node, "was removed")
        self.poke()

    def _tick(self) -> None:
        if self.removed:
            return
        self.replica.node.tick()
        self._current.ask(self.replica.node)
        self._pump()
        self.clock.after(TICK, self._tick, proc=self.proc)

    @property
    def caught_up(self) -> bool:
        """Whether the ledger is as new as when this process began, or its timeline strayed."""
        return self._current.reached(self.replica.node.applied)

    def on_message(self, message: Msg) -> None:
        if not self.removed:
            self.replica.step(message)
            self._pump()

    def _pump(self) -> None:
        """Run rounds until nothing is left to do or the disk has to answer first."""
        replica = self.replica
        while not self._round_open and not self.writer.broken:
            ready = replica.begin()
            if ready is None:
                return
            self._send(replica.early(ready))
            if replica.needs_disk(ready):
                self._round_open = True
                self.writer.save(replica.durable(ready), partial(self._saved, ready))
                return
            self.store.save(**replica.durable(ready))
            self._finish(replica.finish(ready))

    def _saved(self, ready: Any) -> None:
        self._round_open = False
        self._finish(self.replica.finish(ready))
        self._pump()

    def _finish(self, done: Round) -> None:
        self._send(done.messages)
        if self._current.answered(done.reads):
            self.poke()
        for applied in done.applied:
            self.world.checks.on_applied(self.node, applied.index, applied.outcome)
            self.world.leases.on_applied(applied)
            self.world.losses.on_applied(applied)
            if applied.proposal.client == self.client:
                self._answered(applied.proposal)
        if self.replica.leads:
            self.world.checks.on_raft_leader(self.node, self.replica.node.term)
        if self.replica.confs:
            self._note_confs()
        if done.applied or done.restored:
            self.world.checks.on_facts(self.node, self.replica)
            self.world.leases.on_facts(self.node)
            self._note_facts()
            if done.restored or not all(is_renewal(each) for each in done.applied):
                self.poke()
        self._keep_image()

    def _note_confs(self) -> None:
        """Who votes has changed."""
        for change in self.replica.confs:
            self.world.checks.on_conf(self.node, change)
        self.replica.confs.clear()

    def _answered(self, proposal: Proposal) -> None:
        """One of our own proposals was applied."""
        if isinstance(proposal.command, RenewLease):
            self._renewing_since = None
        elif self._in_flight is not None and proposal.seq >= self._in_flight[0]:
            self._in_flight = None

    def _keep_image(self) -> None:
        """Keep a snapshot and cut the log, far more often than a daemon would."""
        replica, applied = self.replica, self.replica.node.applied
        grown = applied - self.store.snapshot().index
        if grown < IMAGE_EVERY and replica.image_due() is None:
            return
        image = self.store.make_snapshot(applied, replica.status().conf, replica.ledger.snapshot())
        self.store.compact(image.index - IMAGE_KEPT)
        if not self._round_open:  # else the round's own write takes it along
            self.writer.sync()
            self.store.remember()

    def _note_facts(self) -> None:
        facts, now = self.replica.facts, self.now
        self.expiry.follow(facts, raft_term=self.replica.ready_term, now=now)
        if (facts.term, facts.phase) != self._phase:
            self._phase, self._phase_since = (facts.term, facts.phase), now
        if facts.sync.generation != self._generation:
            self._generation, self._names_since = facts.sync.generation, now
        self.hold.follow(facts, now=now)

    def _send(self, messages: tuple[Msg, ...]) -> None:
        for message in messages:
            self.world.send_message(self.node, message)
            if message.type == "Snap":
                self.clock.after(SNAPSHOT_TAKES, self._snapshot_sent, message.to, proc=self.proc)

    def _snapshot_sent(self, raft_id: int) -> None:
        """Nobody answers one that was lost: after a while the core tries anew."""
        if self.replica.leads:
            self.replica.node.report_snapshot(raft_id, ok=True)

    # -- seeing and telling ----------------------------------------------------------------------

    def poke(self) -> None:
        """Something changed: look soon."""
        self._news = True
        if not self._poked:
            self._poked = True
            delay = (1 + self.world.rng.randrange(8)) * MS
            self.clock.after(delay, self._poked_now, proc=self.proc)

    def _poked_now(self) -> None:
        self._poked = False
        self._look()

    def _look_tick(self) -> None:
        now = self.now
        every = TICK // MS if self.world.restless else REPORT_MS
        late = now - self._looked_at - every
        ttl = running_ttl(self.replica.facts, self.world.policy)
        if self.holder.was_late(now, late_ms=late, ttl_ms=ttl):
            self.awake_since = self.clock.now
        self._looked_at = now
        self._look()
        self.clock.after(every * MS, self._look_tick, proc=self.proc)

    def _look(self) -> None:
        if self.removed:
            self._decide_for_me(see_server(self))
            return
        if self.server.proc is not self._server_proc:
            self.memory.forget_server()
        self._server_proc = self.server.proc
        self.memory.note_state(self.server.state.value, self.now)
        seen = see_server(self)
        self.world.nodes[self.node].warden.before(self, seen, self._acting)
        self._report(seen)
        self._decide_for_herd()
        self._decide_for_me(seen)

    def _report(self, seen: ServerSeen) -> None:
        key = self._key(seen)
        due = self.now - self._reported_at >= REPORT_MS
        if key == self._reported and not due:
            return
        self._reported, self._reported_at = key, self.now
        report = observe(self, seen)
        self.reports[self.node] = Heard(report, self.now)
        for peer in self.world.names:
            if peer != self.node:
                self.world.send_report(self.node, peer, report)

    def _key(self, seen: ServerSeen) -> tuple[object, ...]:
        """What of a look the others should know at once."""
        reached = sum(s.flush_lsn >= seen.epoch_record_end for s in seen.senders)
        return (
            seen.state,
            seen.drained,
            seen.names,
            seen.names_generation,
            seen.settled,
            seen.epoch_record_end,
            seen.checkpointed_for,
            seen.checkpointed_term,
            len(seen.senders),
            reached,
            self.promises,
            self.hold.quiet(),
        )

    def on_report(self, report: Observation) -> None:
        """A peer's report arrived."""
        known = self.reports.get(report.node)
        if self.replica.facts.was_removed(report.raft_id):
            return
        if known is not None and known.report.sequence >= report.sequence:
            return
        now = self.now
        self.reports[report.node] = Heard(report, now)
        self.heard_at[report.node] = now
        if known is None or (
            known.report.promises != report.promises
            or known.report.quiet != report.quiet
            or known.report.server.state is not report.server.state
            or self.replica.facts.phase != "stable"
        ):
            self._news = True
            self._decide_for_herd()

    # -- the herd decider ------------------------------------------------------------------------

    def _decide_for_herd(self) -> None:
        if not self.replica.leads:
            self._leading_since = None
            return
        now = self.now
        if self._leading_since is None:
            self._leading_since = now
        self.expiry.follow(self.replica.facts, raft_term=self.replica.ready_term, now=now)
        self._renew_lease(now)
        if self._in_flight is not None and now - self._in_flight[1] < PROPOSAL_PATIENCE_MS:
            return
        due = self.world.restless or now - self._decided_at >= WHOLE_MS
        whole = self._news or due
        if whole:
            self._news, self._decided_at = False, now
        decision = herd.decide(
            self.replica.facts,
            view=self._view(self._leading_since),
            policy=self.world.policy,
            now=now,
            urgent_only=not whole,
        )
        if not whole and not herd.is_act(decision):
            return
        self._tell("herd", decision.rule, decision.reason)
        self._carry_out(decision, now)

    # -- leases ----------------------------------------------------------------------------------

    @property
    def key(self) -> MemberKey:
        return MemberKey(self.node, self.promises.incarnation)

    def lease_ask(self) -> Ask | None:
        return self.holder.ask(self.now) if leads(self.replica.facts, self.key) else None

    def lease_deadline(self) -> Instant | None:
        """Until when this agent counts on its lease, by its own clock."""
        facts, promise = self.replica.facts, self.promises.promise
        return self.holder.deadline(facts, me=self.key, promise=promise)

    def _renew_lease(self, now: Instant) -> None:
        lease, since = self.replica.facts.lease, self._renewing_since
        heard = self.reports.get(lease.holder.node) if lease is not None else None
        waits = since is not None and now - since < PROPOSAL_PATIENCE_MS
        if heard is None or waits or not self.replica.ready_term:
            return
        wish = leases.renewal(self.replica.facts, heard.report)
        self._renewing_since = now if wish is not None and self.propose(wish) else since

    def _view(self, since: Instant) -> HerdView:
        status = self.replica.status()
        return HerdView(
            me=self.node,
            reports=self.reports,
            since=since,
            phase_since=self._phase_since,
            names_since=self._names_since,
            held_since=self.hold.since,
            unix_ms=self.clock.ms + self.world.nodes[self.node].wall_wrong_ms,
            raft_voters=status.conf.voters,  # type: ignore[arg-type] # plain int
            raft_learners=status.conf.learners,  # type: ignore[arg-type] # plain int
            caught_up=self.replica.caught_up(),
            unanswered_ms=self.replica.unanswered_ms(self.now, since=since),
            leases_over=self.expiry.over(self.replica.facts, now=self.now),
            asking=self._asked.lately(now=Instant(self.clock.ms)),
        )

    def asked(self, node: NodeId, asking: Asking) -> None:
        """A node with amnesia asks to be re-admitted."""
        self._asked.note(node, asking, now=Instant(self.clock.ms))
        self.poke()

    def _carry_out(self, decision: Decision, now: Instant) -> None:
        try:
            if decision.command is not None:
                self._seq += 1
                seen = self.replica.node.applied
                proposal = Proposal(self.client, self._seq, now, decision.command, seen)
                self.replica.propose(proposal)
                self._in_flight = self._seq, now
                self.world.stats.proposals += 1
                self.world.on_event(self.node, decision.command)
            elif decision.transfer_to is not None:
                to = self.world.nodes[decision.transfer_to].raft_id
                self.replica.node.transfer_leader(to)
            elif decision.membership is not None:
                self.replica.change_membership(
                    decision.membership.verb, decision.membership.raft_id
                )
        except ProposalDropped:
            return
        self._pump()

    def propose(self, command: Any) -> bool:
        """An operator's command, given to the Raft leader."""
        if not self.replica.leads:
            return False
        self._seq += 1
        try:
            seen = self.replica.node.applied
            self.replica.propose(Proposal(self.client, self._seq, self.clock.ms, command, seen))
        except ProposalDropped:
            return False
        self._pump()
        return True

    # -- the member decider ----------------------------------------------------------------------

    def _decide_for_me(self, seen: ServerSeen) -> None:
        self._current.doubt(seen.stray)
        if self._acting is not None or self.now < self._act_again_at:
            return
        facts, now = self.replica.facts, self.now
        leader = facts.leader.node if facts.leader is not None else None
        planned = member.decide(
            member.Self(
                me=self.node,
                facts=facts,
                server=seen,
                promises=self.promises,
                policy=self.world.policy,
                now=now,
                leader_report=feeding.fresh(self, leader),
                following_since=self.memory.following_since,
                dead_end=self.memory.dead_end,
                caught_up=self.caught_up,
                removed=self.removed,
                config=config_seen(self),
                has_lease=self.holder.allows(
                    facts, me=self.key, promise=self.promises.promise, now=now
                ),
                **feeding.seen(self, seen),
            )
        )
        self._tell("member", planned.rule, planned.reason)
        if planned.action is not None:
            self._act(planned.action)

    def _act(self, action: act.Action) -> None:
        self._acting = action
        self.world.log(self.node, "does", type(action).__name__)
        self.world.on_event(self.node, action)
        self.clock.spawn(self.proc, acts.ACTS[type(action)](self, action), self._acted)

    def _acted(self, why: Failed | None) -> None:
        action, self._acting = self._acting, None
        if why is not None:
            self.world.log(self.node, f"{type(action).__name__} failed:", why)
            self._act_again_at = self.now + RETRY_MS
        self.poke()

    def take_promises(self, new: Promises) -> None:
        """New promises are durable: they count from now on."""
        self.store.remember()
        self.world.checks.on_promises(self.node, self.promises, new)
        self.world.herd.on_promises(self.node, self.promises, new)
        self.promises = new

    def _tell(self, who: str, rule: int, reason: str) -> None:
        if self._said.get(who) != rule:
            self.world.log(self.node, who, rule, reason)
        self._said[who] = rule
