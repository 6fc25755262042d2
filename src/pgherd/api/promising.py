"""What an acknowledged commit promises, in words: the mode, who votes, what is waited for. Pure."""

from __future__ import annotations

from pgherd.api import schema
from pgherd.model.facts import Facts, Mode, Phase
from pgherd.model.policy import Policy
from pgherd.plan.look import num_sync

PROMISES = {
    Mode.ASYNC: (
        "a commit is on the primary alone; a failover may lose the newest ones, and waits for the"
        " lease of a primary that nobody hears"
    ),
    Mode.QUORUM: "a commit is on the primary and num_sync others, unless the ledger says why not",
    Mode.STRICT: "a commit is on the primary and num_sync others, or it waits",
}


WEAKER = {
    "off": "acknowledged before it is on any disk: a crash of the primary may lose the newest ones",
    "local": "acknowledged once the primary alone has it: a failover may lose the newest ones",
    "remote_write": (
        "acknowledged once standbys have it in memory: what they lose with their power and the"
        " primary with its disk is gone"
    ),
}
"""What a commit is under a synchronous_commit below `on`."""


def promise(facts: Facts) -> str:
    """What an acknowledged commit is worth, as things are set."""
    weaker = WEAKER.get(facts.tuning.commit)
    if weaker is None or (facts.mode is Mode.ASYNC and facts.tuning.commit != "off"):
        return PROMISES[facts.mode]
    return f"a commit is {weaker}"


def warnings(facts: Facts) -> list[str]:
    """That less is promised than the mode says, by somebody's wish."""
    commit = facts.tuning.commit
    if promise(facts) == PROMISES[facts.mode]:
        return []
    return [
        f"synchronous_commit = {commit}: a commit is {WEAKER[commit]};"
        " pgherd sync set --synchronous-commit on"
    ]


def shown(facts: Facts) -> schema.Synchronous:
    """The promise in force, and whether it is less than what is wanted."""
    wanted = 0 if facts.mode is Mode.ASYNC else copies_wanted(facts)
    return schema.Synchronous(
        mode=facts.mode.value,
        mode_wanted=facts.mode_wanted.value if facts.mode_wanted is not None else None,
        voters=[key.node for key in facts.sync.voters],
        num_sync=facts.sync.k,
        wanted=wanted,
        degraded=facts.phase is Phase.STABLE and facts.sync.k < wanted,
    )


def copies_wanted(facts: Facts) -> int:
    """How many others are to have a commit, in a mode that wants any."""
    return num_sync(facts, Policy())


def problems(facts: Facts) -> list[str]:
    """What a mode that is not in force yet, or that holds up an election, waits for."""
    if facts.mode is not Mode.ASYNC:
        return []
    if facts.mode_wanted is not None:
        return [f"mode {facts.mode_wanted.value} waits for a standby that has everything"]
    lease, leader = facts.lease, facts.leader
    if facts.phase is Phase.ELECTING and leader is not None and lease and not lease.expired:
        return [f"unless {leader.node} is heard again, a failover waits for the end of its lease"]
    return []
