"""The public form of a check-up: part of the contract."""

from __future__ import annotations

from typing import Any, Literal

from pgherd.api.shape import Model, NodeName

Status = Literal["ok", "critical", "warning", "advice", "unknown"]


class Finding(Model):
    """One check. node: "" of all of them together · means: what waits if nothing is done.

    fix: the command or change that mends it; "" where nothing is red.
    """

    check: str
    node: str
    status: Status
    text: str
    means: str
    fix: str


class Counts(Model):
    """How many checks ended how. critical, warning, advice: something is wrong."""

    critical: int
    warning: int
    advice: int
    unknown: int
    ok: int


class Checkup(Model):
    """All findings, what is worst first. unreached: nodes that did not answer, and why.

    asked: the node that put it together · as_of: index in consensus up to which it has applied.
    """

    asked: NodeName
    quick: bool
    counts: Counts
    findings: list[Finding]
    unreached: dict[str, str]
    as_of: int


class CheckupFacts(Model):
    """What the checks of one node look at, as the node itself gathered it; without secrets."""

    node: NodeName
    facts: dict[str, Any]
