"""The load of a run: writers at every door, registers, and a prober on every node; its verdict.

Owns what writes where during a run, the tables, and putting the checkers of `proof` together over
what is there in the end. Leaves each checker's rule to `proof`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from pgherd.chaos.herd import Loopback
from pgherd.model.ids import parse_lsn
from pgherd.proof import probes, registers, reigns
from pgherd.proof.history import History, Mark, Outcome, Row, Verdict, WriteId, check
from pgherd.proof.probes import Findings, Probes
from pgherd.proof.reigns import Ack, Reigned
from pgherd.proof.trials import rows_everywhere
from pgherd.proof.writers import Pace, Writers, create_table, read_rows

DIRECT_WRITERS = 3
KEYS = 3
REGISTER_PACE = Pace(writes_per_second=8)
OUTSIDER = "chaos_client"
"""An ordinary role: what it takes up is not what is reserved for superusers."""

CREATE_REGISTERS = f"""
CREATE TABLE pgherd_proof_registers (key int PRIMARY KEY, value bigint NOT NULL);
INSERT INTO pgherd_proof_registers SELECT key, 0 FROM generate_series(0, {KEYS - 1}) key;
CREATE TABLE pgherd_proof_changes (
    row bigint PRIMARY KEY, key int NOT NULL, read bigint NOT NULL,
    lsn pg_lsn NOT NULL DEFAULT pg_current_wal_insert_lsn());
"""


class Judgement(msgspec.Struct, frozen=True):
    """Everything that the checkers say of a run; `wrong` is empty when the promise was kept."""

    verdict: Verdict
    probes: Findings
    changes: int
    reigns: tuple[Reigned, ...]
    wrong: tuple[str, ...]

    @property
    def acknowledged(self) -> int:
        """Writes, changes of registers and probes that somebody was told of."""
        return self.verdict.acknowledged + self.changes + self.probes.acknowledged

    @property
    def lost(self) -> int:
        """Acknowledged and not there."""
        return len(self.verdict.lost) + len(self.probes.lost)


class Load:
    """Everything that writes during a run."""

    def __init__(self, herd: Loopback) -> None:
        self._herd = herd
        proxies = herd.dsn_proxies()
        direct = [herd.dsn_direct()] * DIRECT_WRITERS
        self.writers = Writers([*proxies, *direct], count=len(proxies) + DIRECT_WRITERS)
        self.registers = Writers(
            [*proxies, herd.dsn_direct()],
            count=len(proxies) + 1,
            pace=REGISTER_PACE,
            statement=change,
        )
        self.probes = Probes(herd)
        self._reigns: dict[int, Reigned] = {}
        self._wall_offset = time.time() - time.monotonic()
        self.first_term = 0
        self.rows: list[Row] = []
        self.histories: tuple[History, History, History] | None = None

    def start(self) -> None:
        """Make the tables and begin; every writer has had an acknowledgement then."""
        herd = self._herd
        create_table(herd.dsn_direct())
        primary = herd.wait_primary()
        herd.query(primary, f"{CREATE_REGISTERS}{probes.CREATE}; {make_role(herd)}")
        herd.wait_stable()
        self.learn()
        self.first_term = max(self._reigns)
        self.writers.start()
        self.registers.start()
        self.probes.begin()

    def learn(self) -> None:
        """Add what the ledger's history says now; it keeps a limited number of reigns."""
        for entry in self._herd.ask("/history?limit=500")["reigns"]:
            self._reigns[int(entry["epoch"])] = reigned(entry, offset=self._wall_offset)

    def reigns(self) -> list[Reigned]:
        """Every reign that was learnt, by term."""
        return [self._reigns[term] for term in sorted(self._reigns)]

    def stop(self) -> None:
        """No write begins any more; those under way end, or are given up."""
        self.histories = (self.writers.stop(), self.registers.stop(), self.probes.stop())

    def acknowledged(self) -> list[float]:
        """When each acknowledgement came, in order."""
        return sorted(
            one.finished
            for history in self.histories or ()
            for one in history.attempts
            if one.outcome is Outcome.ACKNOWLEDGED
        )

    def judge(self, *, everywhere: bool = True) -> Judgement:
        """Read the rows on every node, or on the primary alone, and say what is wrong."""
        assert self.histories is not None, "the load still runs"
        written, changed, probed = self.histories
        herd = self._herd
        primary = herd.wait_primary()
        rows = self.rows = (
            rows_everywhere(herd) if everywhere else read_rows(herd.dsn_node(primary))
        )
        self.learn()
        verdict = check(written, rows)
        there = {
            WriteId(int(str(node)), int(str(seq)))
            for node, seq in herd.query(primary, f"SELECT node, seq FROM {probes.TABLE}")
        }
        found = self.probes.findings(probed, there)
        broken = registers.judge(changed, self._stored(primary), self._final(primary))
        acks = [*found.acks, *row_acks(written, rows)]
        wrong = [] if verdict.clean else [f"writes: {verdict}", *damage(verdict)]
        wrong += [f"{name} was acknowledged and is not there" for name in found.lost]
        wrong += [f"registers: {text}" for text in broken]
        wrong += [f"reigns: {text}" for text in reigns.judge(self.reigns(), acks)]
        changes = sum(one.outcome is Outcome.ACKNOWLEDGED for one in changed.attempts)
        return Judgement(verdict, found, changes, tuple(self.reigns()), tuple(wrong))

    def write_down(self, directory: Path) -> None:
        """Keep what every client was told, and what was read, for whoever looks for a cause."""
        kept = {"histories": self.histories, "rows": self.rows, "reigns": self.reigns()}
        (directory / "evidence.json").write_bytes(msgspec.json.encode(kept))

    def _stored(self, primary: str) -> list[registers.Stored]:
        ask = "SELECT row, key, read, (lsn - '0/0')::bigint FROM pgherd_proof_changes"
        return [registers.Stored(*map(_int, row)) for row in self._herd.query(primary, ask)]

    def _final(self, primary: str) -> Mapping[int, int]:
        ask = "SELECT key, value FROM pgherd_proof_registers"
        return {_int(key): _int(value) for key, value in self._herd.query(primary, ask)}

    def mark(self, label: str) -> Mark:
        """Remember that something is done now."""
        return Mark(label, self.writers.mark(label))


