"""Measure the way in: `./dev bench proxy [--rounds 9] [--clients 8 32]`.

Owns the figures of the relay: throughput, processor time of the proxy for each transaction (by the
kernel's account), latency at a fixed rate, and memory with thousands of idle sessions; each engine
of ours beside HAProxy. All ways are up all the time and take turns, in an order that changes with
every round, so that a busy machine is busy for all: **ratios to HAProxy in the same round are the
figures**, absolute ones are for orientation. With `--local` the server's Unix socket is used, by
HAProxy too. Needs pgbench and haproxy (Debian's packages).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import re
import resource
import socket
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from lib import ways_in
from lib.ways_in import Way

from pgherd.proof.history import percentile
from pgherd.relay.messages import Engine

STARTUP = b"\x00\x00\x00\x13\x00\x03\x00\x00user\x00idle\x00\x00"
READY = b"Z\x00\x00\x00\x05I"
SETTLE_S = 3.0
ENGINES = (Engine.UVLOOP, Engine.PUMP, Engine.URING)


@dataclass(frozen=True)
class Turn:
    """What one way did in one turn. tps: transactions a second · cpu_us: of the proxy for each."""

    tps: float
    cpu_us: float


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench proxy", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--count", type=int, default=24_000, help="transactions of each turn")
    parser.add_argument("--clients", type=int, nargs="*", default=[8, 32])
    parser.add_argument("--mode", choices=["simple", "extended", "prepared"], default="simple")
    parser.add_argument("--engines", type=Engine, nargs="*", default=ENGINES)
    parser.add_argument(
        "--local", action="store_true", help="all proxies reach PostgreSQL through its Unix socket"
    )
    parser.add_argument("--rate", type=int, default=4000, help="of the latency turns; 0: none")
    parser.add_argument("--idle", type=int, default=5000, help="idle sessions; 0: none")
    parser.add_argument("--seed", type=int, default=1, help="of the order")
    return parser.parse_args()


def bindir() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"))
    if not found:
        raise SystemExit("bench: no pgbench here: apt-get install postgresql")
    return found[-1].parent


class Load:
    """pgbench's read-only transactions through a way."""

    def __init__(self, programs: Path, folder: Path, chosen: argparse.Namespace) -> None:
        self._pgbench = programs / "pgbench"
        self._folder = folder
        self.chosen = chosen

    def fill(self, port: int) -> None:
        """Make pgbench's tables."""
        self.run(port, "-i", "-q", "-s", "1")

    def turn(self, way: Way, clients: int) -> Turn:
        """As fast as it goes."""
        before = way.cpu_ns()
        said = self.run(way.port, *self._usual(clients))
        cpu_ns = way.cpu_ns() - before
        count = re.search(r"actually processed: (\d+)", said)
        tps = re.search(r"tps = ([\d.]+)", said)
        assert count is not None, said
        assert tps is not None, said
        return Turn(float(tps[1]), cpu_ns / 1000 / int(count[1]))

    def latencies_us(self, way: Way, clients: int) -> list[float]:
        """At the fixed rate: every transaction's, from the moment it was due."""
        prefix = self._folder / "latency"
        self.run(
            way.port, *self._usual(clients), "-R", str(self.chosen.rate),
            "-l", f"--log-prefix={prefix}",
        )  # fmt: skip
        found: list[float] = []
        for file in self._folder.glob("latency.*"):
            found += [float(line.split()[2]) for line in file.read_text().splitlines()]
            file.unlink()
        return found

    def _usual(self, clients: int) -> list[str]:
        chosen = self.chosen
        threads = min(clients, len(os.sched_getaffinity(0)))
        return [
            "-n", "-S", "-M", chosen.mode, "-c", str(clients), "-j", str(threads),
            "-t", str(max(1, chosen.count // clients)),
        ]  # fmt: skip

    def run(self, port: int, *words: str) -> str:
        """What pgbench says at the end."""
        command = [str(self._pgbench), "-h", "127.0.0.1", "-p", str(port), "-U", "postgres"]
        done = subprocess.run(
            [*command, *words, "postgres"], capture_output=True, text=True, cwd=self._folder
        )
        if done.returncode != 0:
            raise SystemExit(f"bench: pgbench failed: {done.stderr}")
        return done.stdout


def take_turns(
    load: Load, ways: list[Way], clients: int, chosen: argparse.Namespace
) -> dict[str, list[Turn]]:
    """What each way did in every round, in an order that changes with the round."""
    dice = random.Random(chosen.seed)
    turns: dict[str, list[Turn]] = defaultdict(list)
    for way in ways:
        load.turn(way, clients)  # to warm up
    for _ in range(chosen.rounds):
        for way in dice.sample(ways, len(ways)):
            turns[way.name].append(load.turn(way, clients))
    return turns


def measure_throughput(
    load: Load, ways: list[Way], clients: int, chosen: argparse.Namespace
) -> None:
    turns = take_turns(load, ways, clients, chosen)
    print(f"\n{clients} clients, {chosen.mode}: {chosen.rounds} rounds of {chosen.count}")
    print(f"{'':10} {'tps':>8} {'of HAProxy':>22} {'cpu us':>8} {'least':>6} {'of HAProxy':>22}")
    for way in ways:
        own, other = turns[way.name], turns["haproxy"]
        tps = [one.tps / base.tps for one, base in zip(own, other, strict=True)]
        line = f"{way.name:10} {statistics.median(one.tps for one in own):8.0f} {spread(tps)}"
        if way.pid:
            cpu = [one.cpu_us / base.cpu_us for one, base in zip(own, other, strict=True)]
            costs = [one.cpu_us for one in own]
            line += f" {statistics.median(costs):8.2f} {min(costs):6.2f} {spread(cpu)}"
        print(line, flush=True)


def spread(ratios: list[float]) -> str:
    """The median, and between what the middle half lies."""
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:7.3f} ({low:5.2f} - {high:5.2f})"


def measure_latency(load: Load, ways: list[Way], clients: int, chosen: argparse.Namespace) -> None:
    dice = random.Random(chosen.seed)
    tails: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for _ in range(chosen.rounds):
        for way in dice.sample(ways, len(ways)):
            found = load.latencies_us(way, clients)
            tails[way.name].append((percentile(found, 50), percentile(found, 99)))
    print(f"\n{clients} clients at {chosen.rate} transactions a second: us")
    print(f"{'':10} {'p50':>8} {'p99':>8} {'p99 of HAProxy':>22}")
    for way in ways:
        own, other = tails[way.name], tails["haproxy"]
        ratios = [one[1] / base[1] for one, base in zip(own, other, strict=True)]
        middles = [statistics.median(one[part] for one in own) for part in (0, 1)]
        print(f"{way.name:10} {middles[0]:8.0f} {middles[1]:8.0f} {spread(ratios)}", flush=True)


async def measure_idle(folder: Path, count: int, engines: list[Engine]) -> None:
    """Memory of a fresh process of each way, before and with idle sessions."""
    print(f"\n{count} idle sessions: MB resident, before and with them")
    with ways_in.silent_server() as server_port:
        for engine in engines:
            async with ways_in.pgherd(folder, engine, server_port) as way:
                await asyncio.to_thread(hold_idle, way, count)
        with ways_in.haproxy(folder, server_port) as way:
            await asyncio.to_thread(hold_idle, way, count)


def hold_idle(way: Way, count: int) -> None:
    before = way.rss_bytes()
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", way.port), 30))
            client.sendall(STARTUP)
            said = b""
            while not said.endswith(READY):
                data = client.recv(4096)
                if not data:
                    raise SystemExit(f"bench: {way.name} turned an idle session away: {said!r}")
                said += data
        time.sleep(SETTLE_S)
        cpu = way.cpu_ns()
        time.sleep(SETTLE_S)
        rest = (way.cpu_ns() - cpu) / 1e9 / SETTLE_S
        with_them = way.rss_bytes()
    each = (with_them - before) / count
    print(
        f"{way.name:10} {before / 1e6:6.1f} {with_them / 1e6:6.1f}   {each / 1e3:5.2f} KB each,"
        f" {rest:.2%} of a core",
        flush=True,
    )


async def main() -> None:
    chosen = options()
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    programs = bindir()
    with tempfile.TemporaryDirectory(prefix="pgherd-bench-") as name:
        folder = Path(name)
        async with contextlib.AsyncExitStack() as stack:
            server_port = stack.enter_context(ways_in.postgres(folder, programs))
            to = (server_port, folder / "data" if chosen.local else None)
            ways = [Way("direct", server_port)]
            ways.append(stack.enter_context(ways_in.haproxy(folder, *to)))
            for engine in chosen.engines:
                ways.append(await stack.enter_async_context(ways_in.pgherd(folder, engine, *to)))
            load = Load(programs, folder, chosen)
            await asyncio.to_thread(load.fill, server_port)
            for clients in chosen.clients:
                await asyncio.to_thread(measure_throughput, load, ways, clients, chosen)
            if chosen.rate and chosen.clients:
                await asyncio.to_thread(measure_latency, load, ways, chosen.clients[0], chosen)
        if chosen.idle:
            await measure_idle(folder, chosen.idle, chosen.engines)
    print(f"\nload of the machine at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    asyncio.run(main())
