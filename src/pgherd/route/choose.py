"""Choose a server for a session out of the last snapshot the agent gave.

Owns the shape of the snapshot, how a listener prefers one replica to another, the choice, and the
rule that ends sessions. The snapshot says what
the agent knows; `expires_at` is how long that may be believed for writes: past it no session is
opened to the primary, because another node may have been elected meanwhile. Reads go on with the
last snapshot: a replica never becomes wrong, only late.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum

import msgspec

from pgherd.model.ids import Instant, NodeId, Term
from pgherd.wire.answer import CANNOT_CONNECT_NOW, READ_ONLY

LAG_BYTES_MAX_DEFAULT = 16 * 1024 * 1024


class Route(StrEnum):
    """What a listener promises its clients. AUTO: each statement goes where it belongs."""

    PRIMARY = "primary"
    REPLICA = "replica"
    AUTO = "auto"


class Balance(StrEnum):
    """Which of the replicas that can take a session gets it."""

    LEAST_CONNECTIONS = "least_connections"
    ROUND_ROBIN = "round_robin"


class Preference(msgspec.Struct, frozen=True):
    """How a listener of route `replica` chooses, by the operator's word.

    zone: while a replica of this zone can take a session, no other is asked; "" = all are alike ·
    lag_bytes_max: a replica further behind takes none · falls_back: the primary takes a session
    that no replica can take.
    """

    balance: Balance = Balance.LEAST_CONNECTIONS
    zone: str = ""
    lag_bytes_max: int = LAG_BYTES_MAX_DEFAULT
    falls_back: bool = True


PREFERENCE = Preference()


class Backend(msgspec.Struct, frozen=True):
    """One PostgreSQL server as clients may reach it.

    lag_bytes: behind the primary's last known position, None = not known (then it takes no reads) ·
    usable: the agent's word that it streams and takes sessions · tended: its node is in
    maintenance, and the sessions that it has are to leave · epoch: the term of the last epoch
    record in its WAL, which says whose history it has; 0 = not known.
    """

    name: NodeId
    host: str
    port: int
    lag_bytes: int | None = 0
    usable: bool = True
    zone: str = ""
    tended: bool = False
    epoch: int = 0


class Snapshot(msgspec.Struct, frozen=True, tag=True):
    """Where sessions may go now, as the local agent knows it.

    generation: the agent's count or applied index, for people · term: of the reign that `primary`
    leads, or of the election that goes on while `primary` is None · expires_at: BOOTTIME ms ·
    hold: the switchover for which no transaction is to begin at the primary, "" for none; until
    hold_until (BOOTTIME ms) at most, whatever else is heard · about: why there is no primary, where
    that is as it should be.
    """

    generation: int
    term: Term
    expires_at: Instant
    primary: Backend | None = None
    replicas: tuple[Backend, ...] = ()
    hold: str = ""
    hold_until: Instant = Instant(0)
    about: str = ""

    def holds(self, now: Instant) -> bool:
        """Whether clients of the primary are held."""
        return bool(self.hold) and now < self.hold_until


class NoBackend(msgspec.Struct, frozen=True):
    """No server can take the session now, in PostgreSQL's terms. final: no wait changes that."""

    sqlstate: str
    message: str
    final: bool = False


class Bound(msgspec.Struct, frozen=True):
    """What a session was opened to: a server, the term then, and whether it was the primary."""

    backend: Backend
    term: Term
    to_primary: bool


