"""The commands of the ledger: one tagged value per fact that can change.

Every command states what it expects to find (a term, a generation), so that a late or repeated one
is refused instead of applied to facts that have moved on.
"""

from __future__ import annotations

import msgspec

from pgherd.ledger.command import Command as Command
from pgherd.ledger.configcommands import EndOverlap as EndOverlap
from pgherd.ledger.configcommands import EndTrial as EndTrial
from pgherd.ledger.configcommands import FailConfig as FailConfig
from pgherd.ledger.configcommands import RotatePassword as RotatePassword
from pgherd.ledger.configcommands import SetConfig as SetConfig
from pgherd.ledger.configcommands import StepPassword as StepPassword
from pgherd.ledger.drillcommands import BeginDrill as BeginDrill
from pgherd.ledger.drillcommands import EndDrill as EndDrill
from pgherd.ledger.keeping import DropSlot as DropSlot
from pgherd.ledger.keeping import ForgetSlot as ForgetSlot
from pgherd.ledger.keeping import KeepSlot as KeepSlot
from pgherd.ledger.keeping import TuneSync as TuneSync
from pgherd.ledger.rightscommands import MakeToken as MakeToken
from pgherd.ledger.rightscommands import RecordAudit as RecordAudit
from pgherd.ledger.rightscommands import RevokeToken as RevokeToken
from pgherd.ledger.standbycommands import DemoteCluster as DemoteCluster
from pgherd.ledger.standbycommands import LeadStandby as LeadStandby
from pgherd.ledger.standbycommands import PromoteCluster as PromoteCluster
from pgherd.ledger.upkeepcommands import AskWork as AskWork
from pgherd.ledger.upkeepcommands import CrossOff as CrossOff
from pgherd.ledger.upkeepcommands import EndMaintenance as EndMaintenance
from pgherd.ledger.upkeepcommands import EndWork as EndWork
from pgherd.ledger.upkeepcommands import ForgetWork as ForgetWork
from pgherd.ledger.upkeepcommands import Pause as Pause
from pgherd.ledger.upkeepcommands import Resume as Resume
from pgherd.ledger.upkeepcommands import SetMaintenance as SetMaintenance
from pgherd.ledger.upkeepcommands import Shift as Shift
from pgherd.ledger.upkeepcommands import TakeInHand as TakeInHand
from pgherd.model.facts import Address, Handover, Kind, Mode, Tags
from pgherd.model.ids import (
    Lsn,
    MemberKey,
    NodeId,
    Position,
    RaftId,
    Term,
    Timeline,
    listed,
)
from pgherd.model.lease import Ask


class ChooseFounder(Command, frozen=True, tag=True):
    """Name the node that makes the first data directory; only while none exists."""

    node: NodeId


class Born(Command, frozen=True, tag=True):
    """The founder's data directory exists: its identity becomes the cluster's."""

    node: NodeId
    incarnation: str
    system_id: str
    major: int


class Begin(Command, frozen=True, tag=True):
    """F1: begin the next term. `expected` is the term that ends.

    above: a term that WAL here is of although the ledger knows nothing of it; 0: there is none.
    """

    expected: Term
    elector: NodeId
    rule: int
    reason: str
    handover: Handover | None = None
    above: Term = Term(0)


class Drained(Command, frozen=True, tag=True):
    """The old leader of a handover has stopped at this position; the others may seal now."""

    term: Term
    elector: NodeId
    position: Position


class Elect(Command, frozen=True, tag=True):
    """F5: name the winner of a term, its voters and its k, and give it a lease of lease_ttl_ms.

    lost_bytes: see Reign · lost: whom an operator gave up, and who would be waited for otherwise ·
    known_end: how far the elector knows that the old leader's WAL reached, where something is lost
    · unsealed: who led and is not sealed since.
    """

    term: Term
    elector: NodeId
    winner: MemberKey
    start: Position
    promoted: bool
    voters: tuple[MemberKey, ...]
    k: int
    rule: int
    reason: str
    lease_ttl_ms: int = 0
    lost_bytes: int | None = None
    lost: tuple[MemberKey, ...] = ()
    known_end: Lsn = Lsn(0)
    unsealed: tuple[MemberKey, ...] = ()


class FastForward(Command, frozen=True, tag=True):
    """F4: in this election a candidate may take from a holder what it lacks of a target."""

    term: Term
    elector: NodeId
    candidate: MemberKey
    holder: MemberKey
    target: Position
    rule: int
    reason: str


class Establish(Command, frozen=True, tag=True):
    """F8: the epoch record is on k voters; the term may acknowledge from now on."""

    term: Term
    timeline: Timeline
    epoch_record_end: Lsn
    names: tuple[MemberKey, ...]


class ChangeSync(Command, frozen=True, tag=True):
    """One step of PROTOCOL.md 4: new store side and new PostgreSQL side together.

    generation: the one this step starts from · settled: the leader reported that generation's
    barrier complete, so older configurations are out of use · mode: the one that was asked for,
    where it comes into force with this step.
    """

    term: Term
    generation: int
    settled: bool
    voters: tuple[MemberKey, ...]
    k: int
    kd: int
    r: int
    names: tuple[MemberKey, ...]
    names_k: int
    rule: int
    reason: str
    mode: Mode | None = None


class RegisterIncarnation(Command, frozen=True, tag=True):
    """A member has a new data directory. Refused while the old one is counted anywhere."""

    node: NodeId
    incarnation: str


class RequestSwitchover(Command, frozen=True, tag=True):
    """Ask for a planned change of primary."""

    id: str
    candidate: NodeId | None
    requested_by: str


class Hold(Command, frozen=True, tag=True):
    """No transaction is to begin at the primary any more: a switchover is about to."""

    id: str
    term: Term
    rule: int
    reason: str


