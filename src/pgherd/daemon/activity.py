"""Long transactions on any node's server, told by its own agent.

Owns the question; what is long is the asker's to say.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pgherd.daemon.asking import Question
from pgherd.model.activity import Transaction

if TYPE_CHECKING:
    from pgherd.daemon.build import Node

TRANSACTIONS = "transactions"
ASK_S = 3.0

Activity = Question[int, tuple[Transaction, ...]]


def attach(node: Node) -> Activity:
    """The question as one node puts and answers it."""
    here = None
    if node.server is not None:
        from pgherd.postgres.activity import long_transactions

        here = partial(long_transactions, node.server)
    return Question(
        TRANSACTIONS,
        int,
        tuple[Transaction, ...],
        me=node.me,
        here=here,
        ask=node.peers.request,
        timeout_s=ASK_S,
    )
