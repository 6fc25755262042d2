"""Measure failover on this machine: `./dev bench failover [--rounds 5] [--via direct|proxy]`.

Owns the figures that the README shows: write outages by kind of fault, rows acknowledged and lost,
cold start, memory and processor time at rest. Everything runs at default settings, on loopback, in
a directory that is removed at the end. Leaves the meaning of a fault and of "lost" to
`pgherd.proof`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from enum import StrEnum
from pathlib import Path

from lib.awake import kept_awake, wake_cost_us
from lib.hardships import Hardship, Hardships
from lib.netns import CutHerd, enter_own_network

from pgherd.proof.herd import LocalHerd
from pgherd.proof.history import Outcome, percentile
from pgherd.proof.trials import Fault, Report, Trial, attempt, conclude
from pgherd.proof.writers import Pace, Writers, create_table

WRITERS = 4
IMPATIENT = Pace(statement_deadline_s=1.0, connect_deadline_s=0.5)
"""Where an old primary hangs, the patience of clients would be all that is measured."""

REST_S = 20.0
SETTLE_S = 5.0
WAKE_S = 5.0
START_DEADLINE_S = 60.0
TARGETS_S: dict[StrEnum, str] = {
    Fault.POSTMASTER: "<= 1.0 s",
    Fault.NODE: "<= 3.0 s",
    Fault.SWITCHOVER: "<= 1.5 s",
    Fault.AGENT: "no outage",
    Hardship.ISOLATED: "<= 3.0 s",
    Hardship.FROZEN_NODE: "<= 3.0 s",
    Hardship.FROZEN_AGENT: "<= 3.0 s",
    Hardship.NO_QUORUM: "no outage",
}


def main(words: list[str]) -> int:
    """Run what was asked for and print one table; 1 when a row was lost."""
    options = _options(words)
    postgres = options.postgres_bin
    print(f"# {platform.machine()}, {_cores()} cores, PostgreSQL: {postgres}, via {options.via}")
    cuts = Hardship.ISOLATED in options.kinds
    if cuts:
        enter_own_network()
    starts = [] if options.no_start else cold_starts(options.rounds, postgres_bin=postgres)
    make = CutHerd if cuts else LocalHerd
    with make(options.nodes, postgres_bin=postgres) as herd:
        herd.start()
        starts.append(herd.wait_stable(START_DEADLINE_S))
        rest = [] if options.no_rest else at_rest(herd)
        hardships = Hardships()
        report = failovers(
            herd, kinds=options.kinds, rounds=options.rounds, via=options.via, hardships=hardships
        )
    lines = [
        *outage_lines(report),
        *hardship_lines(hardships),
        *start_lines(starts),
        *rest_lines(rest),
    ]
    print("\n".join(lines))
    if options.json:
        options.json.write_text(json.dumps({"starts_s": starts, "rest": rest, "lines": lines}))
    return 0 if report.verdict.clean and not hardships.twice else 1


def cold_starts(rounds: int, *, postgres_bin: str) -> list[float]:
    """Seconds from empty directories to full redundancy, initdb included."""
    found = []
    for _ in range(rounds - 1):
        with LocalHerd(postgres_bin=postgres_bin) as herd:
            herd.start()
            found.append(herd.wait_stable(START_DEADLINE_S))
    return found


def failovers(
    herd: LocalHerd, *, kinds: list[StrEnum], rounds: int, via: str, hardships: Hardships
) -> Report:
    """Every kind of fault so many times, in turn, under one load that never stops."""
    dsn = herd.dsn_direct() if via == "direct" else herd.dsn_proxy()
    create_table(dsn)
    trials: list[Trial] = []
    pace = IMPATIENT if any(isinstance(kind, Hardship) for kind in kinds) else Pace()
    with Writers(dsn, count=WRITERS, pace=pace) as writers:
        writers.start()
        for number in range(rounds):
            for kind in kinds:
                act = hardships.act(kind) if isinstance(kind, Hardship) else None
                trials.append(attempt(herd, writers, kind, act=act))
                _tell(f"{number + 1}/{rounds} {kind}: {trials[-1].before} -> {trials[-1].after}")
        return conclude(herd, writers, trials, others=hardships.histories)


def at_rest(herd: LocalHerd) -> list[dict[str, float]]:
    """What the daemons' processes of each node cost while nobody writes.

    cpu_percent: of a core, with the processors kept awake · cpu_asleep_percent: on the machine as
    it is, where a bare wake-up costs wake_us (`lib.awake`).
    """
    time.sleep(SETTLE_S)
    with kept_awake():
        work = cpu_percents(herd)
    wake_us = wake_cost_us(WAKE_S)
    asleep = cpu_percents(herd)
    found = []
    for name in herd.nodes:
        now = herd.usage(name)
        found.append(
            {
                "processes": now.processes,
                "rss_mb": now.rss_bytes / 1e6,
                "pss_mb": now.pss_bytes / 1e6,
                "cpu_percent": work[name],
                "cpu_asleep_percent": asleep[name],
                "wake_us": wake_us,
            }
        )
    return found


def cpu_percents(herd: LocalHerd) -> dict[str, float]:
    """Percent of a core that each node's daemon takes."""
    before = {name: herd.usage(name).cpu_s for name in herd.nodes}
    time.sleep(REST_S)
    return {name: 100 * (herd.usage(name).cpu_s - before[name]) / REST_S for name in herd.nodes}


