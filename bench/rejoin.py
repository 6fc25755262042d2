"""Measure how members come back: `./dev bench rejoin [--rounds 5] [--data-mb 1024]`.

Two things, in turns. *rewind*: the primary is killed with WAL that nobody else has, another one
leads, and the old one is started again; what counts is the time until it streams. *copy*: a replica
is copied anew by `reinit`, beside a plain `pg_basebackup` of the same primary on the same machine;
which one goes first changes from round to round; what counts are the time of the copy, the whole
time until it streams, and their ratio to the plain one. Nothing else runs, no client writes. One
herd with default settings, but that a silent standby is waited for while the primary writes alone.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from pgherd.proof.asking import HerdError
from pgherd.proof.herd import LocalHerd
from pgherd.proof.history import percentile

START_DEADLINE_S = 90.0
BACK_DEADLINE_S = 600.0
PATIENCE = {"replication": {"sync_timeout": "5m"}}
"""Else the primary would go on alone by the ledger's leave, and nobody could follow it."""
ROWS_PER_MB = 128
FILLER_BYTES = 8000
CHUNK_MB = 64
REST_S = 3.0
GOALS = {"rewind": "<= 20 s", "copy": ">= 0.80"}
CREATE = """
CREATE TABLE filled (id int PRIMARY KEY, n int NOT NULL DEFAULT 0, filler text NOT NULL);
ALTER TABLE filled ALTER filler SET STORAGE PLAIN;
"""
FILL = """
INSERT INTO filled (id, filler) SELECT id, repeat(md5(id::text), %s::int) FROM
  generate_series(%s::int, %s::int) id
"""
CHANGE = "UPDATE filled SET n = n + 1 WHERE id BETWEEN %s::int AND %s::int"
"""As many rows as pages: each is written again, and its old page changes too."""


class Back(msgspec.Struct, frozen=True):
    """One return by rewind. how: the last remedy; rewound_s: of the act alone."""

    seconds: float
    rewound_s: float
    diverged_mb: float
    how: str


class Copied(msgspec.Struct, frozen=True):
    """One copy beside a plain one, in seconds. act_s: until it was in its place · whole_s: until it
    streamed.
    """

    act_s: float
    whole_s: float
    plain_s: float


def main(words: list[str]) -> int:
    """Run what was asked for and print one table; 1 when something came back another way."""
    options = _options(words)
    print(
        f"# {platform.machine()}, {len(os.sched_getaffinity(0))} cores, PostgreSQL:"
        f" {options.postgres_bin}, {options.data_mb} MB of data, {options.diverged_mb} MB diverged"
    )
    backs: list[Back] = []
    copies: list[Copied] = []
    with LocalHerd(3, postgres_bin=options.postgres_bin, overrides=PATIENCE) as herd:
        herd.start()
        herd.wait_stable(START_DEADLINE_S)
        fill(herd, options.data_mb)
        for number in range(options.rounds):
            if "rewind" in options.kinds:
                backs.append(rewind(herd, options.diverged_mb))
                _tell(f"{number + 1}/{options.rounds} {backs[-1]}")
            if "copy" in options.kinds:
                copies.append(copy(herd, plain_first=number % 2 == 0))
                _tell(f"{number + 1}/{options.rounds} {copies[-1]}")
    print("\n".join([*rewind_lines(backs), *copy_lines(copies)]))
    return 0 if all(back.how == "rewind, done" for back in backs) else 1


