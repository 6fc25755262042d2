"""The supervisor: starts agent and proxy, restarts what ends, owns the signals.

Runs as a plain script without site-packages (`main`), imports a handful of standard modules, and
holds no state that matters but the warden's deadline: everything it starts can be started again.
PostgreSQL is the agent's child in its own session and outlives both.

Children get one end of a pipe: when the supervisor is gone, it reads end-of-file and they end too.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

if __name__ == "__main__":  # a bare interpreter: what follows is found beside this file
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from pgherd.daemon.warden import WARDEN, Warden
from pgherd.relay.keeping import Keeper
from pgherd.telemetry import stderr

QUICK_S = 10.0
PAUSES_S = (0.0, 0.5, 2.0, 10.0)
STOP_S = 60.0
AGENT_REFUSED = 2
LIFELINE = "PGHERD_LIFELINE"
CONTROL = "PGHERD_CONTROL"
PROXY_WANTED = "PGHERD_PROXY_WANTED"
"""The pipe on which an agent says, once it has read its configuration, whether a proxy is needed:
WANTED or UNWANTED. Until then one is started, so that clients need not wait for the agent."""
WANTED, UNWANTED = b"1", b"0"
HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD)
LEAVING_MAX = 4
"""Proxies that let their sessions end; with one more the oldest is told to hurry."""
FAILURES_KEPT_MAX = 1
"""A proxy that dies again and again must not look like one that answers in a moment."""
PR_SET_CHILD_SUBREAPER = 36


class Child:
    """One process that should run. refusal: with this exit code it wants no other start · keeper:
    who has its listening sockets."""

    def __init__(
        self,
        name: str,
        argv: list[str],
        *,
        refusal: int | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        self.name = name
        self.refusal = refusal
        self.keeper = keeper
        self.leaving: list[int] = []
        self.argv = argv
        self.pid = 0
        self.started = 0.0
        self.failures = 0
        self.start_at = 0.0
        self.wanted = True

    def want(self, wanted: bool) -> None:
        """Have it run from now on, or have it end and stay away."""
        if wanted and not self.wanted and not self.pid:
            self.start_at = time.monotonic()
        elif not wanted:
            self.start_at = 0.0
            self.end(signal.SIGTERM)
        self.wanted = wanted

    def start(self) -> None:
        environment = self.keeper.open_for_child() if self.keeper is not None else os.environ
        self.pid = os.posix_spawn(
            self.argv[0], self.argv, environment, setsigdef=[signal.SIGTERM, signal.SIGINT]
        )
        if self.keeper is not None:
            self.keeper.close_to_others()
        self.started = time.monotonic()
        self.start_at = 0.0

    def send(self, number: int) -> None:
        if self.pid:
            send_to(self.pid, number)

    def end(self, number: int) -> None:
        """Have it end for good, with those that went before it."""
        if self.keeper is not None:
            self.keeper.drop()
        self.send(number)
        for pid in self.leaving:
            send_to(pid, number)

    def is_there(self) -> bool:
        return bool(self.pid or self.leaving)

    def succeed(self, pid: int) -> None:
        """It lets its sessions end and takes no more: start another one beside it."""
        if pid != self.pid or not self.wanted:
            return
        tell(f"{self.name} {pid} leaves; another one starts")
        self.leaving.append(pid)
        self.pid, self.start_at = 0, time.monotonic()
        if len(self.leaving) > LEAVING_MAX:
            send_to(self.leaving[0], signal.SIGTERM)

    def is_gone(self, pid: int) -> bool:
        """Forget one that had been succeeded."""
        if pid in self.leaving:
            self.leaving.remove(pid)
            return True
        return False

    def reaped(self, status: int, *, stopping: bool) -> int:
        """Take the exit status, and decide when to start again, if at all."""
        self.pid = 0
        lived = time.monotonic() - self.started
        self.failures = 0 if lived > QUICK_S else self.failures + 1
        pause = PAUSES_S[min(self.failures, len(PAUSES_S) - 1)]
        code = os.waitstatus_to_exitcode(status)
        if not self.wanted:
            tell(f"{self.name} ended with {code}; it is not needed here")
            return code
        if stopping or code == self.refusal:
            tell(f"{self.name} ended with {code} after {lived:.1f} s; the node ends")
            return code
        self.start_at = time.monotonic() + pause
        if self.keeper is not None and self.failures > FAILURES_KEPT_MAX:
            self.keeper.drop()
        tell(f"{self.name} ended with {code} after {lived:.1f} s; starts again in {pause:g} s")
        return code


def send_to(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def tell(text: str) -> None:
    stderr.say(f"pgherd supervisor: {text}")


def notify(text: str) -> None:
    """Tell systemd (sd_notify(3)), where it asked for it; whether it hears changes nothing here."""
    if os.environ.get("NOTIFY_SOCKET"):
        from pgherd.telemetry import sdnotify  # sockets take memory, and this is said once

        sdnotify.notify(text, env=os.environ)


def run(config: str, arguments: list[str]) -> int:
    """Supervise until told to stop; return the exit code."""
    python = os.environ.get("PGHERD_PYTHON", sys.executable)
    control = control_path(config)
    os.environ[CONTROL] = control
    lifeline, keep = os.pipe()
    said, say = os.pipe()
    charge, charges = os.pipe()
    os.set_blocking(charges, False)
    warden = Warden(charge, verdict_path(control), tell)
    for name, end in ((LIFELINE, lifeline), (PROXY_WANTED, say), (WARDEN, charges)):
        os.set_inheritable(end, True)
        os.environ[name] = str(end)
    start = [python, "-X", "faulthandler", "-m"]  # a fatal signal leaves its stack in the log
    argv = [*start, "pgherd.daemon.main", "--config", config, *arguments]
    agent = Child("agent", argv, refusal=AGENT_REFUSED)
    keeper = Keeper()
    argv = [*start, "pgherd.relay.main", "--control", control, "--with-parent"]
    proxy = Child("proxy", argv, keeper=keeper)
    children = [agent, proxy]
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    for handled in HANDLED:
        signal.signal(handled, lambda *_: None)
    agent.start()
    proxy.start_at = time.monotonic()
    stopping = 0.0
    code = 0
    while True:
        now = time.monotonic()
        for child in children:
            if not stopping and not child.pid and child.start_at and now >= child.start_at:
                child.start()
        if stopping and (now > stopping or not any(child.is_there() for child in children)):
            break
        pause = pause_until(children, bool(stopping), now, warden.pause_s())
        ready, _, _ = select.select([wake_read, said, charge, keeper.fileno()], [], [], pause)
        if charge in ready:
            warden.hear()
        warden.act()
        if keeper.fileno() in ready and (leaves := keeper.hear()) and not stopping:
            proxy.succeed(leaves)
        if said in ready:
            proxy.want(os.read(said, 64)[-1:] == WANTED and not stopping)
        for number in os.read(wake_read, 64) if wake_read in ready else b"":
            if number == signal.SIGHUP:
                agent.send(signal.SIGHUP)
            elif number == signal.SIGUSR1:
                proxy.send(signal.SIGUSR1)
            elif number != signal.SIGCHLD and not stopping:
                notify("STOPPING=1")
                stopping = time.monotonic() + STOP_S
                (agent.send if agent.pid else proxy.end)(signal.SIGTERM)
        for pid, status in ended_children():
            for child in children:
                if child.is_gone(pid) or child.pid != pid:
                    continue
                ended = child.reaped(status, stopping=bool(stopping))
                if child is agent and (ended == AGENT_REFUSED or stopping):
                    stopping = stopping or time.monotonic() + STOP_S
                    code = ended if ended == AGENT_REFUSED else 0
                    proxy.end(signal.SIGTERM)
    for child in children:
        child.end(signal.SIGKILL)
    warden.see_it_through()
    os.close(keep)
    return code


def ended_children() -> list[tuple[int, int]]:
    """Reap whatever has ended: our own, and orphans such as an old agent's postmaster."""
    found: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        found.append((pid, status))


