"""The state machine of the ledger: what commands change, and what they are refused for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pgherd.ledger import commands as cmd
from pgherd.ledger.apply import HANDLERS, apply_command
from pgherd.ledger.machine import CLIENTS_MAX, Ledger
from pgherd.ledger.rights import JOIN_TOKENS_MAX
from pgherd.model.facts import Address, Facts, Kind, Member, Mode, Phase
from pgherd.model.ids import Lsn, MemberKey, NodeId, Position, RaftId, Term, Timeline

N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
K1, K2, K3 = MemberKey(N1, "a1"), MemberKey(N2, "a2"), MemberKey(N3, "a3")
START = Position(Term(0), Lsn(100))


def empty() -> Facts:
    members = {
        node: Member(
            node=node,
            raft_id=RaftId(i + 1),
            kind=Kind.DATA,
            address=Address(host=node, raft_port=1),
        )
        for i, node in enumerate((N1, N2, N3))
    }
    return Facts(cluster="test", members=members, next_raft_id=RaftId(4))


def after(facts: Facts, *commands: cmd.AnyCommand) -> Facts:
    """Apply commands that must all be taken."""
    for command in commands:
        facts, outcome = apply_command(facts, command, at_ms=7)
        assert isinstance(outcome, cmd.Done), (command, outcome)
    return facts


def refused(facts: Facts, command: cmd.AnyCommand) -> str:
    """Apply one that must be refused, and change nothing; the code."""
    new, outcome = apply_command(facts, command, at_ms=7)
    assert new == facts
    assert isinstance(outcome, cmd.Refused), outcome
    assert outcome.reason
    return outcome.code


def begin(expected: int, elector: NodeId = N2) -> cmd.Begin:
    return cmd.Begin(expected=Term(expected), elector=elector, rule=203, reason="silent")


def elect(term: int, winner: MemberKey, *voters: MemberKey, k: int = 0, **more: Any) -> cmd.Elect:
    made = cmd.Elect(
        term=Term(term),
        elector=N2,
        winner=winner,
        start=START,
        promoted=True,
        voters=voters,
        k=k,
        rule=305,
        reason="has everything",
    )
    return msgspec.structs.replace(made, **more)


def establish(term: int, *names: MemberKey) -> cmd.Establish:
    return cmd.Establish(
        term=Term(term), timeline=Timeline(2), epoch_record_end=Lsn(200), names=names
    )


def born() -> Facts:
    """All three have data directories, and there was no term yet."""
    return after(
        empty(),
        cmd.ChooseFounder(N1),
        cmd.Born(node=N1, incarnation="a1", system_id="73", major=15),
        cmd.RegisterIncarnation(N2, "a2"),
        cmd.RegisterIncarnation(N3, "a3"),
    )


def stable() -> Facts:
    """Term 1 under n1 with V = {n2, n3}, k = 1."""
    return after(born(), begin(0), elect(1, K1, K2, K3, k=1), establish(1, K2, K3))


def step(**changes: Any) -> cmd.ChangeSync:
    """A step from `stable` that changes nothing, and then what is asked for."""
    made = cmd.ChangeSync(
        term=Term(1),
        generation=1,
        settled=False,
        voters=(K2, K3),
        k=1,
        kd=1,
        r=2,
        names=(K2, K3),
        names_k=1,
        rule=505,
        reason="test",
    )
    return msgspec.structs.replace(made, **changes)


def test_a_term_is_above_all_that_the_data_is_of() -> None:
    """F0: positions compare only where the next epoch is greater than every one in the WAL."""
    born = after(
        msgspec.structs.replace(empty(), level=6),
        cmd.ChooseFounder(N1),
        cmd.Born(node=N1, incarnation="a1", system_id="73", major=15),
    )
    higher = msgspec.structs.replace(begin(0), above=Term(57))
    assert after(born, higher).term == 58
    assert after(born, begin(0), msgspec.structs.replace(begin(1), above=Term(1))).term == 2
    assert refused(msgspec.structs.replace(born, level=5), higher) == "too_new"


def test_birth_and_first_term() -> None:
    """From nothing to a stable term, one command after the other."""
    facts = stable()
    assert (facts.term, facts.phase, facts.leader) == (1, Phase.STABLE, K1)
    assert (facts.sync.kd, facts.sync.r, facts.sync.names_k) == (1, 2, 1)
    assert facts.history[-1].established
    assert facts.history[-1].timeline == 2


def test_a_term_has_one_leader() -> None:
    """Begin and Elect compare what they expect: a late or second one changes nothing (I11)."""
    facts = stable()
    assert refused(facts, begin(0)) == "stale"
    assert refused(facts, elect(1, K2)) == "stale"
    electing = after(facts, begin(1))
    assert refused(electing, begin(1)) == "stale"
    assert refused(electing, elect(2, K3, elector=N3)) == "stale"
    chosen = after(electing, elect(2, K3, K1, K2, k=1))
    assert refused(chosen, elect(2, K2, K1, K3, k=1)) == "stale"
    assert refused(chosen, establish(1, K2)) == "stale"


def test_kd_is_carried_through_unfinished_terms() -> None:
    """A larger k of a term never established makes no seal set smaller (PROTOCOL.md F5)."""
    alone = after(stable(), step(voters=(), k=0, kd=0, r=0, names=(), names_k=0))
    hop = after(alone, begin(1), elect(2, K1, K2, K3, k=1))
    assert (hop.sync.kd, hop.sync.r) == (0, 3)
    done = after(hop, establish(2, K2))
    assert (done.sync.kd, done.sync.r) == (1, 2)


@pytest.mark.parametrize(
    ("story", "command"),
    [
        ("a voter forgotten before PostgreSQL is told", step(voters=(K2,), r=1)),
        ("k lowered, kd not", step(k=0, names=(), names_k=0)),
        ("R too small for k", step(r=1)),
        ("empty names while there are voters", step(names=(), names_k=0)),
        ("kd above k", step(kd=2)),
        ("more acknowledgements than standbys", step(names_k=3)),
    ],
)
def test_unsafe_sets_are_refused(story: str, command: cmd.ChangeSync) -> None:
    """The ledger is the last gate: what breaks (Q) or kd is refused whoever proposes it."""
    assert refused(stable(), command) == "unsafe", story


def test_sync_steps_compare_the_generation() -> None:
    """A step made from an older set is stale."""
    smaller = after(stable(), step(names=(K2,)))
    assert smaller.sync.in_use
    assert refused(smaller, step(names=(K3,))) == "stale"
    settled = step(generation=2, settled=True, voters=(K2,), r=1, names=(K2,))
    assert after(smaller, settled).sync.in_use == ()


def test_a_rebuilt_voter_does_not_inherit_its_vote() -> None:
    """V keeps the old incarnation, which never seals again; the leader's cannot change (I22)."""
    facts = stable()
    assert refused(facts, cmd.RegisterIncarnation(N1, "b1")) == "in_use"
    rebuilt = after(facts, cmd.RegisterIncarnation(N3, "b3"))
    assert rebuilt.sync.voters == (K2, K3)
    assert rebuilt.member(K3) is None
    new = MemberKey(N3, "b3")
    assert refused(rebuilt, step(voters=(K2, new), names=(K2, new))) == "unsafe"
    admitted = step(voters=(K2, K3, new), r=3, names=(K2, K3, new))
    assert after(rebuilt, admitted).sync.r == 3