def fill(herd: LocalHerd, data_mb: int) -> None:
    """Make the table, and wait until everybody has it."""
    name = herd.wait_primary()
    with connect(herd, name) as session:
        session.execute(CREATE)
        for first in range(0, data_mb, CHUNK_MB):
            last = min(data_mb, first + CHUNK_MB)
            ids = first * ROWS_PER_MB + 1, last * ROWS_PER_MB
            session.execute(FILL, (FILLER_BYTES // 32, *ids))
            _tell(f"{last} of {data_mb} MB")
        session.execute("VACUUM (FREEZE, ANALYZE) filled")
    settle(herd)


def settle(herd: LocalHerd) -> None:
    """Nobody has anything left to write from before."""
    herd.wait_stable(BACK_DEADLINE_S)
    end = herd.query(herd.wait_primary(), "CHECKPOINT; SELECT pg_current_wal_lsn()")[0][0]
    for name in herd.nodes:
        if name != herd.primary():
            ask = f"SELECT 1 WHERE pg_last_wal_replay_lsn() >= '{end}'"
            herd.wait_for(
                lambda name=name, ask=ask: herd.query(name, ask),  # type: ignore[misc] # binds both
                f"replay on {name}",
                deadline_s=BACK_DEADLINE_S,
            )
            herd.query(name, "CHECKPOINT", timeout_ms=int(BACK_DEADLINE_S * 1000))
    os.sync()
    time.sleep(REST_S)


# --- by rewind -----------------------------------------------------------------------------------


def rewind(herd: LocalHerd, diverged_mb: int) -> Back:
    """The primary writes alone, dies, and comes back under another one."""
    settle(herd)
    old = herd.wait_primary()
    others = [name for name in herd.nodes if name != old]
    receivers = [_receiver(herd, name) for name in others]
    for pid in receivers:
        os.kill(pid, signal.SIGSTOP)
    try:
        diverged = write_alone(herd, old, diverged_mb)
        herd.kill_node(old)
    finally:
        for pid in receivers:
            os.kill(pid, signal.SIGCONT)
    herd.silent.add(old)
    herd.wait_primary(other_than=old)
    [third] = (name for name in others if name != herd.primary())
    herd.wait_for(lambda: streams(herd, third), f"stream of {third}", deadline_s=BACK_DEADLINE_S)
    time.sleep(REST_S)
    since = herd.places[old].log.stat().st_size
    began = time.monotonic()
    herd.restart_node(old)
    herd.silent.discard(old)
    herd.wait_for(lambda: streams(herd, old), f"stream of {old}", deadline_s=BACK_DEADLINE_S)
    seconds = time.monotonic() - began
    herd.wait_stable(BACK_DEADLINE_S)
    last = herd.ask(f"/nodes/{old}")["remedies"][-1]
    took = act_s(herd, old, "Rewind", since)
    return Back(seconds, took, diverged / 1e6, f"{last['step']}, {last['state']}")


def write_alone(herd: LocalHerd, name: str, wanted_mb: int) -> int:
    """Change rows until so much WAL was written that nobody receives; how much, in bytes."""
    rows = wanted_mb * ROWS_PER_MB // 2
    with connect(herd, name) as session:
        [begin] = session.execute("SELECT pg_current_wal_lsn()").fetchone() or (None,)
        written, first = 0, 1
        while written < wanted_mb << 20:
            session.execute(CHANGE, (first, first + rows // 8))
            first += rows // 8 + 1
            ask = "SELECT pg_current_wal_lsn() - %s::pg_lsn, max(id) FROM filled"
            found = session.execute(ask, (begin,)).fetchone()
            assert found is not None
            written, last_id = int(found[0]), int(found[1])
            first = first if first < last_id else 1
    return written


def _receiver(herd: LocalHerd, name: str) -> int:
    [(pid,)] = herd.query(name, "SELECT pid FROM pg_stat_wal_receiver")
    return int(str(pid))


# --- by copy -------------------------------------------------------------------------------------


def copy(herd: LocalHerd, *, plain_first: bool) -> Copied:
    """A replica is copied anew, and somebody copies the primary by hand."""
    primary = herd.wait_primary()
    target = next(name for name in herd.nodes if name != primary)
    settle(herd)
    plain_s = plain(herd, primary) if plain_first else 0.0
    settle(herd)
    since = herd.places[target].log.stat().st_size
    began = time.monotonic()
    asked = herd.ask(f"/nodes/{target}/reinitialize", method="POST", body={}, timeout_s=30.0)

    def over() -> bool:
        found = herd.ask(f"/actions/{asked['id']}")
        if found["state"] in ("failed", "cancelled"):
            raise HerdError(f"{found['what']}: {found['step']}")
        return bool(found["state"] == "done")

    herd.wait_for(over, f"copy of {target}", deadline_s=BACK_DEADLINE_S)
    whole_s = time.monotonic() - began
    settle(herd)
    taken_s = act_s(herd, target, "Rebuild", since)
    return Copied(taken_s, whole_s, plain_s or plain(herd, primary))


def plain(herd: LocalHerd, primary: str) -> float:
    """Seconds of `pg_basebackup` as anybody would type it, into a directory beside the nodes'."""
    place, server = herd.places[primary], herd.postmaster_pid(primary)
    directory = place.data.with_name("plain")
    program = Path(os.readlink(f"/proc/{server}/exe")).with_name("pg_basebackup")
    words = [str(program), "-D", str(directory), "-h", place.host, "-p", str(place.ports.postgres)]
    words += ["-U", "pgherd_replication", "--wal-method=stream", "--checkpoint=fast"]
    owner = place.data.stat()
    began = time.monotonic()
    subprocess.run(
        words,
        check=True,
        user=owner.st_uid,
        group=owner.st_gid,
        extra_groups=[],
        cwd="/",
        env={"PATH": os.environ["PATH"], "PGPASSWORD": herd.secrets.replication},
    )
    took = time.monotonic() - began
    shutil.rmtree(directory)
    return took


# --- both ----------------------------------------------------------------------------------------


def connect(herd: LocalHerd, name: str) -> psycopg.Connection[Any]:
    """A session whose commits wait for nobody."""
    session = psycopg.connect(herd.dsn_node(name), autocommit=True)
    session.execute("SET synchronous_commit = local")
    return session


def streams(herd: LocalHerd, name: str) -> bool:
    """Whether a node is a replica that streams, by its own and its primary's word."""
    try:
        return bool(herd.ask(f"/nodes/{name}")["state"] == "streaming")
    except (HerdError, KeyError):
        return False


def act_s(herd: LocalHerd, name: str, act: str, since: int) -> float:
    """How long the last such act took, by the agent's log from a place on."""
    text = herd.places[name].log.read_bytes()[since:].decode(errors="replace")
    found = re.findall(rf"act\.ended .*act={act} done=True ms=(\d+)", text)
    return int(found[-1]) / 1000 if found else float("nan")


def rewind_lines(backs: list[Back]) -> list[str]:
    """One line for all returns, where there were any."""
    if not backs:
        return []
    seconds = [back.seconds for back in backs]
    rewound = percentile([back.rewound_s for back in backs], 50)
    diverged = percentile([back.diverged_mb for back in backs], 50)
    ways = ", ".join(sorted({back.how for back in backs}))
    return [
        "| way | n | until it streams p50 | max | of it the rewind p50 | diverged p50 | goal |",
        "|---|---|---|---|---|---|---|",
        f"| {ways} | {len(backs)} | {percentile(seconds, 50):.1f} s | {max(seconds):.1f} s |"
        f" {rewound:.1f} s | {diverged:.0f} MB | {GOALS['rewind']} |",
        "",
    ]


def copy_lines(copies: list[Copied]) -> list[str]:
    """One line for all copies, where there were any. Speed: the plain copy's time by ours."""
    if not copies:
        return []
    cells = [
        f"{percentile(found, 50):.1f} s"
        for found in (
            [one.plain_s for one in copies],
            [one.act_s for one in copies],
            [one.whole_s for one in copies],
        )
    ]
    speed = percentile([one.plain_s / one.act_s for one in copies], 50)
    whole = percentile([one.plain_s / one.whole_s for one in copies], 50)
    return [
        "| n | pg_basebackup p50 | copied and in place p50 | until it streams p50 | speed p50 |"
        " until it streams | goal |",
        "|---|---|---|---|---|---|---|",
        f"| {len(copies)} | {' | '.join(cells)} | {speed:.2f} | {whole:.2f} | {GOALS['copy']} |",
    ]


def _options(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench rejoin", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="times that each is tried")
    parser.add_argument("--data-mb", type=int, default=1024)
    parser.add_argument("--diverged-mb", type=int, default=100)
    parser.add_argument("--kinds", nargs="+", choices=list(GOALS), default=list(GOALS))
    parser.add_argument("--postgres-bin", default="auto")
    return parser.parse_args(words)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
