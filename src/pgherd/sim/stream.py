"""One replication connection of the PostgreSQL model: a walsender and a walreceiver.

Owns what each end believes: a broken network lets the ends disagree until their timeouts. The
walsender keeps its own copy of the synchronous names and reads them anew after its own delay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.model.ids import Lsn, MemberKey, NodeId, Term
from pgherd.sim import feeding
from pgherd.sim.clock import MS, SECOND, Proc
from pgherd.sim.names import Names
from pgherd.sim.wal import Record

if TYPE_CHECKING:
    from pgherd.sim.postgres import Server

TIMEOUT = 5 * SECOND
RETRY = 100 * MS


class Stream:
    """A connection from `up` (walsender) to `down` (walreceiver) under a token."""

    def __init__(self, up: Server, down: Server, *, key: MemberKey, term: Term, start: int) -> None:
        assert up.proc is not None
        assert down.proc is not None
        self.up, self.down = up, down
        self.up_proc: Proc = up.proc
        self.down_proc: Proc = down.proc
        self.key, self.term = key, term
        self.sent = start
        self.flush_lsn = Lsn(0)
        self.streaming = False
        self.up_open = self.down_open = True
        self.clock = up.clock
        self.up_heard = self.down_heard = self.clock.now
        self.began = self.clock.now
        self.fed = self._busy = False
        self.names: Names = up.names
        self.counts = False
        self.load()
        self.clock.after(SECOND, self._beat)

    # -- the walsender ---------------------------------------------------------------------------

    def load(self) -> None:
        """Read the synchronous names anew, and release who is released by them."""
        if not self.up_open:
            return
        self.names = self.up.names
        self.counts = (self.key, self.term) in self.names.tokens
        self.up.world.checks.on_sender_names(self.up)
        self.up.release(self)

    def pump(self) -> None:
        """Send what is durable and not sent; one batch at a time."""
        directory = self.up.dir
        if not self.up_open or self._busy or directory is None:
            return
        if self.sent >= directory.flushed:
            if not self.streaming:
                self.streaming = True
                self.up.changed()
            return
        if self.fed:
            feeding.on_send(self)
        self._busy = True
        records = directory.wal[self.sent : directory.flushed]
        start, self.sent = self.sent, directory.flushed
        delay = self.up.world.net.wal_delay(self.up.node, self.down.node)
        self.clock.after(delay, self._arrive, start, records, proc=self.down_proc)

    def _arrive(self, start: int, records: list[Record]) -> None:
        if not self.down_open:
            return
        if self.up.world.net.blocked(self.up.node, self.down.node, "sql"):
            self.clock.after(RETRY, self._arrive, start, records, proc=self.down_proc)
            return
        self.down_heard = self.clock.now
        self.down.receive(self, start, records)
        self._busy = False
        self.clock.after(0, self.pump, proc=self.up_proc)

    def _acked(self, lsn: Lsn) -> None:
        if not self.up_open:
            return
        if self.up.world.net.blocked(self.down.node, self.up.node, "sql"):
            self.clock.after(RETRY, self._acked, lsn, proc=self.up_proc)
            return
        self.up_heard = self.clock.now
        if lsn > self.flush_lsn:
            before, self.flush_lsn = self.flush_lsn, lsn
            self.up.release(self)
            watched = self.up.watched_lsn
            if watched and lsn >= watched and (before < watched or self.up.world.restless):
                self.up.changed()

    def close_up(self) -> None:
        """The walsender ends; the other end hears of it if the network lets it."""
        if not self.up_open:
            return
        self.up_open = False
        self.up.sender_gone(self)
        net = self.up.world.net
        if not net.blocked(self.up.node, self.down.node, "sql"):
            delay = net.delay(self.up.node, self.down.node)
            self.clock.after(delay, self.close_down, proc=self.down_proc)

    # -- the walreceiver -------------------------------------------------------------------------

    def confirm(self, lsn: Lsn) -> None:
        """Tell the walsender how far this end is durable."""
        delay = self.up.world.net.delay(self.down.node, self.up.node)
        self.clock.after(delay, self._acked, lsn, proc=self.up_proc)

    def close_down(self) -> None:
        """The walreceiver ends."""
        if not self.down_open:
            return
        self.down_open = False
        self.down.receiver_gone(self)
        net = self.up.world.net
        if not net.blocked(self.down.node, self.up.node, "sql"):
            delay = net.delay(self.down.node, self.up.node)
            self.clock.after(delay, self.close_up, proc=self.up_proc)

    def host_lost(self, node: NodeId) -> None:
        """The host of one end is gone without a word: the other end waits for its timeout."""
        if node == self.up.node:
            self.up_open = False
        if node == self.down.node:
            self.down_open = False

    # -- both ------------------------------------------------------------------------------------

    def _beat(self) -> None:
        """Keepalives once a second; silence for the timeout ends an end.

        Each is answered with how far the other end is, so it may release what waited when that was
        said before, but did not count yet.
        """
        if not (self.up_open or self.down_open):
            return
        now, net = self.clock.now, self.up.world.net
        up_runs = self.up_proc.alive and not self.up_proc.paused
        down_runs = self.down_proc.alive and not self.down_proc.paused
        if up_runs and not net.blocked(self.up.node, self.down.node, "sql"):
            if self.up_open:
                self.down_heard = now
            elif self.down_open and down_runs:
                self.close_down()
        if down_runs and not net.blocked(self.down.node, self.up.node, "sql"):
            if self.down_open:
                self.up_heard = now
                if self.up_open and up_runs and self.up.world.beats_release:
                    self.up.release(self)
            elif self.up_open and up_runs:
                self.close_up()
        if self.up_open and up_runs and now - self.up_heard > TIMEOUT:
            self.close_up()
        if self.down_open and down_runs and now - self.down_heard > TIMEOUT:
            self.close_down()
        self.clock.after(SECOND, self._beat)
