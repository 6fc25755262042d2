"""Proves what a founding node's configuration leaves in the ledger."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgherd.config.load import load_text
from pgherd.config.problems import ConfigError
from pgherd.daemon.identity import first_facts, open_store
from pgherd.model.facts import Mode

FILE = """
version: 1
node: {name: n1, address: 127.0.0.1}
raft:
  data_dir: %s
  members: [n1=127.0.0.1:8301, n2=127.0.0.1:8302]
  max_voters: 3
replication: {mode: strict, num_sync: 2}
"""


def test_the_clusters_wishes_travel_into_the_ledger(tmp_path: Path) -> None:
    """Mode, num_sync and max_voters are as the founders' file says; all founders vote at first."""
    settings = load_text(FILE % (tmp_path / "raft"), file="f")
    facts = first_facts(settings)
    assert (facts.mode, facts.num_sync, facts.max_voters) == (Mode.STRICT, 2, 3)
    opened = open_store(settings)
    assert opened.store.snapshot().conf.voters == (1, 2)
    opened.store.close()


@pytest.mark.parametrize(("wrong", "hint"), [("0", "at least 1"), ("9", "at most 7")])
def test_a_limit_of_votes_is_1_to_7(wrong: str, hint: str, tmp_path: Path) -> None:
    """The refusal says the limit and its reason."""
    text = (FILE % tmp_path).replace("max_voters: 3", f"max_voters: {wrong}")
    with pytest.raises(
        ConfigError, match=f"raft.max_voters: {wrong} is too .*{hint}: five survive"
    ):
        load_text(text, file="f")
