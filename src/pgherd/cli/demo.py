"""`pgherd demo`: a whole cluster on this machine, to look at, to break, and to measure once.

Owns what a person sees of it: where to connect, the live table, the report of `--once`, and that
Ctrl-C ends everything. Starting, breaking and judging are `proof`'s; the command line is `main`'s.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import psycopg

from pgherd.model.errors import PgherdError
from pgherd.proof import layout
from pgherd.proof.asking import HerdError
from pgherd.proof.client import NoAnswer
from pgherd.proof.herd import LocalHerd
from pgherd.proof.trials import TITLES, Fault, Report, Trial, attempt, conclude
from pgherd.proof.writers import Pace, Writers, create_table

if TYPE_CHECKING:
    from rich.table import Table

PREFERRED_PORT = 7400
START_DEADLINE_S = 60.0
REFRESH_S = 0.5
WRITERS = 4
INTERRUPTED = 130
ONCE_FAULTS = (Fault.POSTMASTER, Fault.NODE, Fault.SWITCHOVER)
GENTLE = Pace(writes_per_second=5.0)
"""The load while a person looks on."""

COLUMNS = ("node", "role", "state", "timeline", "lag", "postgres port", "postmaster pid")


def run_demo(*, nodes: int, base_port: int | None, keep: Path | None, once: bool) -> int:
    """Start a local cluster and show it until Ctrl-C, or run the scenario once; the exit code."""
    with _one_way_out():
        try:
            herd = LocalHerd(
                nodes, directory=keep, base_port=base_port, preferred_port=PREFERRED_PORT
            )
            for place in herd.places.values():  # as `init` writes them
                layout.end_sessions_at_proxy(place, routes=("primary",))
        except PgherdError as error:
            return _fail(error, error.exit_code)
        code = INTERRUPTED
        try:
            _start(herd)
            code = _scenario(herd) if once else _show(herd)
        except (HerdError, NoAnswer, psycopg.Error, TimeoutError) as error:
            code = _fail(error, 1)
        except KeyboardInterrupt:
            pass
        finally:
            _end(herd, keep=keep, code=code)
        return code


def _start(herd: LocalHerd) -> None:
    _say(f"starting {len(herd.nodes)} nodes in {herd.directory}")
    began = time.monotonic()
    herd.start()
    herd.wait_stable(START_DEADLINE_S)
    replicas = len(herd.nodes) - 1
    _say(f"one primary and {replicas} streaming replicas after {time.monotonic() - began:.1f} s")
    for line in ways_in(herd):
        _say(line)


def ways_in(herd: LocalHerd) -> Iterator[str]:
    """Where to connect, where to look, whom to ask."""
    first, token = herd.places[herd.nodes[0]], herd.secrets.token
    url = f"http://{first.host}:{first.ports.api}"
    yield "\nconnect to the primary, wherever it is:"
    yield f"  {herd.psql_line(herd.psql())}"
    yield "look at it in a browser:"
    yield f"  {url}/ui/    # sign in with {token}"
    yield "and ask, or change it, in another terminal:"
    yield f"  export PGHERD_API_URL={url} PGHERD_TOKEN={token}"
    yield f"  {own_program()} status\n"


def own_program() -> str:
    """`pgherd` as somebody in this directory can type it: a checkout's is not on the PATH."""
    beside = Path(sys.executable).with_name("pgherd")
    if not beside.exists():
        return "pgherd"
    here = Path.cwd()
    return str(beside.relative_to(here) if beside.is_relative_to(here) else beside)


def _scenario(herd: LocalHerd) -> int:
    """The story of `--once`: break it three times under load, and account for every row."""
    if len(herd.nodes) < 3:
        raise HerdError("--once needs three nodes: with fewer a lost node loses the quorum")
    create_table(herd.dsn_proxy())
    trials: list[Trial] = []
    with Writers(herd.dsn_proxy(), count=WRITERS) as writers:
        writers.start()
        _say(f"{WRITERS} writers write through the proxies")
        for fault in ONCE_FAULTS:
            _say(f"- {TITLES[fault]} ...")
            trials.append(attempt(herd, writers, fault))
            _say(f"  {trials[-1].before} -> {trials[-1].after}, whole again")
        report = conclude(herd, writers, trials)
    for line in report_lines(report):
        _say(line)
    return 0 if report.verdict.clean else 1


