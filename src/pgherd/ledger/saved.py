"""The ledger in a file: what `pgherd raft snapshot save` writes and `restore` reads. No I/O.

A header for people, then the facts as JSON; the CRC-32 in the second line covers all that follows
it. There is no secret in it: of tokens, which the ledger knows by their hashes, none is kept;
passwords and keys were never in the ledger. The exactly-once table is left out too: its clients
are answered or gone.
"""

from __future__ import annotations

import zlib

import msgspec

from pgherd.model.errors import OperatorError
from pgherd.model.facts import Facts
from pgherd.model.ids import RaftId

FORMAT = 1
MAGIC = "pgherd-ledger"
ANOTHER = "take another file: pgherd raft snapshot save FILE makes one"


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """A ledger as of an applied index. saved: when and by whom, for people; at_ms: the same."""

    facts: Facts
    index: int
    raft_term: int
    voters: tuple[RaftId, ...]
    saved: str
    at_ms: int


def without_secrets(facts: Facts) -> Facts:
    """The facts as they may be kept anywhere."""
    rights = msgspec.structs.replace(facts.rights, tokens=())
    return msgspec.structs.replace(facts, tokens={}, rights=rights)


def render(saved: Saved) -> str:
    """The whole file."""
    facts = saved.facts
    primary = facts.leader.node if facts.leader is not None else "none"
    body = msgspec.json.format(msgspec.json.encode(saved, order="deterministic")).decode()
    lines = (
        f"cluster: {facts.cluster}, system identifier {facts.system_id or 'none yet'}",
        f"saved: {saved.saved}",
        f"ledger: term {facts.term} is {facts.phase.value}, primary {primary}",
        f"log: up to index {saved.index} in Raft term {saved.raft_term}",
        f"members: {' '.join(sorted(facts.members))}",
        "",
        body,
        "",
    )
    rest = "\n".join(lines)
    return f"{MAGIC} {FORMAT}\ncrc32: {zlib.crc32(rest.encode()):08x}\n{rest}"


def parse(text: str) -> Saved:
    """Read a file. Raises OperatorError where it is none, damaged, or of a newer pgherd."""
    first, _, after = text.partition("\n")
    magic, _, version = first.partition(" ")
    if magic != MAGIC or not version.isascii() or not version.isdigit():
        raise OperatorError("this is no saved ledger", ANOTHER)
    if int(version) != FORMAT:
        hint = "use the pgherd that saved it, or a newer one"
        raise OperatorError(f"the file has format {version}, this pgherd reads {FORMAT}", hint)
    check, _, rest = after.partition("\n")
    if check != f"crc32: {zlib.crc32(rest.encode()):08x}":
        raise OperatorError("the file is damaged or was changed: its CRC does not fit", ANOTHER)
    try:
        return msgspec.json.decode(rest.partition("\n\n")[2], type=Saved)
    except msgspec.MsgspecError as error:
        raise OperatorError(f"the file cannot be read: {error}", ANOTHER) from error
