"""Measure a crowd at the API: `./dev bench api [--idle 1000] [--slow 200] [--seconds 30]`.

Owns the figures: how late the agent's loop wakes, and how long a health check and `status` take,
with nobody there and with the crowd. A node of a herd on loopback, at default settings.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable

from pgherd.proof.client import ask
from pgherd.proof.crowd import Crowd, fetch, lag_below, loop_lags
from pgherd.proof.herd import LocalHerd
from pgherd.proof.history import percentile


def main(words: list[str]) -> int:
    """Run what was asked for and print one table."""
    parser = argparse.ArgumentParser(prog="bench api")
    parser.add_argument("--idle", type=int, default=1000)
    parser.add_argument("--slow", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--postgres-bin", default="auto")
    options = parser.parse_args(words)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with LocalHerd(3, postgres_bin=options.postgres_bin) as herd:
        herd.start()
        herd.wait_stable(60)
        print("| crowd | loop p99 | /primary p99 | status p99 | kept |")
        print("|---|---|---|---|---|")
        measure(herd, idle=0, slow=0, seconds=options.seconds)
        measure(herd, idle=options.idle, slow=options.slow, seconds=options.seconds)
    return 0


def measure(herd: LocalHerd, *, idle: int, slow: int, seconds: float) -> None:
    """One row of the table."""
    place = herd.places[herd.nodes[0]]
    host, port = place.host, place.ports.api
    crowd = Crowd(host, port)
    before = loop_lags(host, port)
    crowd.come(idle=idle, slow=slow)
    crowd.stay(1)
    kept = crowd.left()
    checks, looks = [], []
    for _ in range(int(seconds)):
        checks.append(timed(lambda: fetch(host, port, "/liveness")))
        looks.append(timed(lambda: look(herd)))
        crowd.stay(1)
    late = lag_below(before, loop_lags(host, port), 0.99)
    crowd.leave()
    cells = (
        f"{idle} idle, {slow} slow",
        f"<= {late * 1000:g} ms",
        f"{percentile(checks, 99) * 1000:.1f} ms",
        f"{percentile(looks, 99) * 1000:.1f} ms",
        str(kept),
    )
    print(f"| {' | '.join(cells)} |")


def look(herd: LocalHerd) -> None:
    """What `pgherd status` asks for."""
    place = herd.places[herd.nodes[0]]
    ask(place.host, place.ports.api, "/api/v1/cluster/status", token=herd.secrets.token)


def timed(do: Callable[[], object]) -> float:
    """Seconds that something took."""
    began = time.monotonic()
    do()
    return time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