def outage_lines(report: Report) -> list[str]:
    """One line per kind of fault, and the account of all rows."""
    lines = ["| fault | n | outage p50 | p99 | max | slowest writer max | goal (p50) |"]
    lines.append("|---|---|---|---|---|---|---|")
    for kind in (*Fault, *Hardship):
        pairs = zip(report.trials, report.outages, strict=True)
        mine = [outage for trial, outage in pairs if trial.fault is kind]
        if not mine:
            continue
        outages = [outage.seconds for outage in mine]
        cells = [f"{percentile(outages, p):.2f} s" for p in (50, 99, 100)]
        slowest = max(outage.slowest_writer for outage in mine)
        lines.append(
            f"| {kind} | {len(mine)} | {' | '.join(cells)} | {slowest:.2f} s | {TARGETS_S[kind]} |"
        )
    wholes = [trial.redundant_s for trial in report.trials]
    lines.append("")
    lines.append(
        f"full redundancy after: p50 {percentile(wholes, 50):.1f} s, max {max(wholes):.1f} s"
    )
    lines.append(f"writes over {len(report.trials)} faults in a row: {report.verdict}")
    return lines


def hardship_lines(hardships: Hardships) -> list[str]:
    """What the writers that spoke to the old primaries alone were told."""
    if not hardships.histories:
        return []
    attempts = [each for history in hardships.histories for each in history.attempts]
    acknowledged = sum(each.outcome is Outcome.ACKNOWLEDGED for each in attempts)
    return [
        f"at the old primaries alone: {acknowledged} acknowledged of {len(attempts)} attempted, in"
        f" the account above; {hardships.twice} of them after a successor's first"
    ]


def start_lines(starts: list[float]) -> list[str]:
    """The line about cold starts."""
    return [
        f"cold start to full redundancy, initdb included: n {len(starts)},"
        f" p50 {percentile(starts, 50):.1f} s, max {max(starts):.1f} s (goal <= 10 s)"
    ]


def rest_lines(rest: list[dict[str, float]]) -> list[str]:
    """The line about memory and processor time; the worst node counts."""
    if not rest:
        return []
    worst = {key: max(node[key] for node in rest) for key in rest[0]}
    return [
        f"a node's pgherd processes at rest: {worst['processes']:.0f} processes,"
        f" {worst['rss_mb']:.0f} MB RSS, {worst['pss_mb']:.0f} MB PSS,"
        f" {worst['cpu_percent']:.2f} % of a core (goal <= 110 MB RSS, <= 1.5 %);",
        f"on this machine as it is {worst['cpu_asleep_percent']:.2f} %, where waking up ten times"
        f" a second alone costs a process {worst['wake_us']:.0f} us each",
    ]


def _options(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench failover", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="times that each fault is tried")
    parser.add_argument("--via", choices=["direct", "proxy"], default="direct")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--postgres-bin", default="auto")
    parser.add_argument(
        "--kinds",
        type=_kind,
        nargs="+",
        default=list(Fault),
        choices=[*Fault, *Hardship],
        help="those that last (frozen-node: a minute) are only done when they are named",
    )
    parser.add_argument("--no-start", action="store_true", help="skip the extra cold starts")
    parser.add_argument("--no-rest", action="store_true", help="skip the look at rest")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    return parser.parse_args(words)


def _kind(word: str) -> StrEnum:
    return Hardship(word) if word in list(Hardship) else Fault(word)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
