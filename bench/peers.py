"""Measure pgherd beside Patroni with etcd and HAProxy: `./dev bench peers [--rounds 3]`.

Three nodes of each on this machine, with the same PostgreSQL, the same parameters as far as both
set them, and the same writers, who come in through the primary's port of any node: ours with
`pool: session`, as `pgherd init` writes it, theirs a HAProxy per node. Four parts:

- outages: per round every system once, alone on the machine, in an order that changes: cold start,
  then every kind of fault under load, then the rows are looked for on all nodes;
- rest: memory and processor time of all that is not PostgreSQL, per node;
- ways: both systems up, transactions through each way in and past it, in turns;
- latency: the same at a fixed rate.

`--into FILE` adds the rounds to those of earlier runs, `--show FILE` prints their tables alone.
Patroni is installed into a virtual environment of its own. Needs Debian's postgresql, etcd-server
and haproxy, and pgbouncer for one of the ways. Leaves what a fault is to `pgherd.proof`.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from failover import REST_S, SETTLE_S, START_DEADLINE_S, cpu_percents
from lib import patroni_files as files
from lib import ways_in
from lib.awake import kept_awake
from lib.patroni import PatroniHerd
from lib.patroni_files import VARIANTS
from lib.peer_record import Record
from lib.ways_in import Way
from proxy import Load, bindir

from pgherd.proof import layout, processes
from pgherd.proof.herd import LocalHerd
from pgherd.proof.history import percentile
from pgherd.proof.trials import Fault, Trial, attempt, conclude
from pgherd.proof.writers import Pace, Writers, create_table

OURS = "pgherd"
THEIRS = "patroni"
PARTS = ("outages", "rest", "ways", "latency")
FAULTS = (Fault.POSTMASTER, Fault.NODE, Fault.SWITCHOVER)
LOADS = {"select": "-S", "update": "-N"}
"""name -> pgbench's script: one SELECT; UPDATE, SELECT and INSERT in one transaction."""
FILL_SCALE = 8
PACED_S = 2.0
"""Of a turn at the fixed rate."""
KINDS = {"ways": "turns", "latency": "latencies"}
ROOT = Path(__file__).resolve().parents[1]
OWN_SETTINGS = (
    *("application_name", "cluster_name", "config_file", "data_directory", "external_pid_file"),
    *("hba_file", "ident_file", "port", "primary_conninfo", "primary_slot_name"),
    *("synchronous_standby_names", "unix_socket_directories", "listen_addresses"),
)
"""Names, places and who waits for whom: what differs between any two nodes."""
SETTINGS = "SELECT name, setting FROM pg_settings"


def main(words: list[str]) -> int:
    """Run what was asked for and print the tables; 1 when ours lost a row."""
    chosen = _options(words)
    if chosen.show:
        print("\n".join(Record(chosen.show).lines()))
        return 0
    bench = Bench(chosen)
    record = bench.record
    for number in range(chosen.rounds):
        order = bench.dice.sample(chosen.systems, len(chosen.systems))
        for system in order:
            if "outages" in chosen.parts or "rest" in chosen.parts:
                bench.visit(system)
        _tell(f"round {number + 1} of {chosen.rounds}")
    if "ways" in chosen.parts or "latency" in chosen.parts:
        bench.take_ways()
    print("\n".join(record.lines()))
    mine = [one for one in record.found["visits"] if one["system"] == OURS]
    return 1 if any(one["lost"] or one["odd"] for one in mine) else 0


