"""What every actuator works with, and the checks they share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec

from pgherd.ledger.commands import AnyCommand, Outcome
from pgherd.ledger.lineage import attributed
from pgherd.model.action import Planned
from pgherd.model.facts import Reign
from pgherd.model.ids import Lsn, MemberKey, NodeId, Position, Term, slot_name
from pgherd.model.pgconfig import EMPTY, ConfigVersion
from pgherd.model.promises import Promises
from pgherd.model.remedy import Copied
from pgherd.postgres.look import Look
from pgherd.postgres.memory import ServerMemory
from pgherd.postgres.server import PostgresServer
from pgherd.telemetry import logs

log = logs.get("act")


class StaleAct(Exception):
    """The action belongs to a term below the promise: it must not be done any more."""


class ActFailed(Exception):
    """The action could not be completed; `hopeless` when doing it again will not help."""

    def __init__(self, reason: str, *, hopeless: bool = False) -> None:
        super().__init__(reason)
        self.hopeless = hopeless


class Cloning(msgspec.Struct, frozen=True):
    """How a copy is made. max_rate_bytes: in a second, 0 = no limit · command: () = none."""

    max_rate_bytes: int = 0
    command: tuple[str, ...] = ()


async def nothing_to_prepare(_: Term) -> str:
    """There is nothing before a promotion, so nothing refuses it."""
    return ""


@dataclass(slots=True)
class Hands:
    """The local server, the promises, and who we are.

    uncut: the act in progress has come to a part that must not be cut short · submit: a command
    through consensus · fenced: whom a fencing command of this process was successful for · at_rest:
    to be called once nothing is acknowledged alone any more, for who keeps a deadline · config: the
    newest version of the cluster's configuration · logins: as of which changes of passwords the
    ledger wants roles · cloning: how copies are made, may be replaced at any time · commanded: to
    be called once the operator's command has made one · tell: an event of this node, by kind and
    words · acted: an act has ended, how, why and after how many ms · prepare: has what an operator
    wants done before a promotion, and says why it is refused · preparing: whether that is under way
    · veto: why this member must not lead since it refused · fetch: PostgreSQL's command by which
    WAL comes from the archive, "" where none does · nostream: this node follows by that alone.
    """

    me: NodeId
    server: PostgresServer
    memory: ServerMemory
    promises: Callable[[], Promises]
    save: Callable[[Promises], Awaitable[None]]
    history: Callable[[], tuple[Reign, ...]]
    new_incarnation: Callable[[], str]
    progress: Callable[[Copied | None], None]
    submit: Callable[[AnyCommand], Awaitable[Outcome]]
    seal_timeout_s: float = 20.0
    start_deadline_s: float = 30.0
    stop_timeout_s: float = 3.0
    patient_stop_s: float = 60.0
    rewound_start_s: float = 300.0
    uncut: bool = False
    fenced: set[tuple[Term, MemberKey]] = field(default_factory=set)
    at_rest: Callable[[], None] = lambda: None
    config: Callable[[], ConfigVersion] = lambda: EMPTY
    logins: Callable[[], str] = str
    cloning: Cloning = field(default_factory=Cloning)
    commanded: Callable[[], None] = lambda: None
    tell: Callable[[str, str], None] = lambda kind, text: None
    acted: Callable[[Planned, str, str, int], None] = lambda planned, ending, why, ms: None
    prepare: Callable[[Term], Awaitable[str]] = nothing_to_prepare
    preparing: Callable[[], bool] = lambda: False
    veto: Callable[[], str] = str
    fetch: str = ""
    nostream: bool = False

    @property
    def key(self) -> MemberKey:
        return MemberKey(self.me, self.promises().incarnation)

    def guard(self, term: Term) -> None:
        """Refuse an act of a term below the promise."""
        promise = self.promises().promise
        if promise > term:
            raise StaleAct(f"term {promise} was promised; an act of term {term} is not done")

    def may_promise(self, term: Term, elector: NodeId) -> None:
        """Refuse an act of a term that was promised to somebody else, or of one below."""
        now = self.promises()
        self.guard(term)
        if now.promise == term and now.promise_elector not in (None, elector):
            raise StaleAct(f"term {term} was promised to {now.promise_elector}")

    async def promise(self, term: Term, elector: NodeId) -> None:
        """Save a promise before anything depends on it; a term goes to one elector only."""
        self.may_promise(term, elector)
        now = self.promises()
        if now.promise < term or now.promise_elector is None:
            await self.save(
                msgspec.structs.replace(now, promise=term, promise_elector=elector, frozen=None)
            )

    async def change(self, **fields: object) -> None:
        """Save some promises anew."""
        await self.save(msgspec.structs.replace(self.promises(), **fields))

    def position(self, seen: Position) -> Position:
        """A position by the epoch records in the WAL and by whom this member adopted."""
        return attributed(self.history(), self.promises().adopted, seen)

    def conninfo(self, host: str, port: int, term: Term) -> str:
        """How this member streams from a leader in a term."""
        return self.server.upstream(host=host, port=port, token=self.key.token(term))

    @property
    def slot(self) -> str | None:
        """Through which slot it streams; who does so for a moment alone has none."""
        return None if self.nostream else slot_name(self.me)


def flushed(look: Look, tokens: set[str], lsn: Lsn) -> int:
    """How many walsenders with one of these tokens have flushed up to a position."""
    done = {s.token for s in look.senders if s.token in tokens and s.flush_lsn >= lsn}
    return len(done)
