"""What a node of a standby cluster has beside the others: its first facts, and a question.

Owns how the question whether the remote lives reaches a node that has PostgreSQL's programs.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pgherd.config.fields import split_host_port
from pgherd.config.standbycluster import StandbyCluster
from pgherd.daemon.asking import Question
from pgherd.ledger.levels import LEVEL
from pgherd.model.standbycluster import Following, Remote, RemoteSeen

if TYPE_CHECKING:
    from pgherd.daemon.build import Node

REMOTE = "remote"
ASK_S = 45.0
"""Several hosts are asked one after the other, each for as long as a connection may take."""

RemoteQuestion = Question[Remote, tuple[RemoteSeen, ...]]


def first(wanted: StandbyCluster) -> dict[str, Any]:
    """What such a cluster's first facts say more; no older program may take part."""
    if not wanted.hosts:
        return {}
    hosts = tuple(split_host_port(text) for text in wanted.hosts)
    remote = Remote(hosts, slot=wanted.primary_slot_name, sslmode=wanted.sslmode)
    return {"follows": Following(remote, reason="made so"), "level": LEVEL}


def attach(node: Node) -> RemoteQuestion:
    """The question as one node puts and answers it."""
    here = None
    if node.server is not None:
        from pgherd.postgres.remote import ask_all

        here = partial(ask_all, node.server)
    return Question(
        REMOTE,
        Remote,
        tuple[RemoteSeen, ...],
        me=node.me,
        here=here,
        ask=node.peers.request,
        timeout_s=ASK_S,
    )
