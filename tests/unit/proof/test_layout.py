"""Prove that a local node's files and ports are what the daemon accepts, and stay."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pgherd.config.load import load
from pgherd.model.errors import OperatorError
from pgherd.proof import layout
from pgherd.proof.herd import LocalHerd


@pytest.fixture
def root() -> Path:
    """A place that PostgreSQL's user could enter; pytest's own is closed to it."""
    return layout.make_directory(None)


def test_the_daemon_accepts_every_nodes_configuration(root: Path) -> None:
    """Written, loaded with all checks, and found to hold what was meant; overrides win."""
    herd = LocalHerd(3, directory=root, overrides={"failover": {"detect": "2s"}})
    try:
        for place in herd.places.values():
            settings = load(place.config)
            assert settings.node.name == place.name
            assert settings.postgresql.port == place.ports.postgres
            assert settings.failover.detect_ms == 2000
            assert len(settings.raft.members) == 3
            assert oct(place.directory.joinpath("node.key").stat().st_mode)[-3:] == "600"
    finally:
        herd.remove()


def test_a_kept_herd_comes_back_with_its_ports_and_secrets(root: Path) -> None:
    """The second run in a directory is the same herd; another shape is refused."""
    first = LocalHerd(3, directory=root)
    again = LocalHerd(3, directory=root)
    try:
        assert (again.places, again.secrets) == (first.places, first.secrets)
        with pytest.raises(OperatorError, match="holds a herd of 3 nodes"):
            LocalHerd(5, directory=root)
    finally:
        first.remove()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
def test_a_closed_parent_directory_is_refused(tmp_path: Path) -> None:
    """Data below a 0700 directory could not be reached by PostgreSQL's user."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(OperatorError, match="is closed to the PostgreSQL user"):
        layout.make_directory(closed / "herd")
