"""Rows for both deciders' tables about passwords that change."""

from __future__ import annotations

from typing import Any

from plan_values import NOW, facts, look, myself, primary, replace, report, standby

from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import LEVEL
from pgherd.model import action as act
from pgherd.model.credentials import Credential, Stage, Which, mark
from pgherd.model.facts import Facts
from pgherd.plan.rule import Situation

UNTIL = NOW + 60_000


def changing(stage: Stage, which: Which = Which.REPLICATION) -> Facts:
    """A ledger in which a first change is at a stage."""
    one = Credential(1, "f1", stage=stage, until_ms=UNTIL)
    return facts(level=LEVEL, credentials={which: one})


def heard(known: Facts, *, roles: str | None = None, silent: int = 0, **more: Any) -> Situation:
    """All members know the secrets but one; the primary has its roles as of a mark."""
    wanted = mark(known.credentials)
    servers = {1: primary(roles=wanted if roles is None else roles), 2: standby(), 3: standby()}
    reports = [
        report(number, replace(server, logins="" if number == silent else wanted))
        for number, server in servers.items()
    ]
    return look(known, *reports, **more)


MADE, BOTH = changing(Stage.MADE), changing(Stage.BOTH)
OTHER = standby(receiver=None, former_login=True)
HERD_CASES = (
    ("the primary has a new password", 1204, cmd.StepPassword, heard(MADE)),
    (
        "the primary has the superuser's new password",
        1204,
        cmd.StepPassword,
        heard(changing(Stage.MADE, Which.SUPERUSER)),
    ),
    ("the primary does not have it yet", 900, None, heard(MADE, roles="")),
    ("both passwords are valid for a while", 900, None, heard(BOTH, unix_ms=UNTIL - 1)),
    ("the former one's time is over", 1205, cmd.StepPassword, heard(BOTH, unix_ms=UNTIL)),
    ("a member lacks the new one", 1205, None, heard(BOTH, unix_ms=UNTIL, silent=3)),
)
MEMBER_CASES = (
    (
        "the primary makes the roles",
        1301,
        act.EnsureRoles,
        myself(MADE, primary(logins=mark(MADE.credentials))),
    ),
    ("it has to learn the secret first", 1301, None, myself(MADE, primary())),
    (
        "it made them",
        48,
        None,
        myself(MADE, primary(roles=mark(MADE.credentials), logins=mark(MADE.credentials))),
    ),
    ("a stream was lost under a former role", 1302, act.Follow, myself(BOTH, OTHER, me=2)),
    (
        "a stream goes on under a former role",
        59,
        None,
        myself(BOTH, standby(former_login=True), me=2),
    ),
)