def adopt_orphans() -> None:
    """Become the parent of what our children leave behind, so that no dead postmaster stays a
    zombie that blocks its successor (prctl(2), PR_SET_CHILD_SUBREAPER; Linux only).

    Called before the exec, which keeps it, so that the supervisor need not load ctypes.
    """
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def pause_until(
    children: list[Child], stopping: bool, now: float, least: float | None
) -> float | None:
    pauses = [max(0.0, child.start_at - now) for child in children if is_due(child)]
    pauses += [0.5] if stopping else []
    pauses += [least] if least is not None else []
    return min(pauses, default=None)


def is_due(child: Child) -> bool:
    return not child.pid and child.start_at > 0


def control_path(config: str) -> str:
    """The local channel of agent and proxy: short, private, and the same after a restart."""
    import binascii

    path = os.path.realpath(config).encode()
    name = f"{binascii.crc32(path):08x}{binascii.crc32(path[::-1]):08x}"
    base = os.environ.get("PGHERD_RUN_DIR") or ("/run" if os.geteuid() == 0 else "/tmp")
    directory = os.path.join(base, f"pgherd-{os.geteuid()}")
    os.makedirs(directory, mode=0o700, exist_ok=True)
    if os.stat(directory).st_uid != os.geteuid():
        raise SystemExit(f"pgherd supervisor: {directory} belongs to another user")
    return os.path.join(directory, f"{name}.sock")


def verdict_path(control: str) -> str:
    """Where the warden leaves word of a server that it killed."""
    return f"{control.removesuffix('.sock')}.verdict"


def main(config: str, *, log_level: str | None = None) -> int:
    """Replace this process by a supervisor that has loaded next to nothing."""
    adopt_orphans()
    os.environ["PGHERD_PYTHON"] = sys.executable
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")
    arguments = ["--log-level", log_level] if log_level else []
    script = os.path.abspath(__file__)
    os.execv(
        sys.executable, [sys.executable, "-I", "-S", script, os.path.abspath(config), *arguments]
    )


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], sys.argv[2:]))
