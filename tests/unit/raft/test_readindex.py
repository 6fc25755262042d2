"""Proves that a read is answered only after a quorum confirmed the leader behind it."""

from __future__ import annotations

from tests.unit.raft.network import Network

from pgherd.raft.conformance import ConfState, Msg
from pgherd.raft.readindex import READS_WAITING_MAX, Read, ReadQueue

THREE = ConfState(voters=(1, 2, 3))


def reads(network: Network, node: int) -> list[tuple[int, bytes]]:
    return network.members[node].reads


def test_a_quorum_confirms_all_reads_up_to_the_number_it_returned() -> None:
    """One round serves many reads; a later read needs a later round."""
    queue = ReadQueue()
    queue.add(Read(1, b"a", 5))
    queue.add(Read(1, b"b", 6))
    first = queue.context()
    queue.acknowledge(1, first)
    assert queue.take_confirmed(THREE) == []
    queue.add(Read(2, b"c", 7))
    queue.acknowledge(1, queue.context())
    queue.acknowledge(3, first)
    assert [read.context for read in queue.take_confirmed(THREE)] == [b"a", b"b"]
    queue.acknowledge(2, queue.context())
    assert [read.context for read in queue.take_confirmed(THREE)] == [b"c"]
    assert queue.context() == b""


def test_forged_or_foreign_contexts_confirm_nothing_ahead() -> None:
    """A number that was never sent must not answer reads of the future."""
    queue = ReadQueue()
    for node in THREE.voters:
        queue.acknowledge(node, (99).to_bytes(8, "big"))
        queue.acknowledge(node, b"odd")
    assert queue.take_confirmed(THREE) == []


def test_the_leader_answers_after_one_heartbeat_round() -> None:
    """The index is the commit index of the moment of asking."""
    network = Network.of(3)
    network.elect(1)
    network.propose(1, "x")
    commit = network.node(1).commit
    network.node(1).read_index(b"r1")
    assert not reads(network, 1)
    network.run()
    assert reads(network, 1) == [(commit, b"r1")]


def test_a_follower_asks_the_leader() -> None:
    """The answer comes back with the context of the asker."""
    network = Network.of(3)
    network.elect(1)
    network.node(3).read_index(b"r3")
    network.run()
    assert reads(network, 3) == [(network.node(1).commit, b"r3")]
    assert not reads(network, 1)


def test_a_follower_without_leader_loses_the_read() -> None:
    """Nothing is answered from a state that nobody vouches for."""
    network = Network.of(3)
    network.node(2).read_index(b"r")
    network.run()
    assert not reads(network, 2)
    assert not network.journal


def test_a_single_voter_answers_at_once_even_with_learners() -> None:
    """Its own word is a quorum; no round is needed."""
    network = Network.of(1, learners=(2,))
    network.elect(1)
    network.journal.clear()
    network.node(1).read_index(b"r")
    assert network.node(1).ready().read_states == ((network.node(1).commit, b"r"),)
    assert not network.journal


def test_no_read_is_served_before_an_entry_of_the_own_term_is_committed() -> None:
    """Until then the commit index of a new leader may be lower than what was acknowledged."""
    network = Network.of(3)
    network.elect(1)
    network.propose(1, "acknowledged")
    network.isolate(1)
    network.elect_without_commit(2)
    network.node(2).read_index(b"early")
    network.process(2)
    assert not reads(network, 2)
    network.run()
    assert reads(network, 2) == [(network.node(2).commit, b"early")]
    assert network.members[2].values() == ["acknowledged"]


def test_a_single_voter_that_restarts_waits_for_its_own_term_too() -> None:
    """Its stored commit index may be behind what it acknowledged before the crash."""
    network = Network.of(1)
    network.node(1).campaign()
    network.process(1)
    network.node(1).read_index(b"r")
    assert not network.node(1).ready().read_states


def test_a_deposed_leader_answers_nothing() -> None:
    """A leader that is cut off cannot confirm itself, and its followers have a new one."""
    network = Network.of(3)
    network.elect(1)
    network.isolate(1)
    network.elect(2)
    network.propose(2, "new")
    network.node(1).read_index(b"stale")
    network.run()
    assert not reads(network, 1)
    network.heal()
    network.beat(2)
    assert network.node(1).role == "follower"
    assert not reads(network, 1)


def test_a_lost_round_is_repeated_by_the_next_heartbeat() -> None:
    """Reads survive lost messages as long as the leader does."""
    network = Network.of(3)
    network.elect(1)
    network.isolate(1)
    network.node(1).read_index(b"r")
    network.run()
    network.heal()
    network.beat(1)
    assert len(reads(network, 1)) == 1


def test_a_read_that_waits_is_answered_when_its_quorum_shrinks_to_the_leader() -> None:
    """Nobody is left whose heartbeat answer could do it."""
    network = Network.of(2)
    network.elect(1)
    network.node(1).propose_conf_change([("r", 2)])
    network.process(1)
    network.node(1).read_index(b"r")
    network.process(1)
    network.under_way = [one for one in network.under_way if one.type != "Heartbeat"]
    network.run()
    assert network.members[1].applied.conf == ConfState(voters=(1,))
    assert len(reads(network, 1)) == 1


def test_a_lease_answers_without_a_round() -> None:
    """read_only="lease" trusts the clock, and says so in its name."""
    network = Network.of(3, read_only="lease", check_quorum=True)
    network.elect(1)
    network.node(1).read_index(b"r")
    assert [ctx for _, ctx in network.node(1).ready().read_states] == [b"r"]


def test_too_many_waiting_reads_are_dropped() -> None:
    """A leader without a quorum does not collect reads for ever."""
    network = Network.of(3)
    network.elect(1)
    network.isolate(1)
    for number in range(READS_WAITING_MAX + 5):
        network.node(1).step(Msg(type="ReadIndex", frm=2, context=b"%d" % number))
    network.heal()
    network.beat(1)
    answers = [one for one in network.journal if one.type == "ReadIndexResp"]
    assert len(answers) == READS_WAITING_MAX
