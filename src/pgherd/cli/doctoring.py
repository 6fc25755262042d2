"""`pgherd doctor`: everything that could go wrong tonight, and what to do about it.

Asks a daemon, which asks all others. Where no daemon answers and this node's configuration is at
hand, the node is looked at by this program itself, and it says so: what only a daemon or the other
nodes know is unknown then. Owns what is printed, and when the exit code is 1.
"""

from __future__ import annotations

import asyncio
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from pgherd.cli.app import Command, Common, asking
from pgherd.cli.client import (
    ANSWER_TIMEOUT_S,
    FAILED,
    ApiError,
    is_sent_elsewhere,
    read_settings,
)
from pgherd.cli.output import Format, emit, line, say
from pgherd.cli.start import find_config
from pgherd.cli.tending import NodesArgument

PATIENCE_S = 60.0
"""A whole check-up writes to disks, logs in at every member, and waits for silent ports."""
MARKS = {"critical": "!!", "warning": "! ", "advice": "- ", "unknown": "? ", "ok": "  "}


class Least(StrEnum):
    """From which kind of finding on the exit code is 1."""

    CRITICAL = "critical"
    WARNING = "warning"
    ADVICE = "advice"


@asking
def doctor(
    common: Common,
    node: NodesArgument = None,
    quick: Annotated[bool, typer.Option("--quick", help="Without what takes time.")] = False,
    show_all: Annotated[bool, typer.Option("--all", help="Show what is well too.")] = False,
    fail_on: Annotated[
        Least, typer.Option("--fail-on", help="Exit code 1 from this kind of finding on.")
    ] = Least.WARNING,
) -> None:
    """Check everything that could go wrong, with what to do about it."""
    found = examine(common, node, quick=quick)
    if common.output is not Format.TABLE:
        emit(found, common.output)
    else:
        show(found, everything=show_all)
    if any(one["status"] in worse(fail_on) for one in found["findings"]):
        raise typer.Exit(FAILED)


def worse(least: Least) -> list[str]:
    """This kind of finding, and those above it."""
    kinds = [one.value for one in Least]
    return kinds[: kinds.index(least.value) + 1]


def examine(common: Common, node: str | None, *, quick: bool) -> dict[str, Any]:
    """A check-up by a daemon, or without one."""
    asked = {"quick": quick, **({"node": node} if node is not None else {})}
    api = common.api()
    try:
        found: dict[str, Any] = api.call(
            "GET", "/api/v1/doctor", params=asked, timeout_s=patience(common)
        )
    except ApiError as error:
        config = find_config(common.config)
        away = is_sent_elsewhere(api_url=common.api_url, context=common.context)
        if error.code != "unreachable" or config is None or away or not readable(config):
            raise
        say(f"pgherd: {error.message}")
        say("  this node alone is looked at, without its daemon")
        return alone(config, node, quick=quick)
    return found


def patience(common: Common) -> float:
    """Longer than other commands, unless a time was named."""
    return PATIENCE_S if common.timeout_s == ANSWER_TIMEOUT_S else common.timeout_s


def readable(path: str) -> bool:
    return os.access(path, os.R_OK)


def alone(config: str, node: str | None, *, quick: bool) -> dict[str, Any]:
    """A check-up of the node of this configuration, by this process."""
    from pgherd.daemon.checkup import without_daemon
    from pgherd.model.errors import OperatorError
    from pgherd.plan.doctor import checks

    settings = read_settings(config)
    if node not in (None, settings.node.name):
        raise OperatorError(
            f"no daemon answers here, and {node} is another node",
            f"type it on {node}, or name an API: --api-url URL",
        )
    facts = asyncio.run(without_daemon(settings, Path(config), quick=quick))
    findings = checks.in_order(checks.of_node(facts))
    return {
        "asked": "",
        "quick": quick,
        "counts": checks.counts(findings),
        "findings": [
            {
                "check": one.check,
                "node": one.node,
                "status": one.status.value,
                "text": one.text,
                "means": checks.BY_ID[one.check].means,
                "fix": one.fix,
            }
            for one in findings
        ],
        "unreached": {},
        "as_of": 0,
    }


def show(found: dict[str, Any], *, everything: bool) -> None:
    """For people: what is red with its meaning and its cure, then what is not known.

    What several nodes have is told once, with each node's words.
    """
    for group in grouped(found["findings"]):
        first = group[0]
        if first["status"] == "ok" and not everything:
            continue
        line(f"{MARKS[first['status']]} {first['status']} {first['check']}")
        texts: dict[str, list[str]] = {}
        for one in group:
            texts.setdefault(one["text"], []).append(one["node"])
        for text, nodes in texts.items():
            where = ", ".join(filter(None, nodes))
            line(f"     {f'{where}: ' if where else ''}{text}")
        if first["status"] in worse(Least.ADVICE):
            line(f"     this means: {first['means']}")
            line(f"     to mend it: {'; '.join(dict.fromkeys(one['fix'] for one in group))}")
    counts = ", ".join(f"{count} {status}" for status, count in found["counts"].items() if count)
    line(f"{len(found['findings'])} findings: {counts}")


def grouped(findings: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Those of one check and status together, in the order of the first of them."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in findings:
        groups.setdefault((one["status"], one["check"]), []).append(one)
    return list(groups.values())


COMMANDS: dict[str, Command] = {"doctor": doctor}