class Bench:
    """One run: its options, programs and order."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        self.chosen = chosen
        self.bin = bindir()
        self.dice = random.Random(chosen.seed)
        self.record = Record(chosen.into)
        files.program("etcd", "etcd-server")
        files.program("haproxy", "haproxy")
        self._patroni = files.installed(chosen.patroni.absolute(), files.postgres_user())
        self.record.add(
            "runs",
            {
                "at": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
                "commit": _commit(),
                "command": "./dev bench peers " + " ".join(sys.argv[1:]),
                "versions": self._versions(),
                "settings_differ": {},
            },
        )

    def herd(self, system: str, *, ways: bool = False) -> LocalHerd:
        """Three nodes of a system, not started yet. ways: with every way in that is compared."""
        if system != OURS:
            return PatroniHerd(VARIANTS[system], patroni=self._patroni, postgres_bin=self.bin)
        herd = LocalHerd(3, postgres_bin=self.bin)
        for place in herd.places.values():
            _give_ways_in(place, all_of_them=ways)
        return herd

    # --- outages and rest ------------------------------------------------------------------------

    def visit(self, system: str) -> None:
        """One system alone on the machine: from nothing, through all faults, to its rows."""
        with self.herd(system) as herd:
            began = time.monotonic()
            herd.start()
            herd.wait_stable(START_DEADLINE_S)
            cold_s = time.monotonic() - began
            _tell(f"{system}: redundant after {cold_s:.1f} s")
            if "rest" in self.chosen.parts:
                self._rest(system, herd)
            if "outages" in self.chosen.parts:
                self.record.add("visits", {"system": system, "cold_s": cold_s, **self._break(herd)})

    def _rest(self, system: str, herd: LocalHerd) -> None:
        """What every node costs while nobody writes, with the processors kept awake."""
        time.sleep(SETTLE_S)
        with kept_awake():
            cpu = cpu_percents(herd)
        for name in herd.nodes:
            now = herd.usage(name)
            one = {
                "system": system,
                "cpu_percent": cpu[name],
                "pss_mb": now.pss_bytes / 1e6,
                "rss_mb": now.rss_bytes / 1e6,
                "parts_pss_mb": _parts_pss_mb(herd, name),
            }
            self.record.add("rest", one)
        _tell(f"{system}: at rest over {REST_S:.0f} s, the last node {one}")

    def _break(self, herd: LocalHerd) -> dict[str, Any]:
        """Every kind of fault once, under one load; then the account of all rows."""
        dsn = herd.dsn_proxy()
        create_table(dsn)
        trials: list[Trial] = []
        unconnected = []
        pace = Pace(writes_per_second=self.chosen.rate_of_writes)
        with Writers(dsn, count=self.chosen.writers, pace=pace) as writers:
            writers.start()
            for fault in self.dice.sample(FAULTS, len(FAULTS)):
                before = writers.history().connect_failures
                trials.append(attempt(herd, writers, fault))
                unconnected.append(writers.history().connect_failures - before)
                _tell(f"  {fault}: {trials[-1].before} -> {trials[-1].after}")
            report = conclude(herd, writers, trials)
        verdict = report.verdict
        _tell(f"  {', '.join(f'{one.seconds:.2f} s' for one in report.outages)}; {verdict}")
        return {
            "acknowledged": verdict.acknowledged,
            "lost": len(verdict.lost),
            "odd": len(verdict.duplicated) + len(verdict.phantom),
            "verdict": str(verdict),
            "trials": [
                {
                    "fault": str(trial.fault),
                    "outage_s": outage.seconds,
                    "ended": outage.ended,
                    "refused": outage.refused,
                    "unknown": outage.indeterminate,
                    "unconnected": failures,
                    "redundant_s": trial.redundant_s,
                }
                for trial, outage, failures in zip(trials, report.outages, unconnected, strict=True)
            ],
        }

    # --- ways in ---------------------------------------------------------------------------------

    def take_ways(self) -> None:
        """Both systems up, and every way of both in turns."""
        with ExitStack() as stack:
            herds = {
                name: stack.enter_context(self.herd(name, ways=True)) for name in (OURS, THEIRS)
            }
            for herd in herds.values():
                herd.start()
            for herd in herds.values():
                herd.wait_stable(START_DEADLINE_S)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pgherd-bench-")))
            folder.chmod(0o755)
            primaries = {name: herd.wait_primary() for name, herd in herds.items()}
            self._compare_settings(herds, primaries)
            ways = _ways(herds, primaries)
            if self.chosen.servers:
                ways.append(_behind_pgbouncer(stack, herds, folder, self.chosen.servers))
            _let_in(folder, herds, ways)
            for herd, name in ((herds[one], primaries[one]) for one in herds):
                fill = Load(self.bin, folder, self.chosen)
                fill.run(herd.server_of(name)[1], "-i", "-q", "-s", str(FILL_SCALE))
            for load in self.chosen.loads:
                self._turns(load, folder, ways)

    def _turns(self, name: str, folder: Path, ways: list[Way]) -> None:
        """As fast as it goes, and at the fixed rate."""
        chosen = self.chosen
        count, rate = getattr(chosen, f"{name}s"), getattr(chosen, f"rate_of_{name}s")
        fast = Script(self.bin, folder, name, count=count, rate=rate)
        paced = Script(self.bin, folder, name, count=int(rate * PACED_S), rate=rate)
        for way in ways:
            fast.turn(way, chosen.clients)  # to warm up
        kinds = [kind for part, kind in KINDS.items() if part in chosen.parts]
        known = [one["round"] for kind in kinds for one in self.record.found[kind]]
        first = max(known, default=-1) + 1
        for number in range(first, first + chosen.turns):
            for way in self.dice.sample(ways, len(ways)):
                one = {"load": name, "way": way.name, "direct": _direct(way), "round": number}
                if "ways" in chosen.parts:
                    self.record.add("turns", {**one, "tps": fast.turn(way, chosen.clients).tps})
                if "latency" in chosen.parts:
                    took = paced.latencies_us(way, chosen.clients)
                    tails = {f"p{part}_us": percentile(took, part) for part in (50, 99)}
                    self.record.add("latencies", {**one, **tails})
            _tell(f"{name}: round {number - first + 1} of {chosen.turns}")

    def _compare_settings(self, herds: dict[str, LocalHerd], primaries: dict[str, str]) -> None:
        """Which parameters of PostgreSQL differ, for who wants to judge whether it matters."""
        found: dict[str, dict[str, object]] = defaultdict(dict)
        for system, herd in herds.items():
            for name, setting in herd.query(primaries[system], SETTINGS):
                found[str(name)][system] = setting
        differ = {
            name: values
            for name, values in sorted(found.items())
            if len(set(values.values())) > 1 and name not in OWN_SETTINGS
        }
        self.record.found["runs"][-1]["settings_differ"] = differ
        _tell(f"parameters that differ: {differ}")

    def _versions(self) -> list[str]:
        commands = {
            "PostgreSQL": [str(self.bin / "postgres"), "--version"],
            "Patroni": [str(self._patroni), "--version"],
            "etcd": [files.program("etcd", "etcd-server"), "--version"],
            "HAProxy": [files.program("haproxy", "haproxy"), "-v"],
        }
        if pgbouncer := shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin"):
            commands["PgBouncer"] = [pgbouncer, "--version"]
        said = [
            subprocess.run(words, capture_output=True, text=True, cwd="/").stdout.splitlines()[0]
            for words in commands.values()
        ]
        machine = f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores"
        return [machine, f"Linux {platform.release()}", *said]


class Script(Load):
    """One of pgbench's own scripts."""

    def __init__(self, programs: Path, folder: Path, name: str, *, count: int, rate: int) -> None:
        chosen = argparse.Namespace(count=count, rate=rate, mode="simple")
        super().__init__(programs, folder, chosen)
        self.name = name

    def _usual(self, clients: int) -> list[str]:
        words = super()._usual(clients)
        return [LOADS[self.name] if word == "-S" else word for word in words]


