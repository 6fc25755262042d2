"""The fake herd of the API's tests, served on loopback, and the command line called in-process."""

from __future__ import annotations

import asyncio
import importlib.util
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from pgherd.api.serve import ServeTls, serve
from pgherd.cli.app import run
from pgherd.proof.ports import claim_base

DEADLINE_S = 10.0


def load_fakes() -> ModuleType:
    path = Path(__file__).parent.parent / "api" / "conftest.py"
    spec = importlib.util.spec_from_file_location("api_fakes", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FAKES = load_fakes()


class Result(msgspec.Struct, frozen=True):
    """What a command line did."""

    code: int
    out: str
    err: str


@pytest.fixture
def fakes() -> ModuleType:
    return FAKES


@pytest.fixture
def herd():
    return FAKES.make_herd()


class Served:
    """An application served by a thread of its own."""

    def __init__(self, app, tls: ServeTls | None = None, *, port: int = 0) -> None:
        self._ready = threading.Event()
        self._app = app
        self._tls = tls
        self._wanted = port
        self.port = 0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = serve(self._app, "127.0.0.1", self._wanted, self._tls)
        self.port = self._server.port
        task = asyncio.create_task(self._server.run())
        await self._server.started.wait()
        self._ready.set()
        await task

    def __enter__(self) -> Served:
        self._thread.start()
        assert self._ready.wait(DEADLINE_S), "the server did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._server.stop)
        self._thread.join(DEADLINE_S)

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"


@pytest.fixture
def served(herd) -> Iterator[Served]:
    with Served(FAKES.make_app(herd)) as server:
        yield server


@pytest.fixture
def serving() -> type[Served]:
    return Served


@pytest.fixture
def pgherd(capsys, monkeypatch) -> Callable[..., Result]:
    """Call the command line; nothing of this machine's own configuration is seen."""
    own = ("API_URL", "TOKEN", "CA", "CERT", "KEY", "CONFIG", "CONTEXT")
    for name in (f"PGHERD_{word}" for word in own):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pgherd.cli.start.CONFIG_DEFAULT", "/nonexistent/pgherd.yaml")
    monkeypatch.setattr("pgherd.cli.start.CONFIG_HOME", "nonexistent/pgherd.yaml")

    def call(*argv: str) -> Result:
        capsys.readouterr()
        code = run([str(word) for word in argv])
        said = capsys.readouterr()
        return Result(code, said.out, said.err)

    call.free_base = claim_base  # type: ignore[attr-defined]
    return call
