"""The mutants: which mistake of RAFT.md 2 replaces what, and which invariant must notice.

Owns the table, the planting (for the length of a `with` only) and the search for a seed that shows
a mutant. Leaves the page about them to reference.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec

from pgherd.raft import (
    core,
    election,
    follower,
    leader,
    log,
    membership,
    node,
    progress,
    reads,
    replicate,
)
from pgherd.sim.raft import machine, planted, server
from pgherd.sim.raft.group import Options
from pgherd.sim.raft.run import Profile, Result, run_seeds

SEEDS_MAX = 2000

Patch = tuple[Any, str, Any]


class Mutant(msgspec.Struct, frozen=True):
    """One mistake. scenario: the file in tests/data that goes otherwise with it; caught_by: the
    invariants that may notice; profile: what brings it out."""

    name: str
    mistake: str
    scenario: str
    patches: tuple[Patch, ...]
    caught_by: tuple[str, ...]
    profile: Profile = Profile()


def _everywhere(name: str, wrong: Any, *modules: Any) -> tuple[Patch, ...]:
    return tuple((module, name, wrong) for module in modules)


TABLE = (
    Mutant(
        "M1",
        "the vote is not durable",
        "raft/election",
        ((core.Core, "hard", planted.hard_without_vote),),
        ("I5",),
    ),
    Mutant(
        "M2",
        "an append is acknowledged before fsync",
        "sim/raft/slow-acknowledgement",
        (
            (core.Core, "send", planted.send_acknowledgement_at_once),
            (server.Server, "waits", planted.acknowledgement_need_not_wait),
        ),
        ("I5",),
    ),
    Mutant(
        "M3",
        "the leader counts its own write before it is durable",
        "raft/single-voter",
        ((leader, "append_own", planted.append_own_and_count),),
        ("I3",),
    ),
    Mutant(
        "M4",
        "entries of older terms are committed by counting",
        "raft/older-term-commit",
        _everywhere("count", planted.count_any_term, leader, membership, replicate),
        ("I3",),
    ),
    Mutant(
        "M5",
        "commit is clamped by the length of the log",
        "raft/older-term-commit",
        (
            (log.RaftLog, "append_from_leader", planted.append_and_commit_by_length),
            (progress, "rejected", planted.rejected_far),
        ),
        ("A1", "I3", "I4", "I5"),
        Profile(
            options=Options(max_size_per_msg=0, snapshot_every=400, entries_kept=100),
            kinds=("burst", "isolate", "split", "one_way", "lost_type", "transfer"),
            count=16,
        ),
    ),
    Mutant(
        "M5b",
        "a heartbeat's commit is not clamped to the match",
        "raft/conflict",
        ((leader, "heartbeat_all", planted.heartbeat_with_own_commit),),
        ("A1", "I3", "I4", "I5"),
    ),
    Mutant(
        "M6",
        "any append truncates",
        "raft/late-append",
        ((log.RaftLog, "append_from_leader", planted.append_and_cut),),
        ("A1", "I3", "I4", "I5"),
    ),
    Mutant(
        "M7",
        "a new leader may change members at once",
        "raft/change-of-a-predecessor",
        ((core.Core, "become_leader", planted.become_leader_free_to_change),),
        ("C1",),
        Profile(
            options=Options(size=3, spare=2, operator_ms=40),
            kinds=("member_added", "member_removed", "change_and_crash", "lost_type", "slow_disk"),
            count=16,
        ),
    ),
    Mutant(
        "M8",
        "a change is in force at append",
        "raft/join-and-promote",
        ((membership, "checked", planted.checked_and_applied),),
        ("C1", "C2", "I3"),
        Profile(kinds=("member_added", "member_removed", "crash_leader"), count=14),
    ),
    Mutant(
        "M9",
        "a learner refuses its vote",
        "raft/learner-votes",
        ((election, "on_vote_request", planted.learners_refuse),),
        ("L1",),
        Profile(
            options=Options(size=1, spare=2),
            kinds=("change_and_crash", "lost_type", "one_way", "isolate"),
            count=14,
        ),
    ),
    Mutant(
        "M10",
        "a removed leader goes on",
        "raft/remove-leader",
        ((membership, "_lead_on", planted.lead_on_outside),),
        ("C3",),
        Profile(kinds=("member_removed", "member_added"), count=10),
    ),
    Mutant(
        "M11",
        "older terms get no answer",
        "raft/stuck-at-a-higher-term",
        ((election, "_answer_older", planted.no_answer_to_older),),
        ("L1", "L2"),
        Profile(kinds=("transfer_and_isolate", "transfer", "isolate", "one_way"), count=14),
    ),
    Mutant(
        "M12",
        "own votes and acknowledgements of older terms count",
        "sim/raft/slow-vote",
        ((node.RaftNode, "advance", planted.advance_believing_old_replies),),
        ("I3", "I5", "A1"),
        Profile(
            options=Options(size=1, spare=0, pre_vote=False),
            kinds=("slow_disk", "hung_disk", "crash"),
            count=14,
        ),
    ),
    Mutant(
        "M13",
        "a read is answered without asking anyone",
        "sim/raft/stale-read",
        ((reads, "ask", planted.read_without_asking),),
        ("R1",),
        Profile(kinds=("isolate", "split", "pause", "one_way"), count=12),
    ),
    Mutant(
        "M14",
        "a read is answered before an entry of the own term is committed",
        "raft/read-before-own-term",
        ((reads, "ask", planted.read_before_own_term),),
        ("R1",),
        Profile(kinds=("crash_leader", "slow_disk", "transfer", "loss"), count=14),
    ),
    Mutant(
        "M15",
        "reads by lease",
        "sim/raft/stale-read",
        ((reads, "_serve", planted.serve_by_lease),),
        ("R1",),
        Profile(kinds=("isolate", "one_way", "transfer", "clock_drift", "pause"), count=14),
    ),
    Mutant(
        "M16",
        "a stale leader ends leases",
        "sim/raft/stale-lease-end",
        (
            (machine.Machine, "may_expire", planted.any_lease_may_expire),
            (server.Server, "expire_leases", planted.expire_leases_as_anyone),
            (server.Server, "propose_end", planted.forward_the_end),
        ),
        ("T1",),
        Profile(kinds=("isolate", "pause", "transfer"), count=12),
    ),
    Mutant(
        "M17",
        "a snapshot replaces a newer log",
        "raft/late-snapshot",
        ((follower, "_snapshot_is_needed", planted.snapshot_is_always_needed),),
        ("A1", "I3", "I4", "I5"),
        Profile(
            options=Options(snapshot_every=5, entries_kept=0),
            kinds=("duplication", "reordering", "late_messages", "isolate", "burst"),
            count=14,
        ),
    ),
    Mutant(
        "M17b",
        "a snapshot's term is not compared",
        "sim/raft/snapshot-of-another-term",
        ((follower, "_snapshot_is_needed", planted.snapshot_is_needed_by_index),),
        ("A1", "I3", "I4", "I5"),
        Profile(
            options=Options(snapshot_every=5, entries_kept=0),
            kinds=("burst", "isolate", "split"),
            count=16,
        ),
    ),
    Mutant(
        "M17c",
        "a lost snapshot is waited for",
        "raft/snapshot",
        ((progress, "snapshot_reported", planted.snapshot_report_is_ignored),),
        ("L1",),
        Profile(
            options=Options(snapshot_every=5, entries_kept=0),
            kinds=("loss", "lost_type", "isolate", "crash", "member_replaced"),
            count=14,
        ),
    ),
    Mutant(
        "M18",
        "a retry is applied again",
        "sim/raft/exactly-once",
        ((machine.Machine, "session_of", planted.no_session),),
        ("I6",),
    ),
    Mutant(
        "M18b",
        "snapshots leave sessions out",
        "sim/raft/sessions-in-snapshots",
        ((machine.Machine, "sessions_for_snapshot", planted.no_sessions_in_snapshot),),
        ("I6", "I4"),
        Profile(
            options=Options(snapshot_every=5, entries_kept=0),
            kinds=("loss", "crash", "isolate", "crash_leader"),
            count=14,
        ),
    ),
    Mutant(
        "M19",
        "a damaged log is cut",
        "sim/raft/damaged-log",
        ((server.Server, "open_store", planted.open_cutting_what_is_damaged),),
        ("I5",),
        Profile(kinds=("bit_flip",), count=4),
    ),
    Mutant(
        "M20",
        "a failed fsync is retried",
        "sim/raft/failed-fsync",
        ((server.Server, "sync", planted.sync_again_after_an_error),),
        ("A1", "I2", "I3", "I5"),
        Profile(kinds=("io_error", "torn_write", "disk_full"), count=6),
    ),
    Mutant(
        "M21",
        "no quorum check",
        "raft/check-quorum",
        (
            (election, "_leader_is_heard", planted.no_leader_is_heard),
            (leader, "_check_quorum", planted.quorum_is_not_checked),
        ),
        ("L2",),
        Profile(options=Options(), kinds=("crash",), count=3, partial=True),
    ),
    Mutant(
        "M22",
        "heartbeats wait for the disk",
        "sim/raft/slow-acknowledgement",
        ((node.RaftNode, "urgent", planted.nothing_is_urgent),),
        ("S1",),
        Profile(options=Options(), kinds=("crash",), count=3, slow_disk=True),
    ),
    Mutant(
        "M23",
        "a learner stands for election",
        "raft/learner-does-not-stand",
        ((core.Core, "can_stand", planted.anyone_can_stand),),
        ("C4",),
        Profile(kinds=("member_added", "member_replaced", "isolate", "lost_type"), count=12),
    ),
    Mutant(
        "M25",
        "timers run on the wall clock",
        "sim/raft/wall-clock",
        ((server.Server, "next_tick", planted.next_tick_by_wall_clock),),
        ("L1", "S1"),
        Profile(kinds=("wall_clock_step", "crash"), count=4, partial=False),
    ),
)
MUTANTS = {mutant.name: mutant for mutant in TABLE}


class NotExpressed(NamedTuple):
    """A mistake that no switch can make, why, and what stands for it."""

    name: str
    mistake: str
    why: str
    instead: str


NOT_EXPRESSED = (
    NotExpressed(
        "M24",
        "objects are deserialised that an attacker chose",
        "no bytes cross the simulated network, and the real decoder can make known types only",
        "200,000 fuzzed frames, `tests/unit/peer/test_frames.py`",
    ),
    NotExpressed(
        "M26",
        "pitfalls of Python",
        "no one function: `python -O`, the order of sets, float terms, a blocked loop",
        "the core refuses to be imported under `-O`; seeds run again in processes with other hash "
        "seeds, `tests/sim/test_raft.py`; ruff's rules on blocking calls; `mypy --strict`",
    ),
)


@contextmanager
def planted_in(mutant: Mutant) -> Iterator[None]:
    """Make the mistake for the length of this block."""
    right = [(where, name, getattr(where, name)) for where, name, _ in mutant.patches]
    try:
        for where, name, wrong in mutant.patches:
            setattr(where, name, wrong)
        yield
    finally:
        for where, name, was in right:
            setattr(where, name, was)


class Catch(msgspec.Struct, frozen=True):
    """How a mutant was caught: after how many seeds, and by which run. None = it was not."""

    mutant: Mutant
    tried: int
    result: Result | None

    @property
    def is_as_expected(self) -> bool:
        """Whether one of the invariants that should notice did."""
        return self.result is not None and self.result.broken in self.mutant.caught_by


def catch(mutant: Mutant, *, first: int = 1, seeds: int = SEEDS_MAX) -> Catch:
    """Run seeds until an invariant notices the mistake."""
    with planted_in(mutant):
        for result in run_seeds(range(first, first + seeds), mutant.profile):
            if result.broken:
                return Catch(mutant, result.seed - first + 1, result)
    return Catch(mutant, seeds, None)
