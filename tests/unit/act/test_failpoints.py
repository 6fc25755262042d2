"""Failpoints do what they are told, at the place and the time that they are told, or nothing."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pgherd import act
from pgherd.act.executor import ACTUATORS
from pgherd.act.failpoints import POINTS, Failpoints, act_name, parse, reached
from pgherd.act.hands import ActFailed
from pgherd.model.errors import OperatorError

SOURCE = Path(act.__file__).parent


def strike(points: Failpoints, name: str) -> None:
    asyncio.run(points.strike(name))


def test_nothing_is_armed_without_the_variable() -> None:
    """An agent of an operator pays one look at a value that is false."""
    assert not POINTS
    assert not Failpoints("")
    asyncio.run(reached("promote.adopted"))


def test_an_error_comes_at_its_place_and_its_time() -> None:
    """The N-th time only where that is said; other places go on."""
    points = Failpoints("before.promote=error@2; after.seal=error")
    assert points
    strike(points, "before.promote")
    with pytest.raises(ActFailed, match=r"before\.promote"):
        strike(points, "before.promote")
    strike(points, "before.promote")
    for _ in range(2):
        with pytest.raises(ActFailed):
            strike(points, "after.seal")
    strike(points, "before.seal")


def test_a_sleep_takes_its_time() -> None:
    """No less than it says."""
    began = time.monotonic()
    strike(Failpoints("a.b=sleep(50)"), "a.b")
    assert time.monotonic() - began >= 0.05


def test_a_panic_kills_the_process() -> None:
    """As SIGKILL does: nothing runs after it."""
    code = (
        "import asyncio; from pgherd.act.failpoints import Failpoints;"
        "asyncio.run(Failpoints('a.b=panic').strike('a.b')); print('alive')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -9
    assert "alive" not in done.stdout


def test_a_file_strikes_once(tmp_path: Path) -> None:
    """It may come later than the agent, and is gone when it has struck, for all that share it."""
    file = tmp_path / "failpoint"
    points, others = Failpoints(str(file)), Failpoints(str(file))
    strike(points, "before.promote")
    file.write_text("before.promote=error")
    strike(points, "after.promote")
    with pytest.raises(ActFailed):
        strike(points, "before.promote")
    assert not file.exists()
    strike(others, "before.promote")


def test_what_is_no_failpoint_is_refused() -> None:
    """With what to write instead."""
    for text in ("x", "x=stop", "x=sleep", "x=panic@", "X=panic"):
        with pytest.raises(OperatorError, match="is no failpoint"):
            parse(text)


def test_every_place_is_between_the_steps_of_an_act_that_there_is() -> None:
    """`ACT.STEP` names an act, and each name stands once."""
    acts = {act_name(kind) for kind in ACTUATORS}
    assert {"promote", "drain_and_stop", "init_db"} <= acts
    named = re.findall(
        r'await reached\("([^"]+)"\)', "".join(f.read_text() for f in SOURCE.glob("*.py"))
    )
    assert len(named) == len(set(named)) >= 10
    assert {name.partition(".")[0] for name in named} <= acts
