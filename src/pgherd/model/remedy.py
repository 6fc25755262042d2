"""What is done about a replica that gets nothing, step by step, and what became of it.

Owns the shape of the steps, of their record and of a copy's progress. Which step comes next is
`plan.remedies`' business, keeping the record `act.book`'s.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from pgherd.model.ids import NodeId


class Step(StrEnum):
    """The remedies, the mildest first."""

    RESTART_RECEIVER = "restart receiver"
    REPOINT = "re-point"
    FETCH = "fetch from archive"
    REWIND = "rewind"
    COPY = "copy"


class Ending(StrEnum):
    """What became of one. CUT: another leader, or the end of the agent, made it pointless."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CUT = "cut short"


class Remedy(msgspec.Struct, frozen=True):
    """One remedy that was begun. rule, reason: of the decision · why: it failed.

    source: from whom a copy is taken · tries: how often in a row, of which this is the newest · by
    the wall clock of its node.
    """

    step: Step
    rule: int
    reason: str
    began_unix_ms: int
    ended_unix_ms: int = 0
    ending: Ending = Ending.RUNNING
    why: str = ""
    source: NodeId | None = None
    tries: int = 1


class Copied(msgspec.Struct, frozen=True):
    """How far a copy or a rewind has come after so many ms, by its program's own word.

    total_bytes is an estimate until the end; it may grow.
    """

    percent: int
    done_bytes: int
    total_bytes: int
    after_ms: int = 0


class Cause(StrEnum):
    """What kind of trouble a receiver tells of. GONE: its leader has removed the WAL it needs ·
    REFUSED: its leader does not let it in, which no copy of data can change.
    """

    UNKNOWN = "unknown"
    GONE = "gone"
    REFUSED = "refused"


class Said(msgspec.Struct, frozen=True):
    """What a server's log says of its receiver, as far as it is known."""

    text: str = ""
    cause: Cause = Cause.UNKNOWN


class Ladder(msgspec.Struct, frozen=True):
    """A follower's present trouble.

    received_ms, replayed_ms: for how long nothing came, and nothing of what came was replayed ·
    tried: what was done since its leader last said that it streams · failed: from whom it could not
    be copied since then · commanded: the operator's own command has made a copy since then.
    """

    received_ms: int = 0
    replayed_ms: int = 0
    said: Said = Said()
    tried: tuple[Step, ...] = ()
    failed: tuple[NodeId, ...] = ()
    commanded: bool = False


class Repairs(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one node says of its own trouble. stuck: why it gets nothing, or replays nothing.

    remedies: the newest few, the newest last.
    """

    stuck: str = ""
    remedies: tuple[Remedy, ...] = ()
    copied: Copied | None = None

    @property
    def running(self) -> Remedy | None:
        """The one that is being done now."""
        last = self.remedies[-1] if self.remedies else None
        return last if last is not None and last.ending is Ending.RUNNING else None
