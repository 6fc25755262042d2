"""The agent: see -> decide -> do, over and over, on one event loop.

Wakes when facts, observations or reports change and now and then by itself; asks the member
decider for this node and, on the Raft leader, the herd decider for all; hands acts to the executor
and commands to consensus. Decides nothing itself and does nothing slow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from pgherd.daemon import cautions, configuring, slotting
from pgherd.daemon.consensus import Consensus, NotLeader
from pgherd.daemon.leasing import Leasing
from pgherd.daemon.ownrecord import OwnRecord
from pgherd.daemon.reports import Reports
from pgherd.daemon.splitbrain import SplitBrain
from pgherd.daemon.trouble import Trouble, told
from pgherd.ledger.commands import AnyCommand, Begin, Refused, RenewLease
from pgherd.ledger.syncset import half_done
from pgherd.model.action import Planned
from pgherd.model.branch import Fork
from pgherd.model.facts import Facts, Phase
from pgherd.model.ids import Instant, MemberKey, NodeId
from pgherd.model.observation import Asking, Heard, HerdView, Observation, Server, ServerSeen
from pgherd.model.pace import LOOP_MS, REPORT_MS
from pgherd.model.policy import Policy
from pgherd.model.remedy import Copied
from pgherd.plan import herd, lapse, leases, member, readmission
from pgherd.plan.asked import Asked
from pgherd.plan.holdclock import HoldClock
from pgherd.plan.leading import FENCES
from pgherd.plan.look import running_ttl
from pgherd.plan.rule import Decision, Situation
from pgherd.plan.standbycluster import standby_leader
from pgherd.store.replica import Applied
from pgherd.telemetry import logs
from pgherd.telemetry.boottime import now_ms, unix_ms

if TYPE_CHECKING:
    from pgherd.act.executor import Executor
    from pgherd.daemon.vips import Vips
    from pgherd.daemon.vitals import VitalsWatch
    from pgherd.daemon.warding import Warding
    from pgherd.observe.server import ServerWatch

log = logs.get("daemon")

EARLY_MS = 50
"""A report may leave so much earlier when the node is awake for a tick of consensus anyway."""
WHOLE_MS = 1000
"""Rules that are not urgent are asked when something happened, and so often by themselves."""
LATE_S = LOOP_MS / 1000
"""The agent looks around after so long even if no tick comes."""
STALL_MS = 1000
"""A loop that was late by this much was stopped: it has to hear the others anew first."""

PROPOSAL_S = 3.0
CATCH_UP_RETRY_S = 2.0
NO_SERVER = ServerSeen()


class Agent:
    """One node's loop. Built by `build`, which gives it its parts."""

    def __init__(
        self,
        *,
        me: NodeId,
        policy: Policy,
        own_record: OwnRecord,
        consensus: Consensus,
        reports: Reports,
        leasing: Leasing,
        warding: Warding,
        split_brain: SplitBrain,
        watch: ServerWatch | None,
        executor: Executor | None,
        send_report: Callable[[Observation], None],
        on_facts: Callable[[Facts], None],
        on_applied: Callable[[Applied], None],
        on_decided: Callable[[Decision], None],
        consistent: Callable[[], Awaitable[bool]],
        proxy_healthy: Callable[[], bool],
        hold: HoldClock,
        vips: Vips | None = None,
        amnesia: Callable[[], str] = lambda: "",
    ) -> None:
        self.me = me
        self.policy = policy
        self.own_record = own_record
        self.consensus = consensus
        self.reports = reports
        self.leasing = leasing
        self.warding = warding
        self.split_brain = split_brain
        self.watch = watch
        self.executor = executor
        self.planned = Planned(0, "starting", None)
        self.decided = Decision(0, "")
        self.stopping = False
        self.trouble = Trouble(executor, now=now_ms()) if executor is not None else None
        self.phase_since = now_ms()
        self.names_since = now_ms()
        self._phase_seen: tuple[object, ...] = ()
        self._names_seen = -1
        self._stray_seen: Fork | None = None
        self._send_report = send_report
        self._on_facts = on_facts
        self._on_applied = on_applied
        self._on_decided = on_decided
        self._consistent = consistent
        self.caught_up = False
        self.removed = False
        self.amnesia = amnesia
        self.asked = Asked()
        self._proxy_healthy = proxy_healthy
        self.hold = hold
        self.vips = vips
        self.vitals: VitalsWatch | None = None
        self._wake = asyncio.Event()
        self._report_due = True
        self._news = True
        self._decided_at = Instant(0)
        self._proposal: asyncio.Task[None] | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._catching: asyncio.Task[None] | None = None
        self._reported_at = Instant(0)
        self._looped_at = now_ms()

    # --- facts and reports arrive ----------------------------------------------------------------

    @property
    def facts(self) -> Facts:
        return self.consensus.replica.facts

    def facts_changed(self, applied: Sequence[Applied]) -> None:
        """Consensus applied something."""
        facts, now = self.facts, now_ms()
        self.leasing.expiry.follow(facts, raft_term=self.consensus.replica.ready_term, now=now)
        if self._only_renewed(applied):
            return
        for each in applied:
            self._on_applied(each)
        drained = facts.handover is not None and facts.handover.drained is not None
        phase = (facts.term, facts.phase, facts.elector, facts.unsealed, drained)
        if phase[:4] != self._phase_seen[:4]:
            self.phase_since = now
        if phase != self._phase_seen:
            self._phase_seen = phase
            self._report_due = True
            if self.executor is not None:
                self.executor.overtaken(facts.term)
        if facts.sync.generation != self._names_seen:
            self._names_seen = facts.sync.generation
            self.names_since = now
        if self.hold.follow(facts, now=now):
            self._report_due = True
        self._on_facts(facts)
        self._stir()

    def _only_renewed(self, applied: Sequence[Applied]) -> bool:
        """Whether nothing happened but that a lease goes on: nobody is woken for that."""
        if not applied or not all(isinstance(a.proposal.command, RenewLease) for a in applied):
            return False
        return self.planned.rule not in lapse.NUMBERS

    def report_arrived(self, report: Observation) -> None:
        """A peer spoke."""
        if self.reports.take(report, now=now_ms()):
            self._stir()

    def observed(self) -> None:
        """The local server looks different, or a promise was saved."""
        self._report_due = True
        self._stir()

    def _stir(self) -> None:
        """Something happened: look at everything."""
        self._news = True
        self._wake.set()

    def ticked(self) -> None:
        """Consensus is awake for its tick: what is due now shares the wake-up and the packets."""
        if self._is_report_due(now_ms()):
            self._wake.set()

    def was_removed(self) -> None:
        """This node is no member any more: it takes part in nothing and tells nobody anything."""
        self.removed = True
        self.consensus.retire()
        self._stir()

    def asks(self, node: NodeId, asking: Asking) -> str:
        """A node with amnesia asks to be re-admitted; what that waits for, as far as we lead."""
        now = now_ms()
        self.asked.note(node, asking, now=now)
        self._stir()
        look = Situation(facts=self.facts, view=self.view(now), policy=self.policy, now=now)
        return readmission.obstacle(look, node)

    def act_finished(self, planned: Planned, done: bool) -> None:
        """The executor is free again."""
        if self.watch is not None:
            self.watch.poke()
        self._report_due = True
        self._stir()

    def is_busy(self) -> bool:
        """Whether things change, so that the server is looked at often."""
        facts, seen = self.facts, self.watch.seen if self.watch is not None else None
        if facts.phase is not Phase.STABLE or facts.switchover is not None:
            return True
        if self.executor is not None and self.executor.is_busy:
            return True
        if seen is not None and seen.state is Server.PRIMARY:
            return half_done(facts.sync) or seen.names_generation != facts.sync.generation
        return seen is not None and (seen.state is not Server.STANDBY or seen.receiver is None)

    # --- the loop --------------------------------------------------------------------------------

    def _learn(self) -> None:
        """Act on nothing that the ledger says until it is known as of now."""
        if self._catching is not None:
            self._catching.cancel()
        self.caught_up = False
        self._catching = asyncio.create_task(self._catch_up(), name="catch-up")

    async def _catch_up(self) -> None:
        """Read through a quorum: our own log may know less than others, or we ourselves, did."""
        while not self.caught_up:
            try:
                self.caught_up = await self._consistent()
            except Exception as error:
                log.error("ledger.unknown", exc_info=error)
                await asyncio.sleep(CATCH_UP_RETRY_S)
        log.info("ledger.caught-up", term=self.facts.term, phase=self.facts.phase.value)
        self._stir()

    async def run(self) -> None:
        """For ever: see, decide, do, tell."""
        self._looped_at = self.reports.awake_since = now_ms()
        if not self.amnesia():
            self._learn()
        while True:
            try:
                async with asyncio.timeout(LATE_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            self._notice_stall()
            self._doubt_timeline()
            self._member_step()
            self._herd_step()
            self._watch_step()
            if not self.removed:
                self.own_record.look(self.facts)
            if self.vips is not None:
                self.vips.look()
            self._tell()

    def _notice_stall(self) -> None:
        now = now_ms()
        late_ms = now - self._looped_at - int(LATE_S * 1000)
        ttl_ms = running_ttl(self.facts, self.policy)
        self.leasing.woke(now, late_ms=late_ms, ttl_ms=ttl_ms, offset_ms=unix_ms() - now)
        if now - self._looped_at > STALL_MS:
            self.reports.awake_since = now
            log.warning("agent.stalled", ms=now - self._looped_at)
        self._looped_at = now

    def copies(self, copied: Copied | None) -> None:
        """A copy or a rewind has come so far; None: none is under way."""
        if self.trouble is not None:
            self.trouble.copied = copied

    def _doubt_timeline(self) -> None:
        """A timeline of no term that is known here: perhaps one that we have not heard of yet."""
        stray = self.watch.seen.stray if self.watch is not None else None
        if stray is not None and stray != self._stray_seen:
            self._stray_seen = stray
            self._learn()

    def _member_step(self) -> None:
        if self.watch is None or self.executor is None or self.trouble is None or self.stopping:
            return
        facts = self.facts
        leads = facts.leader.node if facts.leader is not None else standby_leader(facts)
        now = now_ms()
        fresh = self.reports.heard(within_ms=self.policy.detect_ms, now=now)
        promises = self.consensus.store.promises()
        self.leasing.look(facts, promises, now=now)
        report = fresh.get(leads) if leads is not None else None
        key = MemberKey(self.me, promises.incarnation)
        self.trouble.look(facts, self.watch.seen, key, fresh, now=now)
        self.watch.installed.hear(report)
        planned = member.decide(
            own := member.Self(
                me=self.me,
                facts=facts,
                server=self.watch.seen,
                promises=promises,
                policy=self.policy,
                now=now,
                leader_report=report,
                following_since=self.trouble.still.following_since,
                dead_end=self.executor.dead_end,
                caught_up=self.caught_up,
                removed=self.removed,
                has_lease=self.leasing.has(facts, promises, now=now),
                amnesia=self.amnesia(),
                watchdog=self.warding.lacks(),
                config=configuring.seen(self, now=now),
                ladder=self.trouble.ladder(now=now),
                lenders=self.trouble.lenders(facts, fresh),
                peers=fresh,
                may_go_over=self.trouble.may_go_over,
                slots=slotting.seen(self, now=now),
                archive=self.reports.archive_use(),
            )
        )
        self.trouble.understand(own)
        if (planned.rule, planned.reason) != (self.planned.rule, self.planned.reason):
            log.debug("member.planned", rule=planned.rule, reason=planned.reason)
        self.planned = planned
        until, ttl_ms = self.leasing.deadline(facts, promises), running_ttl(facts, self.policy)
        may = self.warding.before(
            planned.action, self.watch.seen, deadline=until, ttl_ms=ttl_ms, now=now
        )
        if planned.action is None or not may:
            return
        if self.executor.may_start(planned.action):
            self.executor.start(planned)
            self._report_due = True
        else:
            self.executor.make_way(planned.action)

    def view(self, now: Instant) -> HerdView:
        """What the herd decider looks at now."""
        status = self.consensus.replica.status()
        return HerdView(
            me=self.me,
            reports=dict(self.reports.newest),
            since=self.consensus.leader_since,
            phase_since=self.phase_since,
            names_since=self.names_since,
            held_since=self.hold.since,
            unix_ms=unix_ms(),
            raft_voters=tuple(status.conf.voters),  # type: ignore[arg-type] # the core counts in int
            raft_learners=tuple(status.conf.learners),  # type: ignore[arg-type] # the same
            caught_up=self.consensus.replica.caught_up(),
            unanswered_ms=self.consensus.replica.unanswered_ms(
                now, since=self.consensus.leader_since
            ),
            leases_over=self.leasing.expiry.over(self.facts, now=now),
            asking=self.asked.lately(now=now),
        )

    def _herd_step(self) -> None:
        now, raft_term = now_ms(), self.consensus.replica.ready_term
        self.leasing.expiry.follow(self.facts, raft_term=raft_term, now=now)
        if not self.removed and raft_term:
            self._renewal_step(raft_term)
        if self._proposal is not None and not self._proposal.done():
            return
        if self.removed or not self.consensus.is_ready_to_decide():
            self.decided = Decision(0, "")
            return
        if now - self.reports.awake_since < self.policy.detect_ms:
            return
        own = self.reports.newest.get(self.me)
        if own is None or self._report_due or own.at < now - REPORT_MS:
            self._make_report(now)
        whole = self._news or now - self._decided_at >= WHOLE_MS
        view = self.view(now)
        decision = herd.decide(
            self.facts, view=view, policy=self.policy, now=now, urgent_only=not whole
        )
        if whole:
            self._news, self._decided_at = False, now
        elif not herd.is_act(decision):
            return
        self._on_decided(decision)
        self.decided = decision
        if decision.transfer_to is not None:
            self.consensus.transfer(self.facts.members[decision.transfer_to].raft_id)
        if decision.membership is not None:
            change = decision.membership
            self.consensus.change_membership(change.verb, change.raft_id)
        if decision.command is not None:
            self._proposal = asyncio.create_task(
                self._propose(decision.command, raft_term), name="propose"
            )

    def _renewal_step(self, raft_term: int) -> None:
        """Renew the primary's lease as its report asks; beside decisions, which need not wait."""
        lease = self.facts.lease
        heard = self.reports.newest.get(lease.holder.node) if lease is not None else None
        if heard is None or (self._renewal is not None and not self._renewal.done()):
            return
        command = leases.renewal(self.facts, heard.report)
        if command is not None:
            self._renewal = asyncio.create_task(self._renew(command, raft_term), name="renew")

    async def _renew(self, command: RenewLease, raft_term: int) -> None:
        try:
            async with asyncio.timeout(PROPOSAL_S):
                outcome = await self.consensus.submit(command, raft_term=raft_term)
        except (NotLeader, TimeoutError) as error:
            log.debug("renewal.lost", reason=str(error))
            return
        if isinstance(outcome, Refused):
            log.info("renewal.refused", holder=command.holder.node, reason=outcome.reason)

    async def _propose(self, command: AnyCommand, raft_term: int) -> None:
        try:
            async with asyncio.timeout(PROPOSAL_S):
                outcome = await self.consensus.submit(command, raft_term=raft_term)
        except (NotLeader, TimeoutError) as error:
            log.info("proposal.lost", command=type(command).__name__, reason=str(error))
            return
        except Exception as error:
            log.error("proposal.broken", command=type(command).__name__, exc_info=error)
            return
        finally:
            self._stir()
        if isinstance(outcome, Refused):
            log.warning(
                "proposal.refused",
                command=type(command).__name__,
                code=outcome.code,
                reason=outcome.reason,
            )
        elif isinstance(command, Begin):
            log.info("term.begun", term=self.facts.term, rule=command.rule, reason=command.reason)

    def _watch_step(self) -> None:
        self.reports.follow_primary(self.facts, now=now_ms())
        applied = self.consensus.replica.node.applied
        self.split_brain.watch(self.facts, self.reports.newest, applied=applied, now=now_ms())

    # --- telling ---------------------------------------------------------------------------------

    def _make_report(self, now: Instant) -> Observation:
        planned, executor, vips = self.planned, self.executor, self.vips
        current = executor.current if executor is not None else None
        failure = executor.failure if executor is not None else ""
        server = self.watch.seen if self.watch is not None else None
        facts, promises = self.facts, self.consensus.store.promises()
        alarms = [failure] if failure else []
        if server is not None and server.settings_problem:
            alarms.append(server.settings_problem)
        return self.reports.make(
            facts=facts,
            server=server or NO_SERVER,
            promises=promises,
            applied=self.consensus.replica.node.applied,
            doing=current.reason if current is not None else planned.reason,
            alarms=tuple(alarms),
            proxy_healthy=self._proxy_healthy(),
            witness=self.watch is None,
            fencing=planned.rule == FENCES or (executor is not None and executor.hands.preparing()),
            warnings=tuple(cautions.of(self, facts, now=now)),
            vips=vips.seen() if vips is not None else (),
            quiet=self.hold.quiet(),
            repairs=told(self.trouble),
            ineligible=self.warding.lacks() or (executor.hands.veto() if executor else ""),
            space=self.watch.space if self.watch is not None else None,
            ask=self.leasing.ask(facts, promises, now=now),
            lease_left_ms=self.leasing.left_ms(facts, promises, now=now),
            now=now,
        )

    def _tell(self) -> None:
        now = now_ms()
        silent = self.removed or self.amnesia()
        if silent or not (self._report_due or self._is_report_due(now)):
            return
        self._report_due, self._reported_at = False, now
        self._send_report(self._make_report(now))

    def _is_report_due(self, now: Instant) -> bool:
        return now - self._reported_at >= REPORT_MS - EARLY_MS

    def heard(self) -> dict[NodeId, Heard]:
        """Every node's newest report, with this node's of this moment."""
        self._make_report(now_ms())
        return dict(self.reports.newest)
