"""Two acknowledging primaries, looked for: every server is asked for a commit all the time.

Owns a row that is committed directly on every node twenty times a second, with a second's patience
(a cut connection, never a cancelled wait), and what each reply carried: the node, the newest epoch
record that the commit saw, and its position. Leaves the verdict on them to `reigns`.
"""

from __future__ import annotations

import msgspec

from pgherd.proof.herd import LocalHerd
from pgherd.proof.history import Attempt, History, Outcome, WriteId
from pgherd.proof.reigns import Ack
from pgherd.proof.writers import Pace, Writers

TABLE = "pgherd_proof_probes"
CREATE = f"""
CREATE TABLE {TABLE} (
    node int NOT NULL,
    seq bigint NOT NULL,
    term bigint NOT NULL,
    lsn pg_lsn NOT NULL DEFAULT pg_current_wal_insert_lsn(),
    PRIMARY KEY (node, seq))
"""
PACE = Pace(
    writes_per_second=20, statement_deadline_s=1.0, connect_deadline_s=1.0, looks_elsewhere=False
)


class Findings(msgspec.Struct, frozen=True):
    """What the probes were told. refused: an error of the server, or no answer in time."""

    acknowledged: int
    refused: int
    lost: tuple[str, ...]
    acks: tuple[Ack, ...]


def insert(id: WriteId) -> str:
    """A row with the newest epoch record that its transaction sees; returns that and its place."""
    return (
        f"INSERT INTO {TABLE} (node, seq, term) SELECT {id.writer}, {id.seq}, "
        "coalesce(max(term), 0) FROM pgherd.epoch RETURNING term, (lsn - '0/0')::bigint"
    )


class Probes(Writers):
    """One prober per node. They need no acknowledgement to begin with."""

    def __init__(self, herd: LocalHerd) -> None:
        self.names = tuple(herd.data)
        dsns = [herd.dsn_node(name) for name in self.names]
        super().__init__(dsns, count=len(dsns), pace=PACE, statement=insert)

    def ack(self, attempt: Attempt) -> Ack:
        """An acknowledged attempt, as what its node said."""
        node = self.names[attempt.id.writer - 1]
        term, lsn = map(int, attempt.reply.split())
        return Ack(
            f"probe {attempt.id.seq} on {node}", lsn, attempt.started, attempt.finished, node, term
        )

    def findings(self, history: History, there: set[WriteId]) -> Findings:
        """What the probes of a run found, by the rows that are there in the end."""
        given = [one for one in history.attempts if one.outcome is Outcome.ACKNOWLEDGED]
        lost = [self.ack(one).name for one in given if one.id not in there]
        refused = len(history.attempts) - len(given) + history.connect_failures
        return Findings(len(given), refused, tuple(lost), tuple(map(self.ack, given)))
