"""Proves what the keys of `postgresql.clone` take, refuse and lead to."""

from __future__ import annotations

import pytest

from pgherd.act.hands import Cloning
from pgherd.config.load import load_text
from pgherd.config.problems import ConfigError
from pgherd.config.settings import Settings
from pgherd.daemon.datamember import cloning

SMALLEST = "version: 1\nnode: {name: n1, address: 127.0.0.1}\n"


def load(text: str) -> Settings:
    return load_text(f"{SMALLEST}postgresql: {{clone: {{{text}}}}}")


def test_a_limit_and_a_command_reach_the_copy() -> None:
    """Nothing unless it is said."""
    assert cloning(load("")) == Cloning()
    given = cloning(load("max_rate: 20MB, command: [/bin/restore, --delta]"))
    assert given == Cloning(max_rate_bytes=20 << 20, command=("/bin/restore", "--delta"))
    assert cloning(load("max_rate: 0B")).max_rate_bytes == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max_rate: 1kB", "32kB to 1GB"),
        ("max_rate: 2GB", "32kB to 1GB"),
        ("command: [restore]", "write its whole path"),
    ],
)
def test_what_pg_basebackup_would_not_take_is_refused_at_once(text: str, says: str) -> None:
    """Not in the night when the copy is needed."""
    with pytest.raises(ConfigError, match=says):
        load(text)
