"""Which node a load balancer may lead clients to: what each health check asks for. Pure.

Owns the conditions of `/replica`, `/sync` and the others with all that can be asked for beside
(`lag`, `replication_state`, `mode`, `tag_x`). Their meaning is Patroni's; where ours is stricter,
ours counts: a replica that does not stream from the leader of this epoch is no good one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from pgherd.api import distance, following, patroniviews, views
from pgherd.api.failures import Problem
from pgherd.api.views import Seen
from pgherd.config.units import parse_size_bytes

TAG = "tag_"
Kind = Literal["any", "sync", "quorum", "async"]


class Wish(msgspec.Struct, frozen=True):
    """What is asked for beside the role. lag_bytes_max: None for any · written: of the WAL that is
    received, not replayed · replication_state: None for any."""

    lag_bytes_max: int | None = None
    written: bool = False
    replication_state: str | None = None
    tags: dict[str, str] = {}


def wish(query: Mapping[str, str]) -> Wish:
    """What a query asks for; a Problem where it cannot be understood."""
    return Wish(
        lag_bytes_max=lag_of(query.get("lag")),
        written=query.get("mode") == "write",
        replication_state=query.get("replication_state"),
        tags={key.removeprefix(TAG): text for key, text in query.items() if key.startswith(TAG)},
    )


def lag_of(text: str | None) -> int | None:
    """`?lag=` in bytes or with a unit."""
    if text is None:
        return None
    try:
        return int(text) if text.isascii() and text.isdigit() else parse_size_bytes(text)
    except (ValueError, OverflowError) as error:
        raise Problem(400, "bad_request", f"lag: {error}", hint="write ?lag=16MB") from error


def leads(seen: Seen) -> bool:
    """Whether this node is the established primary, and no other can have been elected since."""
    return views.is_primary(seen, seen.me) and views.is_assured(seen)


def leads_standbys(seen: Seen) -> bool:
    """Whether this node leads a cluster that follows another one, and its server runs."""
    leads = following.is_standby_leader(seen.facts, seen.me)
    return leads and following.runs(seen.fresh(seen.me))


def is_replica(seen: Seen, wanted: Wish, kind: Kind = "any") -> bool:
    """Whether this node is a streaming replica of a kind that takes reads, and as is wished."""
    report = seen.fresh(seen.me)
    if report is None or report.noloadbalance or leads_standbys(seen) or not serves(seen, wanted):
        return False
    member = seen.facts.members[seen.me]
    is_sync = patroniviews.is_sync(seen, member)
    is_waited_for = patroniviews.is_waited_for(seen, member)
    return {
        "any": True,
        "sync": is_sync,
        "quorum": is_waited_for,
        "async": not is_waited_for,
    }[kind] and patroniviews.tags_match(seen, wanted.tags)


def serves(seen: Seen, wanted: Wish) -> bool:
    """Whether this node streams, within the lag that is asked for, in that state."""
    if wanted.replication_state not in (None, patroniviews.STREAMING):
        return False  # what does not stream is no replica here
    if not serves_reads(seen, lag_bytes_max=None if wanted.written else wanted.lag_bytes_max):
        return False
    return not wanted.written or has_received(seen, wanted.lag_bytes_max)


def serves_reads(seen: Seen, *, lag_bytes_max: int | None) -> bool:
    """Whether this node is a replica that streams, within an asked-for lag."""
    member, report = seen.facts.members.get(seen.me), seen.fresh(seen.me)
    here = [report] if report is not None else []
    serves = views.is_streaming(seen, seen.me) or following.serves(seen.facts, here)
    if member is None or not serves or not here or not here[0].server.healthy:
        return False
    lag = distance.lag_bytes(seen, member)
    return lag_bytes_max is None or (lag is not None and lag <= lag_bytes_max)


def has_received(seen: Seen, lag_bytes_max: int | None) -> bool:
    """Whether what this standby has received is within a lag of the primary's end."""
    report, end = seen.fresh(seen.me), distance.primary_lsn(seen)
    receiver = report.server.receiver if report is not None else None
    if lag_bytes_max is None:
        return True
    return receiver is not None and end is not None and end - receiver.flush_lsn <= lag_bytes_max


def takes_reads(seen: Seen, wanted: Wish, kind: Kind = "any") -> bool:
    """Whether reads may come here: to the primary too."""
    if leads(seen) or leads_standbys(seen):
        return patroniviews.tags_match(seen, wanted.tags)
    return is_replica(seen, wanted, kind)


def is_ready(seen: Seen, wanted: Wish) -> bool:
    """Whether clients may be sent: PostgreSQL is primary or streams; a witness is heard."""
    member = seen.facts.members.get(seen.me)
    if member is None or not views.is_healthy(seen, member):
        return False
    return leads(seen) or wanted.lag_bytes_max is None or serves(seen, wanted)
