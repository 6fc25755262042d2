"""Three etcds on loopback with peer TLS and directories of their own, and puts through HTTP.

Owns the processes and one client connection that stays open. The client's own part of a put's time
is measured with a read that needs no consensus.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pgherd.proof import processes

START_S_MAX = 20.0
KEY = base64.b64encode(b"bench/key").decode()


def installed() -> str | None:
    """Where etcd is, if it is."""
    return shutil.which("etcd")


class EtcdHerd:
    """Three members; the files of `lib.places` serve as their certificates too."""

    def __init__(self, directory: Path, homes: list[Path], ports: list[int]) -> None:
        self.directory, self.homes = directory, homes
        self.peer_ports, self.client_ports = ports[::2], ports[1::2]
        self._processes: list[subprocess.Popen[bytes]] = []
        self._connection: http.client.HTTPConnection | None = None
        self._puts = 0

    def __enter__(self) -> Self:
        initial = ",".join(
            f"e{number}=https://127.0.0.1:{port}"
            for number, port in enumerate(self.peer_ports, start=1)
        )
        for number, home in enumerate(self.homes, start=1):
            self._start(number, home, initial)
        self._connect_to_leader()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def _start(self, number: int, home: Path, initial: str) -> None:
        peer = f"https://127.0.0.1:{self.peer_ports[number - 1]}"
        client = f"http://127.0.0.1:{self.client_ports[number - 1]}"
        tls = {"cert-file": "node.crt", "key-file": "node.key", "trusted-ca-file": "ca.crt"}
        options = {
            "name": f"e{number}",
            "data-dir": str(self.directory / f"etcd{number}"),
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "initial-cluster": initial,
            "initial-cluster-state": "new",
            "logger": "zap",
            "log-level": "error",
            **{f"peer-{key}": str(home / file) for key, file in tls.items()},
        }
        command = ["etcd", "--peer-client-cert-auth"]
        command += [f"--{key}={value}" for key, value in options.items()]
        log = (self.directory / f"etcd{number}.log").open("wb")
        with log:
            self._processes.append(subprocess.Popen(command, stdout=log, stderr=log))

    def _connect_to_leader(self) -> None:
        until = time.monotonic() + START_S_MAX
        while time.monotonic() < until:
            for port in self.client_ports:
                with contextlib.suppress(OSError, KeyError, http.client.HTTPException):
                    if self._leads(port):
                        return
            time.sleep(0.1)
        raise RuntimeError(f"etcd has no leader: see {self.directory}/etcd1.log")

    def _leads(self, port: int) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = connection
        found = self._ask("/v3/maintenance/status", {})
        return bool(found["leader"] == found["header"]["member_id"])

    def _ask(self, path: str, body: dict[str, Any]) -> Any:
        assert self._connection is not None
        self._connection.request("POST", path, body=json.dumps(body).encode())
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"etcd: {answer.status} {text[:200]!r}")
        return json.loads(text)

    def cpu_s(self) -> list[float]:
        """Processor time that each member has taken so far."""
        running = processes.scan()
        return [running[one.pid].cpu_s for one in self._processes]

    def put(self, count: int, *, payload_bytes: int) -> list[float]:
        """Put one after another through the leader; seconds of each as a client sees it."""
        taken = []
        for _ in range(count):
            self._puts += 1
            value = base64.b64encode(f"{self._puts:0{payload_bytes}d}".encode()).decode()
            body = {"key": KEY, "value": value}
            began = time.perf_counter()
            self._ask("/v3/kv/put", body)
            taken.append(time.perf_counter() - began)
        return taken

    def read(self, count: int) -> list[float]:
        """Read without consensus: what client and HTTP alone take."""
        taken = []
        for _ in range(count):
            began = time.perf_counter()
            self._ask("/v3/kv/range", {"key": KEY, "serializable": True})
            taken.append(time.perf_counter() - began)
        return taken