class EndSwitchover(Command, frozen=True, tag=True):
    """A switchover was refused, cancelled or given up; a done one ends with its term's F8."""

    id: str
    outcome: str


class RequestFailover(Command, frozen=True, tag=True):
    """Ask for an election now, with another leader than the present one."""

    id: str
    candidate: NodeId | None
    requested_by: str


class AddMember(Command, frozen=True, tag=True):
    """Admit a node; its Raft id is allocated here and never re-used.

    token: the join token that is used up by this, "" for an operator's command.
    """

    node: NodeId
    kind: Kind
    address: Address
    tags: Tags = Tags()
    token: str = ""
    level: int = 1


class UpdateMember(Command, frozen=True, tag=True):
    """A member's record follows its own file."""

    node: NodeId
    kind: Kind
    address: Address
    tags: Tags
    level: int = 1


class AskLeave(Command, frozen=True, tag=True):
    """Ask a member to leave for good. Refused for the primary and where nobody could go on."""

    node: NodeId
    requested_by: str


class RemoveMember(Command, frozen=True, tag=True):
    """Forget a leaving member that is out of consensus and counted nowhere any more.

    raft_id: the one it was asked under, so that a late command spares its namesake.
    """

    node: NodeId
    raft_id: RaftId


class RegisterStore(Command, frozen=True, tag=True):
    """Which Raft store takes part under a Raft id; said once in the life of that id."""

    node: NodeId
    raft_id: RaftId
    store: str


class Readmit(Command, frozen=True, tag=True):
    """A member lost its Raft store: it goes on under a new Raft id, with this new store.

    raft_id: the one that it forgot for, so that a late command spares its successor.
    """

    node: NodeId
    raft_id: RaftId
    store: str


class IssueToken(Command, frozen=True, tag=True):
    """Make a single-use join token known by its hash."""

    id: str
    secret_sha256: str
    expires_at_unix: int


class SetMode(Command, frozen=True, tag=True):
    """Ask for a mode and a number of copies. From async to another one it waits for a copy."""

    mode: Mode
    num_sync: int
    requested_by: str = ""


class SetMaxVoters(Command, frozen=True, tag=True):
    """Change how many members vote at most; who they are is the herd decider's choice."""

    max_voters: int
    requested_by: str


class GrantLease(Command, frozen=True, tag=True):
    """Give the leader of a term a lease again. expected: id of the expired one, 0 where none is."""

    term: Term
    holder: MemberKey
    expected: int
    ttl_ms: int
    rule: int
    reason: str


class RenewLease(Command, frozen=True, tag=True):
    """The holder of a lease asked for its whole time anew. alone_at: see Lease; mode async only."""

    id: int
    term: Term
    holder: MemberKey
    ask: Ask
    flush_lsn: Lsn
    alone_at: int = 0


class ExpireLease(Command, frozen=True, tag=True):
    """The time of a lease is over, or its holder gave it up. Void if it was renewed meanwhile."""

    id: int
    renew_seq: int
    rule: int
    reason: str


class GiveUp(Command, frozen=True, tag=True):
    """An operator gives members up for lost, with what only they held, in the election of a term.

    known_end: how far the old leader's WAL is known to reach, 0 where it is not · accept_bytes: the
    most of it that may be lost, None for any.
    """

    id: str
    term: Term
    lost: tuple[MemberKey, ...]
    candidate: NodeId | None
    known_end: Lsn
    accept_bytes: int | None
    requested_by: str

    @property
    def reason(self) -> str:
        """The order in words."""
        limit = f", at most {self.accept_bytes} bytes" if self.accept_bytes is not None else ""
        return f"{self.requested_by} gives up {listed(self.lost)} with what only they held{limit}"


class Fenced(Command, frozen=True, tag=True):
    """How a fencing command ended, told by the winner that ran it before its promotion.

    go_on: it failed, and is not required.
    """

    term: Term
    by: NodeId
    target: MemberKey
    done: bool
    go_on: bool
    text: str


AnyCommand = (
    ChooseFounder
    | Born
    | Begin
    | Drained
    | Elect
    | FastForward
    | Establish
    | ChangeSync
    | RegisterIncarnation
    | RequestSwitchover
    | Hold
    | EndSwitchover
    | RequestFailover
    | AddMember
    | UpdateMember
    | AskLeave
    | RemoveMember
    | RegisterStore
    | Readmit
    | IssueToken
    | SetMode
    | SetMaxVoters
    | GrantLease
    | RenewLease
    | ExpireLease
    | GiveUp
    | Fenced
    | SetConfig
    | FailConfig
    | EndTrial
    | RotatePassword
    | StepPassword
    | EndOverlap
    | Pause
    | Resume
    | SetMaintenance
    | AskWork
    | TakeInHand
    | CrossOff
    | EndWork
    | KeepSlot
    | DropSlot
    | ForgetSlot
    | TuneSync
    | EndMaintenance
    | ForgetWork
    | MakeToken
    | RevokeToken
    | RecordAudit
    | LeadStandby
    | PromoteCluster
    | DemoteCluster
    | BeginDrill
    | EndDrill
)


class Proposal(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A command on its way through consensus. (client, seq) makes a retry harmless.

    at_ms: the proposer's wall clock, for history only; no decision reads it · seen: the index that
    its maker had applied, so that whatever became of it is behind that.
    """

    client: str
    seq: int
    at_ms: int
    command: AnyCommand
    seen: int = 0


class Done(msgspec.Struct, frozen=True, tag=True):
    """The command was applied."""

    text: str = ""


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The command changed nothing, and why."""

    code: str
    reason: str


Outcome = Done | Refused