def _give_ways_in(place: layout.Place, *, all_of_them: bool) -> None:
    """The ports that `pgherd init` would write, and two more for the comparison of ways."""
    more = place.ports.raft + 1
    pools = {place.ports.proxy_primary: "session"}
    if all_of_them:
        pools |= {more: "none", more + 1: "transaction"}
    listeners = [{"port": port, "route": "primary", "pool": pool} for port, pool in pools.items()]
    listeners.append({"port": place.ports.proxy_replica, "route": "replica", "pool": "none"})
    changes = {"proxy": {"listeners": listeners}}
    layout.write_settings(place, layout.merge(layout.read_settings(place), changes))


def _ways(herds: dict[str, LocalHerd], primaries: dict[str, str]) -> list[Way]:
    """Direct connections and every way in, each at the primary's own node."""
    mine = herds[OURS].places[primaries[OURS]].ports
    other = herds[THEIRS].places[primaries[THEIRS]].ports
    return [
        Way(f"{OURS}: direct", mine.postgres),
        Way(f"{OURS}: pool session (default)", mine.proxy_primary),
        Way(f"{OURS}: pool none", mine.raft + 1),
        Way(f"{OURS}: pool transaction", mine.raft + 2),
        Way(f"{THEIRS}: direct", other.postgres),
        Way(f"{THEIRS}: HAProxy", other.proxy_primary),
    ]


