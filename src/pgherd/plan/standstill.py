"""Since when a follower has come no further, though there is something to come to.

Pure: looks go in, times come out. Three clocks, each with a question of its own: whether its leader
lacks it (rule 58), whether it receives nothing (rules 82 and 83), whether it replays nothing.
"""

from __future__ import annotations

from pgherd.model.ids import Instant, Lsn
from pgherd.model.observation import Observation, Server, ServerSeen


class Standstill:
    """Fed with every look at the own server, and what the leader last said of it.

    following_since: since when the leader has not called it streaming, or anything changed ·
    received_since: since when nothing has come while something is missing, or nobody streams ·
    replayed_since: since when what came is not replayed.
    """

    def __init__(self, now: Instant) -> None:
        self.following_since = self.received_since = self.replayed_since = now
        self._upstream: object = None
        self._reached = self._replayed = Lsn(0)

    def look(
        self, seen: ServerSeen, *, streams: bool, leader: Observation | None, now: Instant
    ) -> None:
        """streams: whether the leader says so · leader: its fresh report."""
        replayed = seen.position.lsn if seen.position is not None else Lsn(0)
        received = seen.receiver.flush_lsn if seen.receiver is not None else Lsn(0)
        reached = max(replayed, received)
        upstream = (seen.upstream, seen.upstream_term, seen.fed_at, seen.pid)
        other = upstream != self._upstream or seen.state is not Server.STANDBY
        on = other or reached != self._reached
        end = end_of(leader)
        whole = streams and end is not None and reached >= end
        if on or streams:
            self.following_since = now
        if on or whole or leader is None:
            self.received_since = now
        if other or replayed != self._replayed or replayed >= reached:
            self.replayed_since = now
        self._upstream, self._reached, self._replayed = upstream, reached, replayed


def end_of(leader: Observation | None) -> Lsn | None:
    """How far the leader's durable WAL reached, by its report."""
    position = leader.server.position if leader is not None else None
    return position.lsn if position is not None else None
