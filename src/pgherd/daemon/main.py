"""The agent process: `python -m pgherd.daemon.main --config FILE`, started by the supervisor.

Owns the process: loop, signals, exit codes (0 stopped as asked, 1 failed, 2 cannot work as
configured, which no restart would cure).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pgherd.act import rights
from pgherd.config.load import load
from pgherd.config.problems import ConfigError
from pgherd.config.settings import Settings
from pgherd.daemon.build import Node, build
from pgherd.daemon.supervise import CONTROL, LIFELINE, PROXY_WANTED, UNWANTED, WANTED
from pgherd.daemon.threads import have_threads
from pgherd.model.errors import OperatorError, PgherdError
from pgherd.telemetry import logs, sdnotify

log = logs.get("daemon")

OBJECTS_PER_SCAN = 10_000
"""New objects between two scans for cycles; Python's 700 is for programs that make more of them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the agent until it is told to stop."""
    parser = argparse.ArgumentParser(prog="pgherd-agent")
    parser.add_argument("--config", required=True)
    parser.add_argument("--log-level")
    options = parser.parse_args(argv)
    try:
        settings = load(options.config, os.environ)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    rights.keep_to_itself()
    writer = open_logs(settings, level=options.log_level or settings.log.level)
    control = Path(os.environ.get(CONTROL, f"/tmp/pgherd-{os.getpid()}.sock"))
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(run(lambda: build(settings, config=options.config, control=control)))
    except OperatorError as error:
        log.error("agent.refused", reason=error.message, next=error.hint)
        return 2
    except PgherdError as error:
        log.error("agent.failed", reason=error.message, next=error.hint)
        return 1
    finally:
        writer.close()


def open_logs(settings: Settings, *, level: str) -> logs.Outputs:
    """Send lines where the file says."""
    return logs.set_up(
        level=level,
        form=settings.log.format,
        file=settings.log.file,
        node=settings.node.name,
        syslog=str(settings.log.syslog or ""),
        journal=str(settings.log.journal or ""),
        file_bytes_max=settings.log.file_size_bytes,
        files_kept=settings.log.file_keep,
    )


async def run(make: Callable[[], Node]) -> int:
    """Build the node and run it until a signal, a failure, or the supervisor's end."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    have_threads(loop)
    node = make()
    loop.add_signal_handler(signal.SIGHUP, node.reload)
    tell_supervisor(has_proxy=node.control is not None)
    orphaned = watch_lifeline(loop, stop)
    give_back_memory()
    code = await node.run(stop, ready=sdnotify.ready)
    await node.stop(stop_server=code == 0 and not orphaned(), orphaned=orphaned())
    return code


def give_back_memory() -> None:
    """What start-up left over goes back to the system, and what stays is not scanned again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS_PER_SCAN)


def tell_supervisor(*, has_proxy: bool) -> None:
    """Say whether this node needs a proxy process."""
    number = os.environ.get(PROXY_WANTED)
    if number is not None:
        os.write(int(number), WANTED if has_proxy else UNWANTED)


def watch_lifeline(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> Callable[[], bool]:
    """End with the supervisor, and leave PostgreSQL running then."""
    number = os.environ.get(LIFELINE)
    gone: list[bool] = []
    if number is None:
        return lambda: False
    lifeline = int(number)

    def on_end() -> None:
        if not os.read(lifeline, 64):
            loop.remove_reader(lifeline)
            gone.append(True)
            stop.set()

    loop.add_reader(lifeline, on_end)
    return lambda: bool(gone)


def loop_factory() -> Any:
    """uvloop where it is installed, asyncio's own loop elsewhere."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


if __name__ == "__main__":
    sys.exit(main())
