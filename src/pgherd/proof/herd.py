"""A herd of real nodes on this machine: started, asked, broken and stopped as a user would do it.

Owns the daemons it starts and everything below them, until `stop`; use it as a context manager, so
that nothing outlives an exception or Ctrl-C. Leaves what the cluster says of itself to `asking`.
Linux only (/proc).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pgherd.model.errors import OperatorError
from pgherd.proof import layout, processes
from pgherd.proof.asking import POLL_S, HerdError, HerdView
from pgherd.proof.lasting import HERD_FILE
from pgherd.proof.ports import HOST, claim_ports
from pgherd.proof.processes import Process, Usage

STOP_GRACE_S = 10.0


PARTS = {"agent": "pgherd.daemon.main", "proxy": "pgherd.relay.main"}


class LocalHerd(HerdView):
    """N nodes on loopback. `start`, then break it; `stop` always.

    lasting: it runs on when whoever started it is gone (`proof.lasting`).
    """

    def __init__(
        self,
        nodes: int = 3,
        *,
        witnesses: int = 0,
        proxies: int = 0,
        directory: Path | None = None,
        base_port: int | None = None,
        preferred_port: int | None = None,
        postgres_bin: str | Path = "auto",
        python: str = sys.executable,
        overrides: dict[str, Any] | None = None,
        hosts: Sequence[str] = (),
        lasting: bool = False,
    ) -> None:
        if not 1 <= nodes <= layout.NODES_MAX:
            raise OperatorError(f"a local herd has 1 to {layout.NODES_MAX} nodes, not {nodes}")
        self._temporary = directory is None
        self._lasting = lasting
        self._python = python
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._paused: set[int] = set()
        user = layout.postgres_user()
        base = _base_port(directory, nodes=nodes, wanted=base_port)
        self._claim = claim_ports(nodes, base=base, preferred=preferred_port)
        ports = self._claim.blocks
        root = layout.make_directory(directory)
        super().__init__(root, layout.make_secrets(root))
        self.places = {
            place.name: place
            for place in (
                layout.make_place(
                    self.directory,
                    number=number + 1,
                    ports=mine,
                    user=user,
                    host=hosts[number] if hosts else HOST,
                )
                for number, mine in enumerate(ports)
            )
        }
        self.proxies = set(self.nodes[nodes - proxies :])
        self.witnesses = set(self.nodes[nodes - proxies - witnesses : nodes - proxies])
        self._write(user=user, bin_dir=str(postgres_bin), overrides=overrides or {})
        (self.directory / HERD_FILE).write_text(
            json.dumps({"nodes": nodes, "base_port": ports[0].base})
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop(graceful=False)
        self._claim.close()
        if self._temporary and error is None:
            self.remove()

    # Starting and stopping.

    def start(self) -> None:
        """Start every node that does not run."""
        for name in self.nodes:
            if name not in self._running:
                self.start_node(name)

    def start_node(self, name: str) -> None:
        """Start one node's daemon in a session of its own, its output in its log file."""
        assert name not in self._running, f"{name} runs"
        place = self.places[name]
        command = [self._python, "-m", "pgherd.cli.main", "start", "--config", str(place.config)]
        # Whoever dies without a word takes the nodes along.
        keeper = None if self._lasting else shutil.which("setpriv")
        guard = [keeper, "--pdeathsig", "TERM"] if keeper else []
        with place.log.open("ab") as log:
            self._running[name] = subprocess.Popen(
                [*guard, *self._wrap(name), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=place.directory,
                start_new_session=True,
            )

    def _wrap(self, name: str) -> list[str]:
        """What a node's command line begins with: nothing, where nodes share this machine."""
        return []

    def stop(self, *, graceful: bool = True) -> None:
        """End everything that was started: asked first when graceful, killed in any case."""
        processes.send(self._paused, signal.SIGCONT)
        self._paused.clear()
        if graceful:
            processes.send((daemon.pid for daemon in self._running.values()), signal.SIGTERM)
            until = time.monotonic() + STOP_GRACE_S
            while time.monotonic() < until and any(self._processes_of(name) for name in self.nodes):
                self.trouble()
                time.sleep(POLL_S)
        processes.kill_all(self._all_processes)
        for daemon in self._running.values():
            daemon.wait()
        self._running.clear()

    def remove(self) -> None:
        """Delete the herd's directory; only after `stop`."""
        assert not self._running, "the herd runs"
        for place in self.places.values():
            shutil.rmtree(place.socket_directory, ignore_errors=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    def reload_node(self, name: str, changes: dict[str, Any]) -> None:
        """Lay changes over a node's settings file and send its daemon SIGHUP."""
        place = self.places[name]
        layout.write_settings(place, layout.merge(layout.read_settings(place), changes))
        self._running[name].send_signal(signal.SIGHUP)

    def replace_proxy(self, name: str) -> None:
        """Have another proxy process take over, as after an upgrade."""
        self._running[name].send_signal(signal.SIGUSR1)

    def terminate_node(self, name: str, *, within_s: float = STOP_GRACE_S) -> int:
        """Ask a node's daemon to stop, as systemd would; its exit code."""
        daemon = self._running[name]
        daemon.send_signal(signal.SIGTERM)
        code = daemon.wait(within_s)
        del self._running[name]
        return code

    def remove_node(self, name: str, *, via: str | None = None) -> dict[str, Any]:
        """Have a member removed from the cluster; its daemon runs on. The API's answer."""
        path = f"/cluster/nodes/{name}"
        found: dict[str, Any] = self.ask(path, name=via, method="DELETE", timeout_s=60.0)
        self.removed.add(name)
        return found

    def restart_node(self, name: str) -> None:
        """Start a node again that was killed."""
        self.start_node(name)

    # Breaking things.

    def kill_node(self, name: str) -> None:
        """SIGKILL every process of a node, PostgreSQL included, as a power cut would."""
        processes.kill_all(lambda: self._processes_of(name))
        self._running.pop(name).wait()

    def kill_postmaster(self, name: str) -> None:
        """SIGKILL the postmaster alone; its children notice by themselves."""
        processes.send([self.postmaster_pid(name)], signal.SIGKILL)

    def kill_agent(self, name: str) -> int:
        """SIGKILL the agent and leave the supervisor to bring it back; the killed id."""
        return self._kill_part(name, "agent")

    def kill_proxy(self, name: str) -> int:
        """SIGKILL the proxy and leave the supervisor to bring it back; the killed id."""
        return self._kill_part(name, "proxy")

    def pause_node(self, name: str) -> None:
        """SIGSTOP every process of a node: alive for the kernel, silent for all others."""
        found = self._processes_of(name)
        self._paused.update(found)
        self.silent.add(name)
        processes.send(found, signal.SIGSTOP)

    def resume_node(self, name: str) -> None:
        """SIGCONT what was paused."""
        found = self._processes_of(name)
        processes.send(found, signal.SIGCONT)
        self._paused.difference_update(found)
        self.silent.discard(name)

    # The processes of a node.

    def usage(self, name: str) -> Usage:
        """What the daemon's own processes cost, without PostgreSQL."""
        found = self._processes_of(name).values()
        return processes.usage(process for process in found if not process.is_postgres)

    def postmaster_pid(self, name: str) -> int:
        """The living postmaster of a node, from its own pid file."""
        file = self.places[name].data / "postmaster.pid"
        pid = int(file.read_text().splitlines()[0])
        assert processes.is_alive(pid), f"the postmaster of {name} is dead"
        return pid

    def psql(self) -> str:
        """The psql on PATH, or the one that lies beside the running server."""
        server = os.readlink(f"/proc/{self.postmaster_pid(self.nodes[0])}/exe")
        return "psql" if shutil.which("psql") else str(Path(server).with_name("psql"))

    def part_pid(self, name: str, part: str) -> int | None:
        """The process of a daemon that plays this part (agent, proxy)."""
        module = PARTS[part]
        found = [
            process.pid
            for process in self._processes_of(name).values()
            if not process.is_postgres and module in process.arguments[1:6]
        ]
        return min(found, default=None)

    def _kill_part(self, name: str, part: str) -> int:
        pid = self.part_pid(name, part)
        if pid is None:
            raise HerdError(f"{name} has no {part} process\n{self.tell()}")
        processes.send([pid], signal.SIGKILL)
        return pid

    def _processes_of(self, name: str) -> dict[int, Process]:
        """Everything that belongs to a node: its session, its directory, and what is below them."""
        directory = str(self.places[name].directory)
        daemon = self._running.get(name)

        def belongs(process: Process) -> bool:
            works_there = f"{process.directory}/".startswith(f"{directory}/")
            named = any(f"{directory}/" in word for word in process.arguments)
            kind = process.is_postgres or process.name.startswith(("python", "pgherd"))
            started = daemon is not None and process.session == daemon.pid
            return process.pid != os.getpid() and (started or (kind and (works_there or named)))

        return processes.with_descendants(processes.scan(), belongs)

    def _all_processes(self) -> dict[int, Process]:
        found: dict[int, Process] = {}
        for name in self.nodes:
            found.update(self._processes_of(name))
        return found

    def trouble(self) -> str:
        """Which daemons ended by themselves (their exit states are collected here)."""
        ended = {name: daemon.poll() for name, daemon in self._running.items()}
        return "; ".join(
            f"{name} ended with exit code {code}"
            for name, code in ended.items()
            if code is not None
        )

    def _write(self, *, user: str, bin_dir: str, overrides: dict[str, Any]) -> None:
        """Certificates and configuration of every node."""
        herd = list(self.places.values())
        layout.make_certificates(self.directory, herd)
        for place in herd:
            values = layout.settings(
                place,
                herd,
                root=self.directory,
                user=user,
                bin_dir=bin_dir,
                token=self.secrets.token,
            )
            if place.name in self.witnesses:
                values = layout.witness(values)
            if place.name in self.proxies:
                values = layout.proxy(values)
            layout.write_settings(place, layout.merge(values, overrides))


def _base_port(directory: Path | None, *, nodes: int, wanted: int | None) -> int | None:
    """The base port of an earlier herd in this directory, which cannot move, or the wanted one."""
    try:
        kept = json.loads((directory / HERD_FILE).read_text()) if directory else None
    except FileNotFoundError:
        kept = None
    if kept is None:
        return wanted
    if kept["nodes"] != nodes or wanted not in (None, kept["base_port"]):
        raise OperatorError(
            f"{directory} holds a herd of {kept['nodes']} nodes with base port {kept['base_port']}",
            "say the same, or name another directory",
        )
    return int(kept["base_port"])