def change(id: WriteId) -> str:
    """Read a register under its lock and put another number there, in one transaction."""
    row, key = registers.number(id), (id.writer + id.seq) % KEYS
    return (
        f"SELECT 1 FROM pgherd_proof_registers WHERE key = {key} FOR UPDATE; "
        "INSERT INTO pgherd_proof_changes (row, key, read) "
        f"SELECT {row}, key, value FROM pgherd_proof_registers WHERE key = {key}; "
        f"UPDATE pgherd_proof_registers SET value = {row} WHERE key = {key}"
    )


def make_role(herd: Loopback) -> str:
    """The statement that makes the ordinary role; its password is the herd's."""
    return f"CREATE ROLE {OUTSIDER} LOGIN PASSWORD '{herd.secrets.superuser}'"


def reigned(entry: Mapping[str, Any], *, offset: float) -> Reigned:
    """A reign as the API tells it; its times by the run's monotonic clock."""
    established = entry["established_at"] if entry["established"] else None
    return Reigned(
        term=int(entry["epoch"]),
        primary=str(entry["primary"]),
        start=parse_lsn(str(entry["lsn"])),
        began_at=seconds(entry["began_at"]) - offset,
        established_at=seconds(established) - offset if established else None,
        kind=str(entry["kind"]),
    )


def seconds(iso: object) -> float:
    """A time of the API as seconds since 1970; 0 where there is none."""
    return datetime.fromisoformat(str(iso)).timestamp() if iso else 0.0


def row_acks(history: History, rows: list[Row]) -> list[Ack]:
    """Acknowledged writes that are there, with their places."""
    places = {row.id: row.lsn for row in rows}
    return [
        Ack(
            f"write {one.id.writer}/{one.id.seq}",
            places[one.id],
            one.started,
            one.finished,
        )
        for one in history.attempts
        if one.outcome is Outcome.ACKNOWLEDGED and one.id in places
    ]


def damage(verdict: Verdict) -> list[str]:
    """The first writes of each kind of damage."""
    kinds = ("lost", "duplicated", "phantom", "reordered")
    return [
        f"{kind}: {', '.join(f'{id.writer}/{id.seq}' for id in getattr(verdict, kind)[:20])}"
        for kind in kinds
        if getattr(verdict, kind)
    ]


def _int(value: object) -> int:
    return int(str(value))
