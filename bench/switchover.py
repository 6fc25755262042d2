"""Measure planned switchovers as clients feel them: `./dev bench switchover [--rounds 20]`.

pgbench runs through the proxies of all nodes with `pool: session`, simple and prepared, while the
primary changes again and again. What counts is what pgbench says: transactions that failed, and by
its own log of every transaction the longest that any took during each switchover (the stall). The
write gap is the longest time in which no client at all was told of a success. One herd on this
machine, with default settings but for `pool`; nothing is limited, so clients compete with the
switchover for the same processors.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import msgspec

from pgherd.proof import layout
from pgherd.proof.herd import LocalHerd
from pgherd.proof.history import percentile

START_DEADLINE_S = 90.0
AROUND_S = 5.0
"""A transaction that ends so soon after a switchover was asked for may have met it."""
REST_S = 2.0
FLUSHED_S = AROUND_S + 4.0
"""pgbench writes its log in blocks, and loses the last of it when it is ended."""

PROTOCOLS = ("simple", "prepared")
GOALS = {"stall": "p99 <= 1.5 s", "gap": "p50 <= 0.8 s, p99 <= 1.5 s"}


class Done(msgspec.Struct, frozen=True):
    """One transaction: when it ended (Unix seconds), and how long it took."""

    at_s: float
    took_s: float


def main(words: list[str]) -> int:
    """Run what was asked for and print one table; 1 when a transaction failed."""
    options = _options(words)
    print(
        f"# {platform.machine()}, {len(os.sched_getaffinity(0))} cores,"
        f" PostgreSQL: {options.postgres_bin}, {options.clients} clients,"
        f" {f'{options.rate} transactions/s' if options.rate else 'as fast as they can'}"
    )
    lines = ["| protocol | switchovers | transactions | failed | stall p50 | p99 | gap p50 | p99 |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    failed = 0
    with LocalHerd(3, postgres_bin=options.postgres_bin) as herd:
        for place in herd.places.values():
            layout.end_sessions_at_proxy(place)
        herd.start()
        herd.wait_stable(START_DEADLINE_S)
        _initialise(herd, scale=options.clients)
        for protocol in options.protocols:
            line, failures = measure(herd, protocol, options)
            lines.append(line)
            failed += failures
    print("\n".join(lines))
    print("goals: 0 failed; " + "; ".join(f"{name} {goal}" for name, goal in GOALS.items()))
    return 1 if failed else 0


def measure(herd: LocalHerd, protocol: str, options: argparse.Namespace) -> tuple[str, int]:
    """All switchovers under one protocol: a line of the table, and how many transactions failed."""
    with tempfile.TemporaryDirectory(prefix="pgherd-bench-") as folder:
        benches = [_pgbench(herd, node, protocol, Path(folder), options) for node in herd.nodes]
        time.sleep(REST_S)
        asked = []
        for number in range(options.rounds):
            before = herd.wait_primary()
            asked.append(time.time())
            herd.switchover()
            herd.wait_primary(other_than=before)
            herd.wait_stable(START_DEADLINE_S)
            time.sleep(REST_S)
            print(f"{protocol} {number + 1}/{options.rounds}", file=sys.stderr, flush=True)
        time.sleep(FLUSHED_S)
        failures = sum(_end(bench) for bench in benches)
        done = sorted(_read(Path(folder)), key=lambda one: one.at_s)
    stalls = [max(one.took_s for one in _around(done, at)) for at in asked]
    gaps = [
        max(after.at_s - before.at_s for before, after in pairwise(_around(done, at)))
        for at in asked
    ]
    cells = [f"{percentile(found, p):.2f} s" for found in (stalls, gaps) for p in (50, 99)]
    line = f"| {protocol} | {len(asked)} | {len(done)} | {failures} | {' | '.join(cells)} |"
    return line, failures


def _around(done: list[Done], asked_s: float) -> list[Done]:
    return [one for one in done if asked_s <= one.at_s <= asked_s + AROUND_S]


def _environment(herd: LocalHerd, node: str) -> dict[str, str]:
    host, port = herd.proxy_of(node)
    return {
        **os.environ,
        "PGHOST": host,
        "PGPORT": str(port),
        "PGUSER": "postgres",
        "PGPASSWORD": herd.secrets.superuser,
        "PGDATABASE": "postgres",
    }


def _program(herd: LocalHerd) -> str:
    server = os.readlink(f"/proc/{herd.postmaster_pid(herd.nodes[0])}/exe")
    return str(Path(server).with_name("pgbench"))


def _initialise(herd: LocalHerd, *, scale: int) -> None:
    words = [_program(herd), "--initialize", "--quiet", "--scale", str(scale)]
    env = _environment(herd, herd.nodes[0])
    subprocess.run(words, env=env, check=True, capture_output=True)


def _pgbench(
    herd: LocalHerd, node: str, protocol: str, folder: Path, options: argparse.Namespace
) -> subprocess.Popen[str]:
    """A third of the clients, through one node's proxy, until they are ended."""
    number, nodes = herd.nodes.index(node), len(herd.nodes)
    clients = options.clients // nodes + (number < options.clients % nodes)
    words = [_program(herd), "--no-vacuum", "--protocol", protocol, "--client", str(clients)]
    words += ["--log", "--log-prefix", str(folder / node), "--time", "86400"]
    if options.rate:
        words += ["--rate", str(options.rate / nodes)]
    return subprocess.Popen(
        words,
        env=_environment(herd, node),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _end(bench: subprocess.Popen[str]) -> int:
    """End one; how many of its clients were told of an error, which ends a client of pgbench."""
    alive = bench.poll() is None
    bench.terminate()
    _, said = bench.communicate(timeout=30)
    errors = [line for line in said.splitlines() if "error" in line]
    if errors:
        print("\n".join(errors), file=sys.stderr)
    return len(errors) or (0 if alive else 1)


def _read(folder: Path) -> list[Done]:
    """Every transaction: pgbench's log, "client no time script epoch us [lag]" in microseconds.

    With a rate the time counts from when it should have begun, by the lag too much.
    """
    found = []
    for path in folder.iterdir():
        for line in path.read_text().splitlines():
            words = line.split()
            if len(words) >= 6:  # the last line may be cut
                at_s = int(words[4]) + int(words[5]) / 1e6
                lag_us = int(words[6]) if len(words) > 6 else 0
                found.append(Done(at_s, (int(words[2]) - lag_us) / 1e6))
    return found


def _options(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench switchover", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="switchovers for each protocol")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument(
        "--rate", type=int, default=0, help="transactions per second in all; 0: any"
    )
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=list(PROTOCOLS))
    parser.add_argument("--postgres-bin", default="auto")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
