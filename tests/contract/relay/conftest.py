"""What the engines' contract stands on: the relay's own tools, and one parameter for the engine."""

from __future__ import annotations

import importlib.util
import shutil
import sysconfig
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "unit" / "relay" / "conftest.py"
SOURCES = Path(__file__).parents[3] / "src" / "pgherd" / "relay"


def _tools() -> object:
    spec = importlib.util.spec_from_file_location("relay_tools", TOOLS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_found = _tools()
raw, rig, fakes, real = (getattr(_found, name) for name in ("raw", "rig", "fakes", "real"))


def can_build() -> bool:
    """Whether this machine has what the extension is built with."""
    headers = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return headers.exists() and shutil.which("gcc") is not None


@pytest.fixture(scope="session")
def pump_sources() -> list[Path]:
    """The extension's C files, on a machine that can build them."""
    if not can_build():
        pytest.skip("needs gcc and Python's headers")
    return sorted(SOURCES.glob("_pump*.c"))


@pytest.fixture(params=["uvloop", "pump"])
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine; one that should have been built and was not is no reason to skip."""
    name = str(request.param)
    is_there = importlib.util.find_spec("pgherd.relay._pump") is not None
    if name == "pump" and not is_there and not can_build():
        pytest.skip("the extension was not built: needs gcc and Python's headers")
    return name
