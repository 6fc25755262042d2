"""No failover where nothing fails: `./dev bench falsealarm [--minutes 10] [--stall-ms 1000]`.

Keeps every processor busy and stops agents at random for up to a stall, one or more at a time, for
minutes, under a load of writes; then counts the terms that began. Everything runs at default
settings, on loopback. One failover is one too many: the exit code is 1 then, or when a row is lost.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise

from pgherd.proof.herd import LocalHerd
from pgherd.proof.history import Outcome
from pgherd.proof.processes import send
from pgherd.proof.trials import conclude
from pgherd.proof.writers import Writers, create_table

START_DEADLINE_S = 90.0
WHOLE_DEADLINE_S = 90.0
STALL_MS_LEAST = 100
CALM_S = (0.2, 2.0)
"""Between two stalls, drawn between these."""

BUSY = """
import os, sys
while os.getppid() == int(sys.argv[1]):
    for _ in range(1_000_000):
        pass
"""
"""Ends by itself when whoever started it is gone."""


def main(words: list[str]) -> int:
    """Do it and print what came of it."""
    options = _options(words)
    cores = len(os.sched_getaffinity(0))
    print(f"# {cores} cores busy, stalls of up to {options.stall_ms} ms, seed {options.seed}")
    with LocalHerd(options.nodes, postgres_bin=options.postgres_bin) as herd:
        herd.start()
        herd.wait_stable(START_DEADLINE_S)
        create_table(herd.dsn_direct())
        with Writers(herd.dsn_direct()) as writers:
            writers.start()
            before = herd.status()["epoch"]
            with busy(options.per_core * cores):
                stalls = stall(herd, options)
            herd.wait_stable(WHOLE_DEADLINE_S)
            terms = herd.status()["epoch"] - before
            report = conclude(herd, writers, [])
            history = writers.history()
        for event in begun(herd):
            print(event)
    acknowledged = sorted(
        each.finished for each in history.attempts if each.outcome is Outcome.ACKNOWLEDGED
    )
    gap = max(b - a for a, b in pairwise(acknowledged))
    print(f"{options.minutes:g} minutes, {stalls} stalls of agents: {terms} terms begun (goal 0)")
    print(f"longest time without an acknowledgement: {gap:.2f} s; {report.verdict}")
    return 0 if report.verdict.clean and not terms else 1


def stall(herd: LocalHerd, options: argparse.Namespace) -> int:
    """Stop agents at random and let them go on, until time is up; how often."""
    chance, stalls = random.Random(options.seed), 0
    until = time.monotonic() + 60 * options.minutes
    while time.monotonic() < until:
        names = chance.sample(herd.nodes, chance.randint(1, len(herd.nodes)))
        pids = [pid for name in names if (pid := herd.part_pid(name, "agent")) is not None]
        send(pids, signal.SIGSTOP)
        try:
            time.sleep(chance.randint(STALL_MS_LEAST, options.stall_ms) / 1000)
        finally:
            send(pids, signal.SIGCONT)
        stalls += len(pids)
        time.sleep(chance.uniform(*CALM_S))
    return stalls


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """So many loops that never sleep."""
    argv = [sys.executable, "-c", BUSY, str(os.getpid())]
    loops = [subprocess.Popen(argv) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def begun(herd: LocalHerd) -> list[str]:
    """Why terms began, as a node's log has it."""
    lines = herd.places[herd.nodes[0]].log.read_text(errors="replace").splitlines()
    return [line for line in lines if "term.begun" in line]


def _options(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench falsealarm", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--stall-ms", type=int, default=1000, help="the longest stall")
    parser.add_argument("--per-core", type=int, default=1, help="busy loops on each processor")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--postgres-bin", default="auto")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
