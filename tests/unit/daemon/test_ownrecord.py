"""Proves that a node's record follows its file, as far as the others understand what it says."""

from __future__ import annotations

import asyncio

import msgspec

from pgherd.daemon.ownrecord import OwnRecord
from pgherd.ledger.commands import Done, Outcome, UpdateMember
from pgherd.ledger.levels import LEVEL
from pgherd.model.facts import Address, Facts, Kind, Member
from pgherd.model.ids import NodeId, RaftId

ME = NodeId("w1")
RECORD = Member(ME, RaftId(3), Kind.WITNESS, Address(host="h", raft_port=1), level=3)


def said(wanted: Member, *, level: int) -> list[UpdateMember]:
    """What is proposed, where the ledger is at a level."""
    proposed: list[UpdateMember] = []

    async def submit(command: object) -> Outcome:
        assert isinstance(command, UpdateMember)
        proposed.append(command)
        return Done()

    async def look() -> None:
        own = OwnRecord(wanted, submit=submit)
        own.look(Facts(cluster="main", members={ME: RECORD}, level=level))
        await asyncio.sleep(0)

    asyncio.run(look())
    return proposed


def test_a_later_kind_waits_but_not_the_level_that_it_waits_for() -> None:
    """Else neither could ever be said: the ledger's level rises with the last member's."""
    wanted = msgspec.structs.replace(RECORD, kind=Kind.PROXY, level=LEVEL)
    [first] = said(wanted, level=3)
    assert (first.kind, first.level) == (Kind.WITNESS, LEVEL)
    [then] = said(wanted, level=LEVEL)
    assert then.kind is Kind.PROXY
    assert said(RECORD, level=3) == []
