"""Break a herd under load, one way at a time, and say how long writes stood still.

Owns what "postmaster killed", "node killed", "switchover" and "agent killed" mean, when such a
trial is over (full redundancy again), and the final reading of the rows on every node. `pgherd
demo --once`, the cluster tests and the bench all measure with this.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from enum import StrEnum

import msgspec

from pgherd.proof.asking import HerdError
from pgherd.proof.herd import LocalHerd
from pgherd.proof.history import History, Outage, Row, Verdict, check, outages
from pgherd.proof.writers import Writers, read_rows

REDUNDANT_DEADLINE_S = 90.0
PRIMARY_DEADLINE_S = 60.0
"""More than the least time between two failovers on suspicion of the same node."""
WRITES_BACK_S = 0.5
"""Writes are back when the last acknowledgement is younger than this."""

QUIET_S = 1.0
"""Load before a fault and after its repair, so that both ends of an outage are seen."""


class Fault(StrEnum):
    """The ways in which a trial breaks a herd."""

    POSTMASTER = "postmaster"
    NODE = "node"
    SWITCHOVER = "switchover"
    AGENT = "agent"


TITLES = {
    Fault.POSTMASTER: "postmaster of the primary killed",
    Fault.NODE: "whole node of the primary killed",
    Fault.SWITCHOVER: "planned switchover",
    Fault.AGENT: "agent of the primary killed",
}


class Trial(msgspec.Struct, frozen=True):
    """One fault: who led before and after, and how long redundancy took to come back.

    redundant_s: from the fault; for a killed node from its restart.
    """

    fault: StrEnum
    before: str
    after: str
    redundant_s: float


class Report(msgspec.Struct, frozen=True):
    """A run of trials with the outage of each and the verdict on all writes."""

    trials: tuple[Trial, ...]
    outages: tuple[Outage, ...]
    verdict: Verdict


Act = Callable[[LocalHerd, Writers, str], float]
"""Breaks a herd with this primary, and mends what does not mend itself; since when it is mended."""


def attempt(herd: LocalHerd, writers: Writers, fault: StrEnum, *, act: Act | None = None) -> Trial:
    """Do one fault under load, and return when the herd is whole again.

    act: how, where that is not one of the ways that are known here.
    """
    time.sleep(QUIET_S)
    before = herd.wait_primary()
    began = (act or ACTS[Fault(fault)])(herd, writers, before)
    herd.wait_for(lambda: writers.idle_s() < WRITES_BACK_S, "write", deadline_s=PRIMARY_DEADLINE_S)
    herd.wait_stable(REDUNDANT_DEADLINE_S)
    took = time.monotonic() - began
    after = herd.wait_primary()
    time.sleep(QUIET_S)
    return Trial(fault, before, after, took)


def conclude(
    herd: LocalHerd, writers: Writers, trials: list[Trial], *, others: Sequence[History] = ()
) -> Report:
    """Stop the writers, read the rows on every node, and judge.

    others: of more writers into the same table, for the verdict alone.
    """
    history = writers.stop()
    attempts = (*history.attempts, *(each for other in others for each in other.attempts))
    whole = msgspec.structs.replace(history, attempts=attempts)
    return Report(tuple(trials), outages(history), judge(herd, whole))


def judge(herd: LocalHerd, history: History) -> Verdict:
    """The verdict on a history by the rows that every node has in the end."""
    return check(history, rows_everywhere(herd))


def rows_everywhere(herd: LocalHerd, *, deadline_s: float = 30.0) -> list[Row]:
    """The primary's rows, after every replica replayed that far and was found to hold the same."""
    primary = herd.wait_primary()
    rows = read_rows(herd.dsn_node(primary))
    [[end]] = herd.query(primary, "SELECT pg_current_wal_flush_lsn()")
    for name in herd.data:
        if name == primary:
            continue
        statement = f"SELECT 1 WHERE pg_last_wal_replay_lsn() >= '{end}'"
        herd.wait_for(
            lambda name=name, ask=statement: herd.query(name, ask),  # type: ignore[misc] # binds both
            f"replay of {end} on {name}",
            deadline_s=deadline_s,
        )
        theirs = read_rows(herd.dsn_node(name))
        if set(_plain(theirs)) != set(_plain(rows)):
            raise HerdError(f"{name} has other rows than the primary {primary}")
    return rows


def _plain(rows: list[Row]) -> list[tuple[int, int, int, int]]:
    return [(*row.id, row.after, row.lsn) for row in rows]


def _kill_postmaster(herd: LocalHerd, writers: Writers, primary: str) -> float:
    began = writers.mark(TITLES[Fault.POSTMASTER])
    herd.kill_postmaster(primary)
    return began


def _kill_node(herd: LocalHerd, writers: Writers, primary: str) -> float:
    writers.mark(TITLES[Fault.NODE])
    herd.kill_node(primary)
    herd.wait_primary(other_than=primary, deadline_s=PRIMARY_DEADLINE_S)
    herd.wait_for(lambda: writers.idle_s() < WRITES_BACK_S, "write", deadline_s=PRIMARY_DEADLINE_S)
    time.sleep(QUIET_S)
    herd.restart_node(primary)
    return time.monotonic()


def _switch_over(herd: LocalHerd, writers: Writers, primary: str) -> float:
    began = writers.mark(TITLES[Fault.SWITCHOVER])
    herd.switchover()
    herd.wait_primary(other_than=primary, deadline_s=PRIMARY_DEADLINE_S)
    return began


def _kill_agent(herd: LocalHerd, writers: Writers, primary: str) -> float:
    postmaster = herd.postmaster_pid(primary)
    began = writers.mark(TITLES[Fault.AGENT])
    killed = herd.kill_agent(primary)
    herd.wait_for(
        lambda: herd.part_pid(primary, "agent") not in (None, killed),
        f"new agent on {primary}",
        deadline_s=PRIMARY_DEADLINE_S,
    )
    if herd.postmaster_pid(primary) != postmaster:
        raise HerdError(f"PostgreSQL on {primary} did not survive its agent")
    return began


ACTS: dict[Fault, Act] = {
    Fault.POSTMASTER: _kill_postmaster,
    Fault.NODE: _kill_node,
    Fault.SWITCHOVER: _switch_over,
    Fault.AGENT: _kill_agent,
}
