"""What the engines' contract stands on: the relay's own tools, and one parameter for the engine."""

from __future__ import annotations

import ctypes
import errno
import importlib.util
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
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


@pytest.fixture(scope="session")
def shuttle_sources() -> list[Path]:
    """The shuttle's C files, on a machine that can build them."""
    if not can_build():
        pytest.skip("needs gcc and Python's headers")
    return sorted(SOURCES.glob("_shuttle*.c"))


@pytest.fixture(scope="session")
def libasan() -> str:
    """What has to be loaded before everything else where something was built with a sanitizer."""
    found = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not Path(found).is_absolute():
        pytest.skip("gcc has no libasan here")
    return found


def has_uring() -> bool:
    """Whether this kernel gives rings to programs, asked without the extension: ENOSYS where it has
    none, EPERM where it or a sandbox refuses; a ring without a description is a bad address.
    """
    number = 425  # io_uring_setup, the same on all machines
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(number, 1, None)
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    return ctypes.get_errno() == errno.EFAULT and release >= (6, 1)


def need_engine(engine: str) -> None:
    """Skip where an engine cannot be; one that should have been built and was not is no reason."""
    is_there = importlib.util.find_spec("pgherd.relay._pump") is not None
    if engine != "uvloop" and not is_there and not can_build():
        pytest.skip("the extension was not built: needs gcc and Python's headers")
    if engine == "uring" and not has_uring():
        pytest.skip("needs Linux 6.1 and leave to use io_uring")


@pytest.fixture
def need() -> Callable[[str], None]:
    """Skip where an engine cannot be: `need("uring")`."""
    return need_engine


@pytest.fixture(params=["uvloop", "pump", "uring"])
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine."""
    name = str(request.param)
    need_engine(name)
    return name


@pytest.fixture(params=["pump", "uring"])
def engine_in_c(request: pytest.FixtureRequest) -> str:
    """Each engine of the extension."""
    name = str(request.param)
    need_engine(name)
    return name