def _behind_pgbouncer(
    stack: ExitStack, herds: dict[str, LocalHerd], folder: Path, size: int
) -> Way:
    """A PgBouncer whose server is their HAProxy."""
    herd = herds[THEIRS]
    primary = herd.wait_primary()
    ask = "SELECT rolpassword FROM pg_authid WHERE rolname = 'postgres'"
    [[stored]] = herd.query(primary, ask)
    port = herd.places[primary].ports.proxy_primary
    way = stack.enter_context(ways_in.pgbouncer(folder, port, str(stored), size))
    return Way(f"{THEIRS}: PgBouncer, then HAProxy", way.port, way.pid)


def _direct(way: Way) -> str:
    return f"{way.name.partition(':')[0]}: direct"


def _let_in(folder: Path, herds: dict[str, LocalHerd], ways: list[Way]) -> None:
    """Both systems' passwords where libpq finds them, by port."""
    file = folder / "pgpass"
    lines = [
        f"*:{way.port}:*:postgres:{herds[way.name.partition(':')[0]].secrets.superuser}\n"
        for way in ways
    ]
    file.touch(mode=0o600)
    file.write_text("".join(lines))
    os.environ["PGPASSFILE"] = str(file)


def _parts_pss_mb(herd: LocalHerd, name: str) -> dict[str, float]:
    """Memory by program, where a node has several."""
    if not isinstance(herd, PatroniHerd):
        return {}
    found: dict[str, float] = defaultdict(float)
    for process in herd.parts(name):
        found[process.name] += processes.usage([process]).pss_bytes / 1e6
    return dict(found)


def _commit() -> str:
    words = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    return subprocess.run(words, capture_output=True, text=True).stdout.strip() or "no git here"


def _options(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench peers", description=__doc__)
    systems = (OURS, *VARIANTS)
    parser.add_argument("--rounds", type=int, default=3, help="of outages and rest")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--systems", nargs="+", choices=systems, default=list(systems))
    parser.add_argument("--into", type=Path, help="add the rounds to those in this file")
    parser.add_argument(
        "--show", type=Path, help="print the tables of such a file, and that is all"
    )
    parser.add_argument("--writers", type=int, default=4, help="clients during the faults")
    parser.add_argument("--rate-of-writes", type=float, default=40.0, help="of each, a second")
    parser.add_argument("--turns", type=int, default=7, help="rounds of ways and latency")
    parser.add_argument("--loads", nargs="+", choices=list(LOADS), default=list(LOADS))
    parser.add_argument("--clients", type=int, default=8, help="of each turn")
    parser.add_argument("--selects", type=int, default=24_000, help="transactions of a turn")
    parser.add_argument("--updates", type=int, default=2400, help="transactions of a turn")
    parser.add_argument("--rate-of-selects", type=int, default=2000, help="a second, for latency")
    parser.add_argument("--rate-of-updates", type=int, default=200, help="a second, for latency")
    parser.add_argument(
        "--servers", type=int, default=20, help="of PgBouncer, as ours has by default; 0: without"
    )
    parser.add_argument("--seed", type=int, default=None, help="of the order")
    parser.add_argument(
        "--patroni", type=Path, default=ROOT / ".venv" / "neighbours" / "patroni",
        help="the virtual environment with Patroni, made where it is missing",
    )  # fmt: skip
    return parser.parse_args(words)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
