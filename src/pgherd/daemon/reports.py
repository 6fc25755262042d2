"""Reports: what the peers said last, and what this node says of itself.

Owns arrival times, so that every node can judge every other's silence by itself, and for how long
members of the sync set have not streamed. Judges nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import msgspec

from pgherd import __version__
from pgherd.model.archive import ArchiveSeen
from pgherd.model.facts import Facts
from pgherd.model.ids import Instant, NodeId
from pgherd.model.lease import Ask
from pgherd.model.observation import Heard, Observation, Server, ServerSeen
from pgherd.model.promises import Promises
from pgherd.model.remedy import Repairs
from pgherd.model.vip import VipSeen
from pgherd.observe.disk import FreeSpace
from pgherd.plan import trial
from pgherd.plan.own import ArchiveUse
from pgherd.plan.trail import Trail

if TYPE_CHECKING:
    from pgherd.config.settings import Tags
    from pgherd.daemon.archiving import Archiving


class Reports:
    """The newest report of each node, with the local time of its arrival."""

    def __init__(self, me: NodeId, *, started: Instant) -> None:
        self.me = me
        self.newest: dict[NodeId, Heard] = {}
        self.awake_since = started
        """Since when this node has been able to hear: a stall of its own is nobody's silence."""
        self._started = started
        self.noloadbalance = self.clonefrom = False
        self.labels: dict[str, str] = {}
        """The operator's wishes; may be replaced at any time."""
        self.beside: Callable[[], Iterable[str]] = tuple
        """What people should know of this node beside what its agent knows."""
        self.archiving: Archiving | None = None
        """Who sees to the archive of WAL, on a node that has a server."""
        self.trail = Trail()
        self._sequence = 0
        self._missing_since: dict[str, Instant] = {}
        self._missing_term = -1
        self._lagging_since: dict[str, Instant] = {}

    def heed(self, tags: Tags) -> None:
        """The operator's wishes for this node that no decision of the herd rests on."""
        self.noloadbalance = tags.noloadbalance or tags.delay_ms > 0
        self.clonefrom = tags.clonefrom
        self.labels = dict(tags.labels)

    def archive_use(self) -> ArchiveUse:
        """What the archive is to this node's decider."""
        return self.archiving.use if self.archiving is not None else ArchiveUse()

    def follow_primary(self, facts: Facts, *, now: Instant) -> None:
        """Note where the primary's WAL ends, by its newest report."""
        heard = self.newest.get(facts.leader.node) if facts.leader is not None else None
        if heard is None or heard.report.server.state is not Server.PRIMARY:
            return
        server = heard.report.server
        if server.position is not None:
            self.trail.note(facts.term, server.wal_end, now=now)

    def take(self, report: Observation, *, now: Instant) -> bool:
        """Keep a peer's report; False for one that only repeats an older state."""
        known = self.newest.get(report.node)
        self.newest[report.node] = Heard(report, now)
        if known is None:
            return True
        blank = {
            "sequence": 0,
            "heard_ms": {},
            "missing_ms": {},
            "lagging_ms": {},
            "uptime_seconds": 0,
            "store_sequence": 0,
            "applied_index": 0,
            "ask": None,
            "lease_left_ms": None,
            "repairs": Repairs(),
        }
        if known.report.ask is None and report.ask is not None:
            return True
        old = msgspec.structs.replace(known.report, **blank)
        return old != msgspec.structs.replace(report, **blank)

    def heard(self, *, within_ms: int, now: Instant) -> dict[NodeId, Observation]:
        """What everybody said within a time, this node included."""
        newest = self.newest.items()
        return {node: one.report for node, one in newest if now - one.at < within_ms}

    def age_ms(self, node: NodeId, *, now: Instant) -> int:
        """How long a node has been silent."""
        heard = self.newest.get(node)
        return now - (heard.at if heard is not None else self._started)

    def missing(self, facts: Facts, server: ServerSeen, *, now: Instant) -> dict[str, int]:
        """For how long each member that counts on it has not streamed from here in this term.

        Those of the sync set, and those that a trial of the configuration watches.
        """
        if facts.term != self._missing_term:
            self._missing_term, self._missing_since = facts.term, {}
        streaming = {
            sender.member
            for sender in server.senders
            if sender.term == facts.term and sender.state == "streaming"
        }
        wanted = {*facts.sync.voters, *facts.sync.names, *trial.watched(facts)}
        for key in wanted:
            if key in streaming:
                self._missing_since.pop(str(key), None)
            else:
                self._missing_since.setdefault(str(key), now)
        gone = set(self._missing_since) - {str(key) for key in wanted}
        for text in gone:
            del self._missing_since[text]
        return {text: now - since for text, since in self._missing_since.items()}

    def lagging(self, facts: Facts, server: ServerSeen, *, now: Instant) -> dict[str, int]:
        """For how long each member of the sync set has been beyond the limit asked for."""
        limit, applies = facts.tuning.max_lag_bytes, facts.tuning.commit == "remote_apply"
        wanted = {*facts.sync.voters, *facts.sync.names} if limit else set()
        slow = {
            str(sender.member)
            for sender in server.senders
            if sender.member in wanted
            and sender.term == facts.term
            and server.insert_lsn - (sender.replay_lsn if applies else sender.flush_lsn) > limit
        }
        before = self._lagging_since
        self._lagging_since = {text: before.get(text, now) for text in slow}
        return {text: now - since for text, since in self._lagging_since.items()}

    def make(
        self,
        *,
        facts: Facts,
        server: ServerSeen,
        promises: Promises,
        applied: int,
        doing: str,
        alarms: tuple[str, ...],
        proxy_healthy: bool,
        witness: bool,
        ask: Ask | None,
        lease_left_ms: int | None,
        fencing: bool,
        space: FreeSpace | None,
        warnings: tuple[str, ...],
        ineligible: str,
        vips: tuple[VipSeen, ...],
        quiet: str,
        repairs: Repairs,
        now: Instant,
    ) -> Observation:
        """This node's report of this moment; kept among the newest as well."""
        self._sequence += 1
        member, archiving = facts.members.get(self.me), self.archiving
        report = Observation(
            node=self.me,
            raft_id=member.raft_id if member is not None else 0,  # type: ignore[arg-type] # none yet
            sequence=self._sequence,
            server=server,
            promises=promises,
            heard_ms={
                node: min(self.age_ms(node, now=now), now - self.awake_since)
                for node in {*self.newest, *facts.members}
                if node != self.me
            },
            missing_ms=self.missing(facts, server, now=now) if facts.is_leader(self.me) else {},
            lagging_ms=self.lagging(facts, server, now=now) if facts.is_leader(self.me) else {},
            applied_index=applied,
            proxy_healthy=proxy_healthy,
            doing=doing,
            progress_percent=repairs.copied.percent if repairs.copied is not None else -1,
            alarms=alarms,
            version=__version__,
            witness=witness,
            uptime_seconds=(now - self._started) // 1000,
            ask=ask,
            lease_left_ms=lease_left_ms,
            fencing=fencing,
            disk_free_bytes=space.free_bytes if space is not None else -1,
            disks=space.disks if space is not None else (),
            warnings=(
                *warnings,
                *self.beside(),
                *(archiving.warnings() if archiving is not None else ()),
            ),
            archive=archiving.seen() if archiving is not None else ArchiveSeen(),
            nostream=self.archive_use().nostream,
            ineligible=ineligible,
            vips=vips,
            quiet=quiet,
            noloadbalance=self.noloadbalance,
            clonefrom=self.clonefrom,
            labels=self.labels,
            repairs=repairs,
        )
        self.newest[self.me] = Heard(report, now)
        return report