def report_lines(report: Report) -> Iterator[str]:
    """The report of a run as people read it."""
    yield ""
    yield f"{'':38}{'write outage':>14}{'slowest writer':>16}{'redundant after':>17}"
    for trial, outage in zip(report.trials, report.outages, strict=True):
        yield (
            f"{outage.label:38}{outage.seconds:12.2f} s{outage.slowest_writer:14.2f} s"
            f"{trial.redundant_s:15.1f} s"
        )
    verdict = report.verdict
    yield ""
    yield f"acknowledged rows {verdict.acknowledged}, lost {len(verdict.lost)}"
    yield f"all writes: {verdict}"
    yield "every node streams again and holds the same rows"
    if not verdict.clean:
        for kind in ("lost", "duplicated", "phantom", "reordered"):
            named = getattr(verdict, kind)
            if named:
                yield f"{kind}: " + ", ".join(f"{w}/{s}" for w, s in named[:20])


def _show(herd: LocalHerd) -> int:
    """The live table over a gentle load, until somebody types Ctrl-C; then the verdict."""
    create_table(herd.dsn_proxy())
    with Writers(herd.dsn_proxy(), count=WRITERS, pace=GENTLE) as writers:
        writers.start()
        try:
            if sys.stdout.isatty():
                _show_table(herd, writers)
            else:
                _show_lines(herd, writers)
        except KeyboardInterrupt:
            pass  # it is how one leaves; typed again, it ends the reading too
        _say("\nreading what was written ...")
        herd.wait_stable(START_DEADLINE_S)
        report = conclude(herd, writers, [])
    _say(str(report.verdict))
    return 0 if report.verdict.clean else 1


def _show_table(herd: LocalHerd, writers: Writers) -> None:
    from rich.live import Live

    with Live(_table(herd, writers), refresh_per_second=4, screen=False) as live:
        while True:
            time.sleep(REFRESH_S)
            live.update(_table(herd, writers))


def _table(herd: LocalHerd, writers: Writers) -> Table:
    from rich.table import Table

    title, rows = _state(herd)
    caption = (
        f"{writers.acknowledged()} rows acknowledged, the last {writers.idle_s():.1f} s ago;"
        " kill what you like (kill -9 PID), Ctrl-C stops everything"
    )
    table = Table(*COLUMNS, title=title, caption=caption)
    for row in rows:
        table.add_row(*row, style="bold green" if row[1] == "primary" else None)
    return table


def _show_lines(herd: LocalHerd, writers: Writers) -> None:
    """Without a terminal: one line whenever something changes."""
    last = ""
    while True:
        title, rows = _state(herd)
        now = f"{title}: " + ", ".join(" ".join(row[:3]) for row in rows)
        if now != last:
            _say(f"{now}; {writers.acknowledged()} rows acknowledged")
            last = now
        time.sleep(REFRESH_S)


def _state(herd: LocalHerd) -> tuple[str, list[tuple[str, ...]]]:
    """The table's title and cells."""
    try:
        status, nodes = herd.status(), herd.node_states()
    except NoAnswer:
        return "no daemon answers", []
    title = (
        f"cluster {status.get('cluster_name')}: {status.get('status')},"
        f" term {status.get('epoch')}, {status.get('failover_state')}"
    )
    return title, [_row(herd, node) for node in nodes]


def _row(herd: LocalHerd, node: dict[str, Any]) -> tuple[str, ...]:
    name = str(node.get("name"))
    try:
        pid = str(herd.postmaster_pid(name))
    except (OSError, ValueError, IndexError, AssertionError, KeyError):
        pid = "-"
    lag = node.get("lag_bytes")
    cells = (
        name,
        node.get("role"),
        node.get("state"),
        node.get("timeline"),
        "-" if lag is None else f"{lag} B",
        node.get("postgresql_port"),
        pid,
    )
    return tuple("-" if cell is None else str(cell) for cell in cells)


def _end(herd: LocalHerd, *, keep: Path | None, code: int) -> None:
    """Stop everything before a word is said (nobody may read any more), and whatever is typed.

    What was asked for, or tells of a fault, is kept.
    """
    for number in _ways_out():
        signal.signal(number, signal.SIG_IGN)
    herd.stop(graceful=keep is not None)
    if keep is None and code != 1:
        herd.remove()
        _say("interrupted, everything is stopped" if code == INTERRUPTED else "stopped")
    else:
        _say(f"data and logs are in {herd.directory}")


@contextmanager
def _one_way_out() -> Iterator[None]:
    """Make a terminate or hang-up end the demo as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _interrupt) for number in _ways_out()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ways_out() -> tuple[signal.Signals, ...]:
    return signal.SIGINT, signal.SIGTERM, signal.SIGHUP


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _say(text: str) -> None:
    print(text, flush=True)


def _fail(error: Exception, code: int) -> int:
    print(f"error: {error}", file=sys.stderr, flush=True)
    return code
