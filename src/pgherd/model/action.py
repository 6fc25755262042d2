"""What a node can be told to do to itself: one tagged value per act, complete in itself.

A plan leaves nothing to choose: everything an actuator needs is in the value. `act` has one
actuator per action; each refuses a term older than the node's promise.
"""

from __future__ import annotations

import msgspec

from pgherd.model.ids import Lsn, MemberKey, NodeId, Position, Term
from pgherd.model.pgconfig import Access
from pgherd.model.standbycluster import Source


class Action(msgspec.Struct, frozen=True, tag=True):
    """The base of all actions; never made itself."""


class InitDb(Action, frozen=True, tag=True):
    """Make a new cluster's first data directory, ready to start as a standby."""


class StartStandby(Action, frozen=True, tag=True):
    """Start the server as a standby without upstream, under closed names.

    delay_ms: it replays nothing that is younger.
    """

    delay_ms: int = 0


class FreeBallast(Action, frozen=True, tag=True):
    """Give the room of the ballast to a server that cannot start on a full disk."""


class Seal(Action, frozen=True, tag=True):
    """Promise a term, stop receiving WAL, drain replay, freeze the position (F2).

    keeps_delay: of a delayed replica: promise and stop receiving, no more; it has no position then.
    """

    term: Term
    elector: NodeId
    keeps_delay: bool = False


class FastForward(Action, frozen=True, tag=True):
    """Within an election take from a sealed holder what is lacking of a target, then seal anew.

    adopted, adopted_leader: the reign that the target is of · stall_ms: given up once nothing has
    come for so long.
    """

    term: Term
    elector: NodeId
    holder: MemberKey
    host: str
    port: int
    target: Position
    adopted: Term
    adopted_leader: NodeId
    stall_ms: int


class Lend(Action, frozen=True, tag=True):
    """As a sealed holder: have the slot through which a candidate takes what it lacks."""

    term: Term
    to: NodeId


class CloseGate(Action, frozen=True, tag=True):
    """On a running primary: promise the term, closed names, client backends terminated.

    or_stop: first, as in HoldWrites, for another one may be elected soon.
    """

    term: Term
    elector: NodeId
    or_stop: bool = False


class DrainAndStop(Action, frozen=True, tag=True):
    """On the old leader of a switchover: promise, close, wait for the candidate, stop, freeze.

    or_stop: as in CloseGate.
    """

    term: Term
    elector: NodeId
    candidate: MemberKey
    limit_ms: int
    or_stop: bool = False


class Fence(Action, frozen=True, tag=True):
    """Run the operator's command against an earlier leader that is not sealed, and tell the ledger.

    address: where its daemon was last known to be reached.
    """

    term: Term
    target: MemberKey
    address: str
    cluster: str
    command: tuple[str, ...]
    deadline_ms: int
    required: bool


class Promote(Action, frozen=True, tag=True):
    """Become primary under closed names and write the epoch record (F6).

    lower: start anew for it with the cluster's parameters, some of which are lower than what the
    old primary had; no standby may have less, so only a server that is promoted can go down.
    """

    term: Term
    expected: Position
    lower: bool = False


class Configure(Action, frozen=True, tag=True):
    """Tell the running server a version of the cluster's configuration.

    parameters: the version's for this member, but for what must wait for others.
    """

    version: int
    parameters: dict[str, str]
    access: Access = Access()


class EnsureRoles(Action, frozen=True, tag=True):
    """On a primary: have the roles and passwords that the ledger wants, as of this mark."""

    mark: str


class KeepLeading(Action, frozen=True, tag=True):
    """A primary that stays leader under a new term: write the epoch record, no promotion."""

    term: Term


class SetNames(Action, frozen=True, tag=True):
    """Tell PostgreSQL the synchronous_standby_names of a generation, and how commits wait."""

    term: Term
    generation: int
    names: str
    commit: str = ""


class HoldWrites(Action, frozen=True, tag=True):
    """On a primary without a synchronous set: closed names, proven; sessions stay and wait.

    Of no term: not acknowledging is right in any. A server that cannot be proven closed at once is
    stopped.
    """


class Settle(Action, frozen=True, tag=True):
    """Do the barriers B1 and B2 for a generation, then report it settled.

    from_empty: the set was empty before, so the switch itself needs the probe under closed names.
    """

    term: Term
    generation: int
    names: str
    members: tuple[MemberKey, ...]
    k: int
    from_empty: bool
    commit: str = ""


