"""What a fast-forward may do in a simulated herd, as the ledger granted it (I12, I14).

Owns the record of all grants. A member that took its seal back takes WAL from the granted holder
only, and none behind the target; while it does so it still counts as sealed, for it confirms
nothing to an older leader.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.model.facts import Facts, FastForward
from pgherd.model.ids import MemberKey, Term

if TYPE_CHECKING:
    from pgherd.sim.postgres import Server
    from pgherd.sim.world import World


class Loans:
    """The grants of one run. taken: how often WAL came on loan."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.granted: dict[tuple[Term, MemberKey], list[FastForward]] = {}
        self.taken = 0

    def on_facts(self, facts: Facts) -> None:
        """The ledger went on."""
        grant = facts.forward
        if grant is not None:
            of_term = self.granted.setdefault((facts.term, grant.candidate), [])
            if grant not in of_term:
                of_term.append(grant)
                text = f"{grant.candidate} may catch up from {grant.holder} to {grant.target}"
                self.world.log(grant.candidate.node, text)

    def has(self, term: Term, key: MemberKey) -> bool:
        """Whether a member was granted a fast-forward in the election of a term."""
        return (term, key) in self.granted

    def on_receive(self, server: Server) -> None:
        """I12: WAL on loan is of the granted holder, and none of it lies behind the target."""
        stream, directory = server.receiver, server.dir
        if stream is None or stream.term or directory is None:
            return
        end, term = directory.wal[-1].end, self.world.promises(server.node).promise
        # Its agent may be gone, and the server streams on under a grant of before.
        grants = [g for (_, key), some in self.granted.items() if key == stream.key for g in some]
        right = any(g.holder.node == stream.up.node and end <= g.target.lsn for g in grants)
        text = f"{server.node}, promised {term}, took WAL up to {end} from {stream.up.node} on loan"
        self.taken += 1
        self.world.herd.must("I12", right, f"{text}; granted: {grants}")