def test_requests_are_refused_with_a_code() -> None:
    """What an operator asks for at the wrong time says why not."""
    facts = stable()
    ask = cmd.RequestSwitchover(id="s1", candidate=N2, requested_by="ann")
    assert refused(facts, msgspec.structs.replace(ask, candidate=N1)) == "already_leader"
    assert refused(facts, msgspec.structs.replace(ask, candidate=NodeId("n9"))) == "unknown_node"
    asked = after(facts, ask)
    assert refused(asked, ask) == "busy"
    assert refused(after(facts, begin(1)), ask) == "not_stable"
    assert after(asked, begin(1)).switchover is None


def test_every_command_has_a_handler() -> None:
    """The union of commands and the table of handlers are the same."""
    assert set(HANDLERS) == set(cmd.AnyCommand.__args__)


def propose(
    ledger: Ledger, client: str, seq: int, command: cmd.AnyCommand, index: int, *, seen: int = -1
) -> Any:
    """As its maker proposed it, who had applied all before it."""
    data = ledger.encode(cmd.Proposal(client, seq, 7, command, index - 1 if seen < 0 else seen))
    return ledger.apply(data, index=index)


def test_a_retry_is_applied_once() -> None:
    """The same (client, seq) again gives the first outcome; an older seq is stale (I6)."""
    ledger = Ledger(empty())
    first = propose(ledger, "c", 1, cmd.ChooseFounder(N1), 1)
    again = propose(ledger, "c", 1, cmd.ChooseFounder(N2), 2)
    assert again[1] == first[1] == cmd.Done()
    assert ledger.facts.founder == N1
    propose(ledger, "c", 2, cmd.ChooseFounder(N2), 3)
    assert propose(ledger, "c", 1, cmd.ChooseFounder(N1), 4)[1].code == "stale"