class Follow(Action, frozen=True, tag=True):
    """Adopt a leader and stream from it under the term's token (F7).

    source: whose server it is at host and port, where that is another follower's; None: the
    leader's · by_archive: by what it archives alone, without a stream.
    """

    term: Term
    leader: MemberKey
    host: str
    port: int
    source: NodeId | None = None
    by_archive: bool = False


class Fetch(Action, frozen=True, tag=True):
    """As a follower: ask the archive for what the stream does not bring, or no more."""

    term: Term
    leader: MemberKey
    host: str
    port: int
    fetches: bool


class Delay(Action, frozen=True, tag=True):
    """Replay nothing that is younger than this; 0: everything at once."""

    delay_ms: int


class Rewind(Action, frozen=True, tag=True):
    """Persist floor and dirty marker, pg_rewind from the leader, start; rebuild when it cannot."""

    term: Term
    leader: MemberKey
    host: str
    port: int
    floor: Position
    fork_lsn: Lsn


class Rebuild(Action, frozen=True, tag=True):
    """Take a copy beside the old directory and swap it in by rename; then follow the leader.

    source: whose server it is at host and port, the leader's or that of a replica which streams ·
    by_command: the operator's own command may make the copy.
    """

    term: Term
    leader: MemberKey
    host: str
    port: int
    source: NodeId | None = None
    system_id: str = ""
    by_command: bool = False


class RestartReceiver(Action, frozen=True, tag=True):
    """End the walreceiver; the server starts another one by itself."""


class Repoint(Action, frozen=True, tag=True):
    """Name the upstream anew, with passwords and access lines as they are now configured."""

    term: Term
    leader: MemberKey
    host: str
    port: int


class StopServer(Action, frozen=True, tag=True):
    """Stop the server; `fast`, then `immediate`, then SIGKILL of its whole tree."""

    reason: str


class Disown(Action, frozen=True, tag=True):
    """Mark the data directory as one that is never started again as it is, then stop its server.

    Of no term: what it wrote is of none. The directory is copied anew later, and kept aside.
    """

    reason: str


class SlotMade(msgspec.Struct, frozen=True):
    """A slot to be made. reserve: it keeps WAL from now on, not only once it is read from ·
    database, plugin: of a logical one."""

    name: str
    reserve: bool
    database: str = ""
    plugin: str = ""


class KeepSlots(Action, frozen=True, tag=True):
    """Have one physical slot of ours per node, and no slot of ours beyond.

    ignored: left alone, whatever it is called · make, drop: what people asked for · renew: drop and
    make anew · advance: how far each has been read · release: have it keep nothing · feeds: the
    slots through which this standby feeds others.
    """

    nodes: tuple[NodeId, ...]
    ignored: tuple[str, ...] = ()
    make: tuple[SlotMade, ...] = ()
    drop: tuple[str, ...] = ()
    renew: tuple[SlotMade, ...] = ()
    advance: tuple[tuple[str, Lsn], ...] = ()
    release: tuple[str, ...] = ()
    feeds: tuple[str, ...] = ()


class Checkpoint(Action, frozen=True, tag=True):
    """Force a checkpoint: for a switchover (its id) or after a promotion (its term)."""

    term: Term
    switchover: str = ""


class Reload(Action, frozen=True, tag=True):
    """Have the server read its configuration files again, for an operator's work of this id."""

    work: str


class ClearFloor(Action, frozen=True, tag=True):
    """The floor was regained: forget it."""

    term: Term


class Stream(Action, frozen=True, tag=True):
    """In a standby cluster: stream from a source on whose history this server is; see why not."""

    source: Source
    system_id: str


class CopySource(Action, frozen=True, tag=True):
    """In a standby cluster: a new copy of a source, swapped in as by Rebuild.

    system_id: that it must have, "" = any.
    """

    source: Source
    system_id: str


class StandDown(Action, frozen=True, tag=True):
    """On the primary of a cluster that was demoted: no more commits, sessions ended, a clean stop.

    All standbys have everything when it ends. Of no term: not acknowledging is right in any.
    """

    reason: str


class Planned(msgspec.Struct, frozen=True):
    """What the member decider says: an action or none, with rule and reason.

    generation: applied index of the facts it was made from.
    """

    rule: int
    reason: str
    action: Action | None
    generation: int = 0
