"""The proxy process: `python -m pgherd.relay.main --control SOCKET`.

Owns the process: loop, signals, limits, exit codes (0 stopped as asked, 1 cannot work, 2 usage).
Started and restarted by the supervisor; everything it must know comes from the agent through the
control socket.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence

from pgherd.relay.journal import say
from pgherd.relay.link import Link, upkeep
from pgherd.relay.listeners import ListenError
from pgherd.relay.proxy import Proxy
from pgherd.telemetry.boottime import until_next

PARENT_CHECK_S = 0.5
STOP_DRAIN_S_MAX = 30.0
"""The supervisor waits 60 s for the end of a node, PostgreSQL's included."""
LOOPS = ("auto", "uvloop", "asyncio")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the proxy until it is told to stop."""
    parser = argparse.ArgumentParser(prog="pgherd-proxy", description="The proxy of a pgherd node.")
    parser.add_argument("--control", required=True, help="Unix socket that the agent listens on")
    parser.add_argument("--loop", choices=LOOPS, default="auto", help="auto: uvloop if it is there")
    parser.add_argument("--with-parent", action="store_true", help="stop when the parent is gone")
    options = parser.parse_args(argv)
    _raise_file_limit()
    gc.freeze()
    with asyncio.Runner(loop_factory=_loop_factory(options.loop)) as runner:
        return runner.run(run(options.control, with_parent=options.with_parent))


async def run(control: str, *, with_parent: bool = False) -> int:
    """Serve until SIGTERM or SIGINT; a second signal ends at once what the first let finish.

    SIGUSR1: the same, but a successor takes new clients, and nobody has to leave before the limit.
    """
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_on_broken)
    proxy = Proxy(turn=os.getpid())
    stop, hurry, succeeded = asyncio.Event(), asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: (hurry if stop.is_set() else stop).set())
    loop.add_signal_handler(signal.SIGUSR1, _all_of(succeeded, stop))
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    link = loop.create_task(Link(control, proxy).run())
    keeping = loop.create_task(upkeep(proxy))
    stopping = loop.create_task(stop.wait())
    alone = loop.create_task(_orphaned(os.getppid(), with_parent))
    say("proxy.started", pid=os.getpid(), loop=type(loop).__module__)
    await asyncio.wait([link, keeping, stopping, alone], return_when=asyncio.FIRST_COMPLETED)
    code = _why_ended(link, keeping)
    if code == 0:
        await _drain(proxy, hurry, stays=succeeded.is_set())
    proxy.close()
    for task in (link, keeping, stopping, alone):
        task.cancel()
    say("proxy.stopped", code=code)
    return code


def _all_of(*events: asyncio.Event) -> Callable[[], None]:
    def happen() -> None:
        for event in events:
            event.set()

    return happen


async def _drain(proxy: Proxy, hurry: asyncio.Event, *, stays: bool) -> None:
    limit_s = proxy.settings.drain_ms / 1000
    if not stays:
        limit_s = min(limit_s, STOP_DRAIN_S_MAX)
    say("proxy.draining", limit_s=f"{limit_s:g}", successor="yes" if stays else "no")
    await proxy.drain(limit_s, hurry, stays=stays)


def _why_ended(link: asyncio.Task[None], keeping: asyncio.Task[None]) -> int:
    for task in (link, keeping):
        error = task.exception() if task.done() else None
        if isinstance(error, ListenError):
            print(f"pgherd proxy: {error}", file=sys.stderr, flush=True)
            return 1
        if error is not None:
            raise error
    return 0


async def _orphaned(parent: int, matters: bool) -> None:
    """Return when the supervisor is gone: its successor needs our ports."""
    while not matters or os.getppid() == parent:  # noqa: ASYNC110 -- the kernel sends no event
        await asyncio.sleep(until_next(PARENT_CHECK_S))


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _on_broken(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    say("proxy.broken", what=context.get("message"), why=repr(context.get("exception")))


def _loop_factory(wanted: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop where it can be had: the same relay works without, at more CPU."""
    if wanted != "asyncio":
        try:
            import uvloop

            return uvloop.new_event_loop
        except ImportError:
            if wanted == "uvloop":
                raise
    return asyncio.new_event_loop


if __name__ == "__main__":
    sys.exit(main())
