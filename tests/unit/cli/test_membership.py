"""Proves add-node, remove-node and `raft ...`: what is shown, asked for, and the exit codes."""

from __future__ import annotations

import asyncio
import json

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.model.facts import SyncState
from pgherd.model.ids import NodeId

N3 = NodeId("n3")


async def let_go(herd) -> None:
    await asyncio.sleep(0.02)
    herd.current = msgspec.structs.replace(herd.current, sync=SyncState())
    herd.must(cmd.RemoveMember(N3, herd.current.members[N3].raft_id))


def test_a_node_is_removed(herd, served, pgherd):
    """The plan comes first, then the question; --yes answers it."""
    url = ("--api-url", served.url)
    asked = pgherd("remove-node", "--name", "n3", *url)
    assert asked.code == 2
    assert "plan: remove n3 (replica, streaming)" in asked.err
    assert "only 2 voters are left" in asked.err
    assert not herd.current.members[N3].leaving
    herd.react = let_go
    done = pgherd("remove-node", "--name", "n3", "--yes", *url)
    assert (done.code, done.out) == (0, "n3 is no member any more; left: n1, n2\n"), done.err
    assert "next, on n3: stop pgherd there" in done.err


def test_the_last_copy_is_pointed_out(herd, served, pgherd):
    """Nobody removes the last copy without having read so."""
    herd.heard.pop(N3)
    said = pgherd("remove-node", "--name", "n2", "--api-url", served.url).err
    assert "NO copy is left beside the primary" in said


def test_refusals_have_a_code_and_a_next_step(herd, served, pgherd):
    """3 refused by policy, 2 for a name that is none, 4 without a quorum."""
    url = ("--api-url", served.url)
    primary = pgherd("remove-node", "--name", "n1", "--yes", *url)
    assert primary.code == 3
    assert "next: hand the lead over first: pgherd switchover" in primary.err
    assert pgherd("remove-node", "--name", "n9", "--yes", *url).code == 2
    assert pgherd("remove-node", *url).code == 2
    herd.has_quorum = False
    assert pgherd("remove-node", "--name", "n3", "--yes", *url).code == 4


def test_consensus_is_shown(served, pgherd):
    """Peers and state, as tables and as the API's own objects."""
    url = ("--api-url", served.url)
    rows = [row.split() for row in pgherd("raft", "peers", *url).out.splitlines()]
    assert ["n2", "2", "voter", "yes", "no"] in [row[:5] for row in rows]
    assert json.loads(pgherd("raft", "peers", *url, "-o", "json").out)[0]["suffrage"] == "voter"
    state = pgherd("raft", "state", *url).out
    assert "n1 is follower in Raft term 7" in state
    assert "committed 41, applied 40" in state
    assert "ledger    at level 1" in state
    assert "n1, n2, n3; at most 5" in state


def test_the_number_of_votes_is_changed(herd, served, pgherd):
    """The plan says what a number is worth; the ledger has it after."""
    url = ("--api-url", served.url)
    asked = pgherd("raft", "max-voters", "2", *url)
    assert asked.code == 2
    assert "plan: at most 2 members vote, not 5; now n1, n2, n3 do" in asked.err
    assert "of 2 voters 0 may fail at once" in asked.err
    assert "as many as of 1" in asked.err
    done = pgherd("raft", "max-voters", "3", "--yes", *url)
    assert (done.code, done.out) == (0, "at most 3 members vote\n"), done.err
    assert herd.current.max_voters == 3
    assert pgherd("raft", "max-voters", "8", "--yes", *url).code != 0
    assert herd.current.max_voters == 3


def test_who_stands_by_is_shown(herd, served, pgherd):
    """Peers say why; status says who votes; a removal that costs no vote is not warned of."""
    url = ("--api-url", served.url)
    herd.current = msgspec.structs.replace(herd.current, max_voters=2)
    herd.learners = (herd.current.members[N3].raft_id,)
    assert (
        "stands by: raft.max_voters is 2, and that many vote" in pgherd("raft", "peers", *url).out
    )
    assert "Raft leader n2 of n1, n2" in pgherd("status", *url).out
    asked = pgherd("remove-node", "--name", "n2", *url).err
    assert "a member that stands by votes in its place" in asked
    assert "voters are left" not in asked


def test_the_lead_of_consensus_moves(served, pgherd):
    """Without a name to any voter but the primary; to the primary never."""
    url = ("--api-url", served.url)
    moved = pgherd("raft", "transfer", *url)
    assert (moved.code, moved.out) == (0, "n3 leads consensus, before it n2 did\n"), moved.err
    refused = pgherd("raft", "transfer", "--to", "n1", *url)
    assert refused.code == 3
    assert "n1 is the primary" in refused.err


def test_a_node_is_invited(herd, serving, fakes, pgherd):
    """The command line for the new machine is the answer; --ttl takes a duration."""
    from pgherd.pki.authority import make_ca

    ca = make_ca("main").certificate_pem
    with serving(fakes.make_app(herd, ca_pem=lambda: ca)) as server:
        url = ("--api-url", server.url)
        made = pgherd("add-node", "--name", "w4", "--witness", "--ttl", "2h", *url)
        assert made.code == 0, made.err
        assert made.out.startswith("pgherd join --name w4 --token ")
        assert made.out.endswith(" --start --witness\n")
        assert pgherd("add-node", "--ttl", "soon", *url).code == 2
        assert pgherd("add-node", "--name", "n2", *url).code == 3
