"""What a look at the server says of its streams: who feeds it, and whom it feeds.

Pure, but for the note of a standby cluster's source in the agent's memory of its server.
"""

from __future__ import annotations

import msgspec

from pgherd.model.ids import FEED_SLOT, Term, parse_token
from pgherd.model.observation import Receiver, Sender
from pgherd.model.promises import Promises
from pgherd.model.standbycluster import NAME as STANDBY_NAME
from pgherd.model.standbycluster import SourceSeen
from pgherd.postgres.look import Look
from pgherd.postgres.memory import ServerMemory

replace = msgspec.structs.replace


def source(look: Look, memory: ServerMemory) -> SourceSeen | None:
    """What it names by its own word, and what was learned of that; while WAL comes all is well."""
    named = look.upstream_token.startswith(STANDBY_NAME)
    known = memory.source or (SourceSeen() if named else None)
    if known is None:
        return None
    comes = named and look.receiver is not None and look.receiver.status == "streaming"
    if comes and look.receiver is not None:
        memory.received = max(memory.received, look.receiver.timeline)
    trouble = {"problem": "", "diverged": False} if comes else {}
    return replace(known, named=named, mark=known.mark if named else "", **trouble)


def fed_at(look: Look) -> str:
    """Where it streams from, where its slot there is one for cascading."""
    return f"{look.upstream_host}:{look.upstream_port}" if look.slot.startswith(FEED_SLOT) else ""


def receiver(look: Look, promises: Promises) -> Receiver | None:
    """Through which it receives, as long as there is one."""
    seen = look.receiver
    if seen is None:
        return None
    token = parse_token(seen.token)
    return Receiver(
        upstream=promises.adopted_leader if token and token[1] == promises.adopted else None,
        term=token[1] if token else Term(0),
        status=seen.status,
        flush_lsn=seen.flush_lsn,
    )


def senders(look: Look) -> tuple[Sender, ...]:
    """The members that it feeds."""
    found = []
    for seen in look.senders:
        token = parse_token(seen.token)
        if token is not None:
            found.append(
                Sender(
                    member=token[0],
                    term=token[1],
                    state=seen.state,
                    flush_lsn=seen.flush_lsn,
                    replay_lsn=seen.replay_lsn,
                    pid=seen.pid,
                )
            )
    return tuple(sorted(found, key=lambda sender: (sender.member, sender.pid)))
