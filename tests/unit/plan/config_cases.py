"""Rows for both deciders' tables about PostgreSQL's parameters."""

from __future__ import annotations

from typing import Any

from plan_values import (
    NOW,
    TERM,
    electing,
    facts,
    key,
    look,
    myself,
    primary,
    replace,
    report,
    sender,
    standby,
    sync,
)

from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import LEVEL
from pgherd.model import action as act
from pgherd.model.facts import Facts
from pgherd.model.ids import NodeId, Term
from pgherd.model.observation import ServerSeen
from pgherd.model.pgconfig import ConfigFailed, ConfigVersion, Running, Trial
from pgherd.model.upkeep import Stopped, Upkeep
from pgherd.plan.own import ConfigSeen, Self
from pgherd.plan.rule import Situation
from pgherd.plan.trial import LOST_MS

HAS: Running = (100, 8, 12, 0, 64)
MORE: Running = (200, 8, 12, 0, 64)
FAILED = ConfigFailed(version=2, why="FATAL: no", ran=1)
OLD = ConfigVersion(version=1, at_ms=0, author="ann", reason="", parameters={})


def version(**parameters: str) -> ConfigVersion:
    """The second version."""
    return replace(OLD, version=2, parameters=parameters)


def configured(known: Facts | None = None, **parameters: str) -> Facts:
    """A ledger whose newest version is the second."""
    return replace(known or facts(), level=LEVEL, config=(OLD, version(**parameters)))


def runs(server: ServerSeen, has: Running = HAS, **changes: Any) -> ServerSeen:
    """A server that was started with the first version."""
    return replace(server, matched=has, config=1, **changes)


def knows(
    number: int, known: Facts, server: ServerSeen, *, others: tuple[Running, ...], **told: str
) -> Self:
    """A node that has heard how the others run, and has told its server these parameters."""
    names = [NodeId(f"n{n}") for n in (1, 2, 3) if n != number]
    seen = ConfigSeen(parameters=told, others=dict(zip(names, others, strict=True)))
    return myself(known, server, me=number, config=seen)


TRIAL = Trial(until_ms=NOW + 5000, term=TERM, streamed=(NodeId("n2"), NodeId("n3")))
TRIED = facts(level=LEVEL, config=(OLD, replace(OLD, version=2, trial=TRIAL)))
BEFORE = Term(2)
RESTS = Upkeep(stopped={NodeId("n3"): Stopped("ann", since_ms=1)})


def tried(known: Facts = TRIED, *, unix_ms: int = NOW, missing_ms: int = 0) -> Situation:
    """A trial; n2 streams, and n3, which is in no sync set, has not for so long (0: it does)."""
    if not missing_ms:
        return look(known, unix_ms=unix_ms)
    known = replace(known, sync=sync(2))
    seen = primary(known, senders=(sender(2),))
    leader = report(1, seen, missing_ms={str(key(3)): missing_ms})
    return look(known, leader, unix_ms=unix_ms)


def since(term: Term) -> Facts:
    """As if the trial had begun in an earlier term."""
    return replace(TRIED, config=(OLD, replace(OLD, version=2, trial=replace(TRIAL, term=term))))


HERD_CASES = (
    ("nobody confirmed a trial in time", 1202, cmd.EndTrial, tried(unix_ms=NOW + 5000)),
    ("a primary failed in a trial", 1203, cmd.EndTrial, tried(since(BEFORE))),
    (
        "the election after a primary that failed in a trial",
        1203,
        cmd.EndTrial,
        look(electing(level=LEVEL, rule=101, config=since(BEFORE).config)),
    ),
    ("a standby is lost in a trial", 1203, cmd.EndTrial, tried(missing_ms=LOST_MS)),
    ("a standby restarts in a trial", 900, None, tried(missing_ms=LOST_MS - 1)),
    (
        "an operator works on a standby in a trial",
        900,
        None,
        tried(replace(TRIED, upkeep=RESTS), missing_ms=LOST_MS),
    ),
    (
        "a server did not start with the newest version",
        1201,
        cmd.FailConfig,
        look(configured(work_mem="8MB"), report(2, runs(standby(), config_failed=FAILED))),
    ),
    (
        "the version that failed is not the newest any more",
        900,
        None,
        look(
            replace(facts(), config=(OLD, version(a="b"), replace(OLD, version=3))),
            report(2, runs(standby(), config_failed=FAILED)),
        ),
    ),
)
MEMBER_CASES = (
    (
        "the primary is told",
        92,
        act.Configure,
        knows(1, configured(work_mem="8MB"), runs(primary()), others=(HAS, HAS)),
    ),
    (
        "a standby is told",
        93,
        act.Configure,
        knows(2, configured(work_mem="8MB"), runs(standby()), others=(HAS, HAS)),
    ),
    (
        "it was told",
        59,
        None,
        knows(
            2,
            configured(work_mem="8MB"),
            replace(runs(standby()), config=2),
            others=(HAS, HAS),
            work_mem="8MB",
        ),
    ),
    (
        "a version that failed here is not tried again",
        59,
        None,
        knows(
            2,
            configured(work_mem="8MB"),
            runs(standby(), config_failed=FAILED),
            others=(HAS, HAS),
        ),
    ),
    (
        "what it has is not known yet",
        48,
        None,
        knows(1, configured(work_mem="8MB"), primary(), others=(HAS, HAS)),
    ),
    (
        "its WAL demands more than it has, and its replay stands",
        91,
        act.StopServer,
        knows(2, facts(), runs(standby(paused=True, demanded=MORE)), others=(HAS, HAS)),
    ),
    (
        "somebody paused its replay",
        59,
        None,
        knows(2, facts(), runs(standby(paused=True, demanded=HAS)), others=(MORE, HAS)),
    ),
)
