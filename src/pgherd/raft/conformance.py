"""The one namespace by which the core is compared with reference scenarios (RAFT.md 4).

Owns nothing: it names what the other modules of this room hold.
"""

from __future__ import annotations

from pgherd.raft.confchange import change_conf, decode_conf_change
from pgherd.raft.log import entry_size
from pgherd.raft.majority import committed_index
from pgherd.raft.node import RaftNode
from pgherd.raft.types import (
    Compacted,
    ConfChangeError,
    Config,
    ConfState,
    Entry,
    Hard,
    Msg,
    Progress,
    ProposalDropped,
    Ready,
    Snapshot,
    Status,
    StepLocalMsg,
    StepPeerNotFound,
    Storage,
    Unavailable,
)
from pgherd.raft.votes import vote_result

__all__ = [
    "Compacted",
    "ConfChangeError",
    "ConfState",
    "Config",
    "Entry",
    "Hard",
    "Msg",
    "Progress",
    "ProposalDropped",
    "RaftNode",
    "Ready",
    "Snapshot",
    "Status",
    "StepLocalMsg",
    "StepPeerNotFound",
    "Storage",
    "Unavailable",
    "change_conf",
    "committed_index",
    "decode_conf_change",
    "entry_size",
    "vote_result",
]
