"""The ledger as consensus sees it: bytes in, facts out, exactly once per (client, seq).

A snapshot holds the facts and the table of clients; the same bytes on every node at the same index.
The table has a limit. A proposal of a client that is not in it, made before the newest one that had
to leave it, may have been applied already: it is refused, and its maker has to look.
"""

from __future__ import annotations

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.ledger.apply import apply_command
from pgherd.ledger.levels import LEVEL, CommandTooNew, TooOld, check_level, needed_level
from pgherd.model.facts import Facts

CLIENTS_MAX = 256
FORGOTTEN = "what became of this is not known any more: look whether it was done, then ask anew"


class Session(msgspec.Struct, frozen=True):
    """The newest proposal of one client and what became of it."""

    seq: int
    index: int
    outcome: cmd.Outcome


class Image(msgspec.Struct, frozen=True):
    """Everything a snapshot carries."""

    version: int
    facts: Facts
    sessions: dict[str, Session]
    forgotten: int = 0


class Ledger:
    """The replicated state machine of one node. level: what this program understands."""

    level = LEVEL
    proposal: type[cmd.Proposal] = cmd.Proposal

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.sessions: dict[str, Session] = {}
        self.forgotten = 0
        self._encoder = msgspec.msgpack.Encoder(order="deterministic")
        self._proposals = msgspec.msgpack.Decoder(self.proposal)
        self._images = msgspec.msgpack.Decoder(Image)

    def encode(self, proposal: cmd.Proposal) -> bytes:
        """The bytes of a log entry. Raises CommandTooNew while somebody could not read it."""
        if needed_level(proposal.command) > self.facts.level:
            raise CommandTooNew(proposal.command, self.facts)
        return self._encoder.encode(proposal)

    def apply(self, data: bytes, *, index: int) -> tuple[cmd.Proposal, cmd.Outcome] | None:
        """Apply one committed entry; None for the empty entry of a new Raft leader.

        Raises TooOld for what this program does not understand: nothing is ever skipped.
        """
        if not data:
            return None
        try:
            proposal = self._proposals.decode(data)
        except msgspec.ValidationError as error:
            raise TooOld(
                f"log entry {index} says what this pgherd does not know: {error}"
            ) from error
        known = self.sessions.get(proposal.client)
        if known is None and proposal.seen < self.forgotten:
            return proposal, cmd.Refused("forgotten", FORGOTTEN)
        if known is not None and proposal.seq <= known.seq:
            if proposal.seq == known.seq:
                return proposal, known.outcome
            return proposal, cmd.Refused("stale", "an older attempt of this client")
        self.facts, outcome = apply_command(self.facts, proposal.command, at_ms=proposal.at_ms)
        self._remember(proposal, index, outcome)
        check_level(self.facts, self.level)
        return proposal, outcome

    def _remember(self, proposal: cmd.Proposal, index: int, outcome: cmd.Outcome) -> None:
        """Keep the newest clients, by index: the log's own order, not wall time."""
        self.sessions.pop(proposal.client, None)
        self.sessions[proposal.client] = Session(proposal.seq, index, outcome)
        while len(self.sessions) > CLIENTS_MAX:
            oldest = next(iter(self.sessions))  # each is put at the end when it is renewed
            self.forgotten = self.sessions.pop(oldest).index

    def snapshot(self) -> bytes:
        """The whole state as bytes."""
        return self._encoder.encode(Image(1, self.facts, self.sessions, self.forgotten))

    def restore(self, data: bytes) -> None:
        """Replace the whole state. Raises TooOld."""
        image = self._images.decode(data)
        if image.version != 1:
            raise TooOld(f"the ledger's image has version {image.version}, this pgherd knows 1")
        check_level(image.facts, self.level)
        by_age = sorted(image.sessions.items(), key=lambda item: item[1].index)
        self.facts, self.sessions = image.facts, dict(by_age)
        self.forgotten = image.forgotten
