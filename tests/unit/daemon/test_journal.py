"""Every command becomes an event, or says on purpose nothing: a missing word stops an agent."""

from __future__ import annotations

from pgherd.daemon.journal import KINDS, UNTOLD
from pgherd.ledger import commands as cmd


def test_every_command_has_its_word() -> None:
    """The union of commands is what is told and what is not."""
    assert {*KINDS, *UNTOLD} == set(cmd.AnyCommand.__args__)
