"""Consensus as a pure state machine: who leads, and which entries are agreed on.

Owns elections, replication, membership and linearizable reads, as values in and values out.
Leaves clocks to `tick`, disks to `store`, sockets to `peer`, and the meaning of entries to
`ledger`. `node.py` holds the theory of operation; `types.py` the nouns.
"""

from __future__ import annotations

if not __debug__:
    raise ImportError(
        "the consensus core rests on its assertions: start Python without -O (unset PYTHONOPTIMIZE)"
    )
