"""Measure the way to the server on the same node: `./dev bench localsocket [--rounds 9]`.

Each engine of ours leads to one PostgreSQL twice: by TCP, and through its Unix socket
(`proxy.local_socket`). Both are up all the time and take turns, in an order that changes with every
round: **ratios to TCP in the same round are the figures**. Loads and accounts are `bench/proxy`'s.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path

from lib import ways_in
from lib.ways_in import Way
from proxy import Load, Turn, bindir, spread

from pgherd.relay.messages import Engine

ENGINES = (Engine.UVLOOP, Engine.PUMP)
Pair = tuple[Engine, bool]
"""An engine, and whether it goes through the socket."""


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench localsocket", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--count", type=int, default=24_000, help="transactions of each turn")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--mode", choices=["simple", "extended", "prepared"], default="simple")
    parser.add_argument("--seed", type=int, default=1, help="of the order")
    return parser.parse_args()


def measure(load: Load, ways: dict[Pair, Way], chosen: argparse.Namespace) -> None:
    """All turns of all ways, and one line for each engine."""
    dice = random.Random(chosen.seed)
    turns: dict[Pair, list[Turn]] = defaultdict(list)
    for way in ways.values():
        load.turn(way, chosen.clients)  # to warm up
    for _ in range(chosen.rounds):
        for pair in dice.sample(list(ways), len(ways)):
            turns[pair].append(load.turn(ways[pair], chosen.clients))
    print(f"{chosen.clients} clients, {chosen.mode}: {chosen.rounds} rounds of {chosen.count}")
    print(f"{'':10} {'cpu us: tcp':>12} {'socket':>8} {'cpu of tcp':>22} {'tps of tcp':>22}")
    for engine in ENGINES:
        tcp, local = turns[engine, False], turns[engine, True]
        cpu = [one.cpu_us / base.cpu_us for one, base in zip(local, tcp, strict=True)]
        tps = [one.tps / base.tps for one, base in zip(local, tcp, strict=True)]
        costs = [statistics.median(one.cpu_us for one in each) for each in (tcp, local)]
        print(f"{engine:10} {costs[0]:12.2f} {costs[1]:8.2f} {spread(cpu)} {spread(tps)}")


async def main() -> None:
    chosen = options()
    programs = bindir()
    with tempfile.TemporaryDirectory(prefix="pgherd-bench-") as name:
        folder = Path(name)
        async with contextlib.AsyncExitStack() as stack:
            server_port = stack.enter_context(ways_in.postgres(folder, programs))
            ways: dict[Pair, Way] = {}
            for engine in ENGINES:
                for sockets in (None, folder / "data"):
                    mine = folder / ("socket" if sockets else "tcp")
                    mine.mkdir(exist_ok=True)
                    way = ways_in.pgherd(mine, engine, server_port, sockets)
                    ways[engine, sockets is not None] = await stack.enter_async_context(way)
            load = Load(programs, folder, chosen)
            await asyncio.to_thread(load.fill, server_port)
            await asyncio.to_thread(measure, load, ways, chosen)
    print(f"load of the machine at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    asyncio.run(main())
