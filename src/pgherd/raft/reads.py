"""Linearizable reads, as a leader serves them (dissertation 6.4).

Owns when a read may start (an entry of the own term is committed), the heartbeat round that
confirms it, and the answer. Leaves the numbering and counting to readindex.py.
"""

from __future__ import annotations

from pgherd.raft.core import Core
from pgherd.raft.readindex import Read
from pgherd.raft.replicate import heartbeat_all


def ask(core: Core, read: Read) -> None:
    """Answer a read at the commit index, once it is certain that this node still leads (32)."""
    if core.reads.is_full():
        core.say("WARN", "drops a read: too many wait")
    elif not core.log.matches(core.log.commit, core.term):
        core.reads.postpone(read)
    else:
        _serve(core, read)
        if core.reads.context():
            heartbeat_all(core)


def _serve(core: Core, read: Read) -> None:
    """Start the confirmation of a read; the own acknowledgement may be all that it needs."""
    read = read._replace(at=core.log.commit)
    if core.config.read_only == "lease":
        _answer(core, read)
        return
    core.reads.add(read)
    core.reads.acknowledge(core.id, core.reads.context())
    release_confirmed(core)


def release_early(core: Core) -> None:
    """An entry of the own term is committed: start with the reads that waited for it."""
    early = core.reads.take_postponed()
    for read in early:
        _serve(core, read)
    if early and core.reads.context():
        heartbeat_all(core)


def release_confirmed(core: Core) -> None:
    """Answer what a quorum has confirmed."""
    for read in core.reads.take_confirmed(core.conf):
        _answer(core, read)


def _answer(core: Core, read: Read) -> None:
    if read.asker == core.id:
        core.read_states.append((read.at, read.context))
    else:
        core.send("ReadIndexResp", read.asker, index=read.at, context=read.context)
