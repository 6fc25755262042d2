"""Clients: each has one request out, retries it with the same number, and knows what it was told.

Owns the session of a client (client id, sequence) and the order of its requests. A write is
retried, at any server, until it is acknowledged; a read is asked anew, of any server. One client
holds a lease, renews it, and sometimes lets it run out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.sim.clock import MS, SECOND
from pgherd.sim.raft.machine import APPEND, RENEW, SET, Command, Outcome

if TYPE_CHECKING:
    from pgherd.sim.raft.group import Group
    from pgherd.sim.raft.server import Reply

ANSWER_WITHIN = 1500 * MS
REDIRECTED_PAUSE = 60 * MS
LINK_US = 500
KEYS = 4
LEASE_EVERY = SECOND
LEASE_REST = 6 * SECOND


class Client:
    """One caller. `number` counts attempts, so that late answers are told apart."""

    def __init__(self, group: Group, client: int, *, pause_us: int) -> None:
        self._group = group
        self.id = client
        self._pause = pause_us
        self._seq = 0
        self._number = 0
        self._guess = 0
        self._floor = 0
        self._command: Command | None = None
        self.acked: list[Command] = []
        self.writes = 0
        self.reads = 0

    def start(self) -> None:
        """Begin, at a moment of its own."""
        self._rest(self._pause)

    def _rest(self, pause: int) -> None:
        delay = int(pause * (0.5 + self._group.random()))
        self._group.clock.after(delay, self._next)

    def _next(self) -> None:
        """The next request."""
        if self._group.quiet:
            return
        self._floor = self._group.checker.floor
        if self._group.random() < 0.25 and not self._is_holder():
            self._command = None
        else:
            self._seq += 1
            self._command = self._new_command()
        self._send()

    def _is_holder(self) -> bool:
        return self.id == 1

    def _new_command(self) -> Command:
        random = self._group.random
        if self._is_holder():
            return Command(RENEW, self.id, self._seq, 0, self._seq)
        kind = APPEND if random() < 0.6 else SET
        return Command(kind, self.id, self._seq, int(random() * KEYS), self.token(self._seq))

    def token(self, seq: int) -> int:
        """A value that occurs once in the life of a group."""
        return self.id * 1_000_000 + seq

    def _send(self) -> None:
        """One attempt, at the leader that was last heard of or at anyone."""
        self._number += 1
        number, group = self._number, self._group
        group.clock.after(ANSWER_WITHIN, self._too_late, number)
        server = group.server_or_any(self._guess)
        if group.client_loses():
            return
        if self._command is None:
            context = b"%d:%d" % (self.id, number)
            group.checker.asked(context)
            group.clock.after(LINK_US, server.read, context, self._replier(number))
        else:
            group.clock.after(LINK_US, server.write, self._command, self._replier(number))

    def _replier(self, number: int) -> Reply:
        """How this attempt's answer comes back."""

        def reply(outcome: Outcome | None, leader: int) -> None:
            if not self._group.client_loses():
                self._group.clock.after(LINK_US, self._answered, number, outcome, leader)

        return reply

    def _too_late(self, number: int) -> None:
        """No answer: what became of the request is unknown. Try elsewhere."""
        if number == self._number:
            self._guess = 0
            self._send()

    def _redirected(self, number: int) -> None:
        if number == self._number:
            self._send()

    def _answered(self, number: int, outcome: Outcome | None, leader: int) -> None:
        if number != self._number:
            return
        self._guess = leader
        if outcome is None:
            self._group.clock.after(REDIRECTED_PAUSE, self._redirected, number)
            return
        self._number += 1
        what = "a read" if self._command is None else f"command {self.id, self._seq}"
        group = self._group
        group.checker.returned(floor=self._floor, version=outcome.version, what=what)
        if self._command is None:
            self.reads += 1
            self._guess = 0 if group.random() < 0.5 else leader
        else:
            self.writes += 1
            self.acked.append(self._command)
        self._rest(self._pause_now())

    def _pause_now(self) -> int:
        if not self._is_holder():
            return self._pause
        return LEASE_REST if self._group.random() < 0.1 else LEASE_EVERY
