"""Measure the pool: `./dev bench pool [--rounds 9] [--clients 8 32 200]`.

Owns the figures of `pool: transaction` beside PgBouncer: throughput, processor time of the pooler
for each transaction, and new connections a second. Both pool as many server connections, both let
clients log in with SCRAM, and all are up all the time and take turns in an order that changes with
every round: **ratios to PgBouncer in the same round are the figures**. Needs pgbench and pgbouncer
(Debian's packages). Loads and accounts are `bench/proxy`'s.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import secrets
import statistics
import subprocess
import tempfile
from pathlib import Path

from lib import ways_in
from lib.ways_in import Way
from proxy import Load, Turn, bindir, spread, take_turns

from pgherd.relay.messages import Engine

OTHER = "pgbouncer"


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench pool", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--count", type=int, default=20_000, help="transactions of each turn")
    parser.add_argument("--clients", type=int, nargs="*", default=[8, 32, 200])
    parser.add_argument("--servers", type=int, default=16, help="server connections of each pool")
    parser.add_argument("--mode", choices=["simple", "extended", "prepared"], default="simple")
    parser.add_argument("--comers", type=int, default=1500, help="connections of a turn; 0: none")
    parser.add_argument(
        "--engines", nargs="*", default=["pump"], help="pump (the shuttle), uvloop (Python)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the order")
    return parser.parse_args()


class Comers(Load):
    """Transactions of which each has a connection of its own."""

    def turn(self, way: Way, clients: int) -> Turn:
        """As fast as it goes."""
        before = way.cpu_ns()
        each = str(max(1, self.chosen.comers // clients))
        said = self.run(
            way.port, "-n", "-S", "-C", "-c", str(clients), "-j", str(clients), "-t", each
        )
        cpu_ns = way.cpu_ns() - before
        tps = re.search(r"tps = ([\d.]+)", said)
        assert tps is not None, said
        return Turn(float(tps[1]), cpu_ns / 1000 / self.chosen.comers)


def measure(load: Load, ways: list[Way], clients: int, chosen: argparse.Namespace) -> None:
    """All turns of all ways, and a line for each."""
    turns = take_turns(load, ways, clients, chosen)
    print(f"{'':10} {'a second':>8} {'of PgBouncer':>22} {'cpu us':>8} {'of PgBouncer':>22}")
    for way in ways:
        own, other = turns[way.name], turns[OTHER]
        tps = [one.tps / base.tps for one, base in zip(own, other, strict=True)]
        line = f"{way.name:10} {statistics.median(one.tps for one in own):8.0f} {spread(tps)}"
        if way.pid:
            cpu = [one.cpu_us / base.cpu_us for one, base in zip(own, other, strict=True)]
            line += f" {statistics.median(one.cpu_us for one in own):8.2f} {spread(cpu)}"
        print(line, flush=True)


def give_password(port: int, password: str, programs: Path) -> str:
    """Let the superuser have one; what PostgreSQL keeps of it."""
    said = ""
    for statement in (
        f"ALTER ROLE postgres PASSWORD '{password}'",
        "SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres'",
    ):
        said = subprocess.run(
            [
                *(programs / "psql", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres"),
                *("-Atqc", statement, "postgres"),
            ],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
    return said.strip()


async def main() -> None:
    chosen = options()
    programs = bindir()
    with tempfile.TemporaryDirectory(prefix="pgherd-bench-") as place:
        folder = Path(place)
        async with contextlib.AsyncExitStack() as stack:
            server_port = stack.enter_context(ways_in.postgres(folder, programs))
            password = secrets.token_hex(8)
            stored = give_password(server_port, password, programs)
            os.environ["PGPASSWORD"] = password
            size = chosen.servers
            ways = [
                Way("direct", server_port),
                stack.enter_context(ways_in.pgbouncer(folder, server_port, stored, size)),
            ]
            for name in chosen.engines:
                pool = ways_in.pgherd_pool(folder, server_port, stored, size, Engine(name))
                ways.append(await stack.enter_async_context(pool))
            load = Load(programs, folder, chosen)
            await asyncio.to_thread(load.fill, server_port)
            for clients in chosen.clients:
                print(f"\n{clients} clients, {chosen.mode}: {chosen.rounds} rounds", flush=True)
                await asyncio.to_thread(measure, load, ways, clients, chosen)
            if chosen.comers:
                print(f"\nnew connections, 4 clients: {chosen.rounds} rounds", flush=True)
                comers = Comers(programs, folder, chosen)
                await asyncio.to_thread(measure, comers, ways, 4, chosen)
    print(f"\nload of the machine at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    asyncio.run(main())
