"""Whether plain transactions of this proxy's pools pass in the shuttle, and what passed there.

Owns the choice (`proxy.engine`, and whether the extension is there), and what others ask of those
who ride: with no shuttle nobody does, and every answer says so. How it is done is `carrying`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.relay.engines import BUILD
from pgherd.relay.journal import say
from pgherd.relay.messages import Engine
from pgherd.relay.riding import Counts, Look
from pgherd.relay.tally import Routed
from pgherd.route.choose import Bound

if TYPE_CHECKING:
    from pgherd.relay.carrying import Carrying
    from pgherd.relay.entrance import Gate
    from pgherd.relay.lending import Borrower, Lending
    from pgherd.relay.pooled import Pooled
    from pgherd.relay.pools import Pools
    from pgherd.relay.rider import Rider


class Rides:
    """One proxy's."""

    def __init__(self, pools: Pools, gate: Gate) -> None:
        self._pools = pools
        self._gate = gate
        self._carrying: Carrying | None = None
        self._rode = Counts()

    def configure(self) -> None:
        """Have plain transactions pass in the shuttle, where there is one and it is wanted."""
        wanted = self._gate.settings.engine is not Engine.UVLOOP
        if self._carrying is not None and not wanted:
            self.close()
        elif self._carrying is None and wanted:
            self._carrying = _carrying(self._pools, self._rode)

    def close(self) -> None:
        """Have everything pass here."""
        carrying, self._carrying = self._carrying, None
        if carrying is not None:
            self._rode = carrying.total()
            carrying.close()

    # Whoever rides, or may

    def rests(self, session: Rider) -> None:
        """A session has no server, and needs none now."""
        if self._carrying is not None:
            self._carrying.rests(session)

    def come_back(self, session: Rider) -> None:
        """Have a session's bytes pass here."""
        assert self._carrying is not None
        self._carrying.come_back(session)

    def all_back(self) -> None:
        """Have everybody's bytes pass here, for now: something changes."""
        if self._carrying is not None:
            self._carrying.recall_all()

    def changed(self, database: str) -> None:
        """What statements mean in a database, as servers call it, is another matter from now on."""
        if self._carrying is not None:
            self._carrying.recall_readers(database)

    # Servers

    def back(self, lending: Lending, borrower: Borrower) -> None:
        """A server was given back."""
        if self._carrying is not None:
            self._carrying.back(lending, borrower)

    def waits(self, lending: Lending) -> None:
        """Somebody who does not ride waits for a server of this pool."""
        if self._carrying is not None:
            self._carrying.waits(lending)

    def over(self, lending: Lending) -> None:
        """A pool is no more."""
        if self._carrying is not None:
            self._carrying.gone(lending)

    def tick(self, now: int) -> None:
        """What is due by now."""
        if self._carrying is not None:
            self._carrying.tick(now)

    def holds(self, bound: Bound) -> bool:
        """Whether a choice may still be used."""
        return self._gate.holds(bound)

    # What is seen

    def of(self, lending: Lending) -> Counts:
        """What rides of a pool, and what was done there."""
        return lending.rode if self._carrying is None else self._carrying.counts(lending)

    def look(self, session: Rider) -> Look:
        """What a session does that rides."""
        assert self._carrying is not None
        return self._carrying.look(session)

    def served_at(self, session: Pooled) -> Bound | None:
        """Where the server is that a session has now."""
        if self._carrying is None or not session.is_riding:
            return session.bound
        return self._carrying.bound_of(session)

    def servers(self) -> dict[int, int]:
        """Servers that ride, and who has each; 0 = nobody."""
        return self._carrying.riding_servers() if self._carrying is not None else {}

    def read(self, bound: Bound, count: int) -> None:
        """So many cycles of `route: auto` were read there."""
        self._gate.tally.route(bound, Routed.READ, count)

    def counted(self) -> None:
        """Have all counted that passed so far."""
        if self._carrying is not None:
            self._carrying.count()

    def bytes_passed(self) -> tuple[int, int]:
        """From clients and from servers."""
        return self._carrying.shuttle.totals() if self._carrying is not None else (0, 0)

    def total(self) -> Counts:
        """What was done in all."""
        return self._carrying.total() if self._carrying is not None else self._rode

    def waits_with(self, here: list[int]) -> tuple[int, ...]:
        """Waits that ended with a server, by class, with those that ended here."""
        there = self.total().classes or [0] * len(here)
        return tuple(mine + its for mine, its in zip(here, there, strict=True))


def _carrying(pools: Pools, rode: Counts) -> Carrying | None:
    try:
        from pgherd.relay.carrying import Carrying
    except ImportError as error:
        say("pools.slow", why=f"the extension is not there ({error})", next=BUILD)
        return None
    try:
        return Carrying(pools, rode)
    except OSError as error:
        say("pools.slow", why=f"the shuttle does not work here ({error})", next=BUILD)
        return None
