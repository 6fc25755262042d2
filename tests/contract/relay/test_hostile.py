"""Proves that the engine in C keeps bytes and memory whole under attack, under a sanitizer too."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ATTACK = Path(__file__).parent / "hostile.py"
LIMIT_S = 110
FLOWS = int(os.environ.get("PGHERD_SOAK", "80"))
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O1", "-g"]


def attack(
    extension: str | Path, engine: str, *, seed: int, env: dict[str, str] | None = None
) -> None:
    """Run the attack, and show what it said where it failed."""
    done = subprocess.run(
        [sys.executable, str(ATTACK), str(extension), str(seed), str(FLOWS), engine],
        capture_output=True, text=True, timeout=LIMIT_S, env={**os.environ, **(env or {})},
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert f"flows={FLOWS} " in done.stdout


def test_bytes_stay_whole_under_attack(engine_in_c: str) -> None:
    spec = importlib.util.find_spec("pgherd.relay._pump")
    if spec is None or spec.origin is None:
        pytest.skip("the extension was not built")
    attack(spec.origin, engine_in_c, seed=1)


@pytest.fixture(scope="module")
def sanitized(pump_sources: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extension, built anew with AddressSanitizer and UndefinedBehaviorSanitizer."""
    extension = tmp_path_factory.mktemp("sanitized") / "_pump.so"
    headers = sysconfig.get_paths()["include"]
    subprocess.run(
        ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", *SANITIZERS,
         f"-I{headers}", *map(str, pump_sources), "-o", str(extension)],
        check=True,
    )  # fmt: skip
    return extension


def test_memory_stays_whole_under_attack(sanitized: Path, engine_in_c: str, libasan: str) -> None:
    """Whatever a sanitizer finds is fatal."""
    options = "detect_leaks=0:abort_on_error=0:exitcode=99"  # the interpreter leaks by design
    env = {"LD_PRELOAD": libasan, "ASAN_OPTIONS": options, "PYTHONMALLOC": "malloc"}
    attack(sanitized, engine_in_c, seed=3, env=env)