def test_a_snapshot_is_the_whole_state() -> None:
    """Facts and sessions come back from a snapshot, byte for byte the same (I4)."""
    ledger = Ledger(stable())
    propose(ledger, "c", 1, begin(1), 9)
    twin = Ledger(empty())
    twin.restore(ledger.snapshot())
    assert twin.facts == ledger.facts
    assert twin.snapshot() == ledger.snapshot()
    assert propose(twin, "c", 1, begin(1), 10)[1] == cmd.Done()
    assert twin.facts.term == 2


def test_the_table_of_clients_is_bounded() -> None:
    """The oldest client by log index goes first, the same on every node."""
    ledger = Ledger(empty())
    for i in range(CLIENTS_MAX + 10):
        propose(ledger, f"c{i}", 1, cmd.ChooseFounder(N1), i + 1)
    assert len(ledger.sessions) == CLIENTS_MAX
    assert "c0" not in ledger.sessions
    assert f"c{CLIENTS_MAX + 9}" in ledger.sessions


def test_a_retry_that_was_forgotten_is_told_so() -> None:
    """Its client had to leave the table: it is neither applied twice nor believed to be new."""
    ledger = Ledger(msgspec.structs.replace(empty(), level=2))
    propose(ledger, "late", 1, cmd.SetMode(Mode.STRICT, 1), 5, seen=4)
    for i in range(CLIENTS_MAX):
        propose(ledger, f"c{i}", 1, cmd.SetMode(Mode.QUORUM, 2), i + 6)
    twin = Ledger(empty())
    twin.restore(ledger.snapshot())
    for one in (ledger, twin):
        outcome = propose(one, "late", 1, cmd.SetMode(Mode.STRICT, 1), 500, seen=4)[1]
        assert outcome.code == "forgotten"
        assert one.facts.mode is Mode.QUORUM
        assert propose(one, "new", 1, cmd.SetMode(Mode.STRICT, 1), 501)[1] == cmd.Done()


def test_what_goes_first_is_the_same_after_a_snapshot() -> None:
    """Dictionaries come back in another order; clients and tokens still leave in the same one."""
    ledger, twin = Ledger(empty()), Ledger(empty())
    for i in range(max(CLIENTS_MAX, JOIN_TOKENS_MAX)):
        token = cmd.IssueToken(f"t{-i % 97}.{i}", "0" * 64, 1000 + i)
        propose(ledger, f"c{-i % 89}.{i}", 1, token, i + 1)
    twin.restore(ledger.snapshot())
    for i in range(20):
        for one in (ledger, twin):
            propose(one, f"d{i}", 1, cmd.IssueToken(f"u{i}", "0" * 64, 5000 + i), 600 + i)
    assert ledger.snapshot() == twin.snapshot()
    assert len(ledger.facts.tokens) == JOIN_TOKENS_MAX


def test_an_empty_entry_changes_nothing() -> None:
    """A new Raft leader's entry carries no command."""
    ledger = Ledger(empty())
    assert ledger.apply(b"", index=1) is None
