"""Measure what a person waits for: `./dev bench commandline [--rounds 20]`.

A herd of three real nodes; then, in turns, the command line's start (`pgherd version`), a whole
`pgherd status`, and what the daemon needs for the answers that status is made of. Processor time is
told beside the clock's, for on a machine that is shared only that is the program's.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict

from pgherd.proof.herd import LocalHerd

ASKED = ("/cluster/status", "/nodes")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench commandline", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    return parser.parse_args()


def command(herd: LocalHerd, *words: str) -> tuple[float, float]:
    """Wall-clock and processor time of one command line, in ms."""
    env = {**os.environ, "PGHERD_TOKEN": herd.secrets.token}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    line = [sys.executable, "-m", "pgherd.cli.main", *words]
    subprocess.run(line, env=env, check=True, stdout=subprocess.DEVNULL, timeout=60)
    took = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return took * 1000, spent * 1000


def main() -> None:
    chosen = options()
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with LocalHerd(3) as herd:
        herd.start()
        herd.wait_stable(60)
        config = str(herd.places[herd.nodes[0]].config)
        for _ in range(chosen.rounds):
            found["pgherd version"].append(command(herd, "version"))
            found["pgherd status"].append(command(herd, "status", "--config", config))
            began = time.perf_counter()
            for path in ASKED:
                herd.ask(path, name=herd.nodes[0])
            took = (time.perf_counter() - began) * 1000
            found["the daemon's part of status"].append((took, 0.0))
    print(f"{chosen.rounds} rounds, ms: median and worst; processor time: median")
    for name, times in found.items():
        wall = sorted(one for one, _ in times)
        spent = statistics.median(one for _, one in times)
        cpu = f"{spent:8.0f}" if spent else f"{'-':>8}"
        print(f"{name:30} {statistics.median(wall):8.1f} {wall[-1]:8.1f} {cpu}")


if __name__ == "__main__":
    main()
