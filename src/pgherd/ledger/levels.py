"""Which commands all members of a cluster understand, while their programs are not all the same.

Every program knows a level of the ledger; a member's record says its own, and the ledger's level is
the greatest that every member had at once. It never goes back. A command that came with a later
level is proposed and taken only once the ledger has come to it, so nobody is ever asked to skip
one. Who is behind the ledger's level stops, or is not let in.

A new command gets the next LEVEL, and a line in NEEDS. So does a command, or a value within one,
that is given a new field: fields with their default are left out, so that older programs read them,
and a field that they do not know is an error to them, never skipped.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.model.errors import OperatorError
from pgherd.model.facts import Facts, Kind, Member, Tags
from pgherd.model.upkeep import Verb

LEVEL = 8
"""What this program understands."""
FETCHES = 7
"""From here on reports tell of WAL that was fetched from an archive."""
ACTIONS = 6
"""From here on a switchover and the maintenance of a node are work too."""
DIRECTIVES = 7
"""From here on work knows the term that it was asked for in, and is forgotten after a day."""
STARTS = 7
"""From here on a stopped server is started whatever else waits for its node."""
NEEDS: dict[type, int] = {
    cmd.SetMode: 2,
    cmd.GiveUp: 2,
    cmd.Fenced: 2,
    cmd.FastForward: 3,
    cmd.Hold: 4,
    cmd.SetConfig: 5,
    cmd.FailConfig: 5,
    cmd.Pause: 5,
    cmd.Resume: 5,
    cmd.SetMaintenance: 5,
    cmd.AskWork: 5,
    cmd.TakeInHand: 5,
    cmd.CrossOff: 5,
    cmd.EndWork: 5,
    cmd.EndTrial: 6,
    cmd.RotatePassword: 6,
    cmd.StepPassword: 6,
    cmd.EndOverlap: 6,
    cmd.KeepSlot: 6,
    cmd.DropSlot: 6,
    cmd.ForgetSlot: 6,
    cmd.TuneSync: 6,
    cmd.EndMaintenance: 6,
    cmd.ForgetWork: 7,
    cmd.MakeToken: 7,
    cmd.RevokeToken: 7,
    cmd.RecordAudit: 7,
    cmd.LeadStandby: 7,
    cmd.PromoteCluster: 7,
    cmd.DemoteCluster: 7,
    cmd.BeginDrill: 8,
    cmd.EndDrill: 8,
}
"""The level that a command came with; 1 where it is not named."""
FIELDS: dict[tuple[type, str], int] = {
    (cmd.Elect, "lost"): 2,
    (cmd.Elect, "known_end"): 2,
    (cmd.Elect, "unsealed"): 2,
    (cmd.SetConfig, "primary"): 6,
    (cmd.SetConfig, "replica"): 6,
    (cmd.SetConfig, "nodes"): 6,
    (cmd.SetConfig, "hba"): 6,
    (cmd.SetConfig, "ident"): 6,
    (cmd.SetConfig, "hba_whole"): 6,
    (cmd.SetConfig, "trial_until_ms"): 6,
    (cmd.SetConfig, "streamed"): 6,
    (cmd.Begin, "above"): 6,
    (cmd.AskWork, "source"): 6,
    (cmd.AskWork, "from_leader"): 6,
    (cmd.SetMaintenance, "until_ms"): 6,
    (cmd.SetMaintenance, "id"): 6,
    (cmd.AskWork, "only_pending"): 6,
    (cmd.CrossOff, "passes"): 6,
    (cmd.AskWork, "only_outdated"): 7,
}
"""The level that a field of a command came with, which matters where it is filled."""
KINDS: dict[Kind, int] = {Kind.PROXY: 4}
"""The level that a kind of member came with; 1 where it is not named."""
VERBS: dict[Verb, int] = {Verb.SWITCHOVER: 6, Verb.MAINTENANCE: 6}
"""The same of a verb of work."""
TAGS: dict[str, int] = {"replicatefrom": 7, "delay_ms": 7}
"""The same of a member's tag."""


class TooOld(OperatorError):
    """This program does not understand what the others agreed on; it must not go on without."""

    def __init__(self, what: str) -> None:
        super().__init__(what, "install the pgherd of the other nodes here, then start it again")


class CommandTooNew(OperatorError):
    """A command that some member's program does not understand yet."""

    def __init__(self, command: object, facts: Facts) -> None:
        needed = needed_level(command)
        behind = [node for node, one in sorted(facts.members.items()) if one.level < needed]
        super().__init__(
            f"{type(command).__name__} needs level {needed} of the ledger, it is at {facts.level}",
            f"upgrade pgherd first on: {', '.join(behind) or 'all nodes'}",
        )


def needed_level(command: object) -> int:
    """The level that a command came with, and all that it says."""
    said = [
        level
        for (kind, field), level in FIELDS.items()
        if type(command) is kind and getattr(command, field)
    ]
    kind, verb = getattr(command, "kind", None), getattr(command, "verb", None)
    said += [KINDS.get(kind, 1) if kind else 1, VERBS.get(verb, 1) if verb else 1]
    tags = getattr(command, "tags", None)
    said += [level for tag, level in TAGS.items() if tags and getattr(tags, tag)]
    return max([NEEDS.get(type(command), 1), *said])


def sayable(tags: Tags, level: int) -> Tags:
    """Tags as far as a ledger of this level understands them."""
    later = {field: getattr(Tags(), field) for field, since in TAGS.items() if since > level}
    return msgspec.structs.replace(tags, **later)


def raised(level: int, members: Iterable[Member]) -> int:
    """The ledger's level after a change of members: never less than before."""
    return max(level, min((one.level for one in members), default=level))


def check_level(facts: Facts, level: int) -> None:
    """Raise TooOld where a program of this level must not go on with these facts."""
    if facts.level > level:
        raise TooOld(f"the ledger is at level {facts.level}, this pgherd understands {level}")