def choose(
    snapshot: Snapshot | None,
    route: Route,
    *,
    now: Instant,
    counts: Mapping[NodeId, int],
    preference: Preference = PREFERENCE,
    exclude: Collection[NodeId] = (),
    turn: int = 0,
) -> Bound | NoBackend:
    """The server for a new session.

    counts: open sessions per server · exclude: servers that just refused this client · turn: any
    number that grows by one with every choice of a replica; it keeps the rotation.
    """
    if snapshot is None:
        return _none("this proxy has heard nothing from its agent yet")
    if route is not Route.REPLICA:
        return _primary(snapshot, now=now, exclude=exclude)
    able = [one for one in snapshot.replicas if _takes_reads(one, preference, exclude)]
    if able:
        best = _balanced(_near(able, preference.zone), preference.balance, counts, turn)
        return Bound(best, snapshot.term, to_primary=False)
    if not preference.falls_back:
        return _none("no replica can take a session now")
    found = _primary(snapshot, now=now, exclude=exclude)
    if isinstance(found, NoBackend):
        return _none(f"no replica can take a session now, and {found.message}")
    return found


def eligible(
    snapshot: Snapshot | None,
    *,
    preference: Preference = PREFERENCE,
    exclude: Collection[NodeId] = (),
) -> list[Bound]:
    """The replicas among which a session that reads is balanced now; none where it falls back."""
    if snapshot is None:
        return []
    able = [one for one in snapshot.replicas if _takes_reads(one, preference, exclude)]
    return [Bound(one, snapshot.term, to_primary=False) for one in _near(able, preference.zone)]


def superseded(bound: Bound, snapshot: Snapshot) -> bool:
    """Whether a session must be cut: its server led a reign that is over.

    A session to a replica stays, whatever the term. A primary that is merely unknown in its own
    term keeps its sessions: an agent that restarts must not cut anybody.
    """
    if not bound.to_primary or snapshot.term < bound.term:
        return False
    if snapshot.term > bound.term:
        return True
    return snapshot.primary is not None and snapshot.primary.name != bound.backend.name


def rebound(bound: Bound, snapshot: Snapshot) -> Bound:
    """What a session is bound to under a new snapshot.

    PostgreSQL keeps the sessions of a standby through its promotion, and they can write from then
    on: such a session is the new primary's, and ends with its reign.
    """
    primary = snapshot.primary
    if bound.to_primary or primary is None or primary.name != bound.backend.name:
        return bound
    return Bound(bound.backend, snapshot.term, to_primary=True)


def is_newer(snapshot: Snapshot, than: Snapshot | None) -> bool:
    """Whether a proxy may take this snapshot: terms never go back."""
    return than is None or snapshot.term >= than.term


def _primary(snapshot: Snapshot, *, now: Instant, exclude: Collection[NodeId]) -> Bound | NoBackend:
    primary = snapshot.primary
    if primary is None:
        if snapshot.about:
            return NoBackend(READ_ONLY, snapshot.about, final=True)
        return _none(f"the cluster has no primary now (term {snapshot.term})")
    if now >= snapshot.expires_at:
        late = now - snapshot.expires_at
        return _none(f"what this proxy knows of the primary is out of date by {late} ms")
    if snapshot.holds(now):
        return _none(f"clients are held while {primary.name} hands over")
    if not primary.usable:
        return _none(f"the primary {primary.name} takes no sessions now")
    if primary.name in exclude:
        return _none(f"the primary {primary.name} does not accept connections")
    return Bound(primary, snapshot.term, to_primary=True)


def _takes_reads(one: Backend, preference: Preference, exclude: Collection[NodeId]) -> bool:
    if not one.usable or one.name in exclude or one.lag_bytes is None:
        return False
    return one.lag_bytes <= preference.lag_bytes_max


def _near(able: list[Backend], zone: str) -> list[Backend]:
    """Those of our own zone, or all where it has none."""
    return [one for one in able if zone and one.zone == zone] or able


def _balanced(
    able: list[Backend], balance: Balance, counts: Mapping[NodeId, int], turn: int
) -> Backend:
    if balance is Balance.LEAST_CONNECTIONS:
        fewest = min(counts.get(one.name, 0) for one in able)
        able = [one for one in able if counts.get(one.name, 0) == fewest]
    return able[turn % len(able)]


def _none(message: str) -> NoBackend:
    return NoBackend(CANNOT_CONNECT_NOW, message)
