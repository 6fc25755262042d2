"""The operator: makes the membership what it should be, one change after the other.

Owns which slots should vote (`wanted`), and the way there: a new server joins as a learner and is
promoted once caught up; one that lost its disk is removed and joins again under a new Raft id, as
a new member does; a leader that has to go hands over first when only two vote (see the scenario
two-to-one.txt).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.raft.types import ConfState

if TYPE_CHECKING:
    from pgherd.sim.raft.group import Group
    from pgherd.sim.raft.server import Server

CAUGHT_UP_ENTRIES = 10
TAIL_ENTRIES = 400


class Operator:
    """Looks at the leader now and then, and asks it for the next step."""

    def __init__(self, group: Group, wanted: set[int], *, every_us: int) -> None:
        self._group = group
        self._every = every_us
        self.wanted = wanted
        self.crash_at_change = False

    def start(self) -> None:
        """Begin to look."""
        self._group.clock.after(self._every, self._look)

    def _look(self) -> None:
        self._group.clock.after(int(self._every * (0.6 + 0.8 * self._group.random())), self._look)
        leader = self._group.leader()
        if leader is not None:
            self._act(leader)

    def _act(self, leader: Server) -> None:
        conf = leader.node.conf
        if conf.voters_outgoing:
            return
        self._replace_lost(leader)
        wanted = {self._group.slots[slot].id for slot in self.wanted}
        members = {*conf.voters, *conf.learners}
        missing = [one for one in sorted(wanted - members) if not self._comes_back(one)]
        present = self._group.network.servers
        leaving = sorted(members - wanted, key=lambda one: (one in present, one))
        learners = [one for one in conf.learners if one in wanted and self._has_caught_up(one)]
        if learners and leaving and self._may_go_joint(leader, leaving):
            self._group.hit("joint_change")
            leader.change_members([("v", learners[0]), ("r", leaving[0])])
        elif learners:
            leader.change_members([("v", learners[0])])
        elif missing:
            leader.change_members([("l", missing[0])])
        elif leaving:
            self._remove(leader, leaving[0], conf)

    def _may_go_joint(self, leader: Server, leaving: list[int]) -> bool:
        return leading_out(leader, leaving) == 0 and self._group.random() < 0.5

    def _remove(self, leader: Server, raft_id: int, conf: ConfState) -> None:
        """Remove one; the leader itself only when enough others vote to carry on."""
        if raft_id in conf.voters and len(conf.voters) == 1:
            return
        if raft_id == leader.id and (len(conf.voters) < 3 or self._group.random() < 0.5):
            leader.transfer(next(one for one in conf.voters if one != raft_id))
            return
        leader.change_members([("r", raft_id)])

    def _has_caught_up(self, raft_id: int) -> bool:
        leader = self._group.leader()
        assert leader is not None
        status = leader.node.status()
        progress = status.progress.get(raft_id)
        return progress is not None and progress.match + CAUGHT_UP_ENTRIES >= status.commit

    def want(self, slot: int) -> None:
        """Have the server of a slot vote; one that was a member before comes back as a new one."""
        self.wanted.add(slot)
        server = self._group.slots[slot]
        server.comes_back = server.was_member

    def _comes_back(self, raft_id: int) -> bool:
        return any(one.comes_back for one in self._group.slots.values() if one.id == raft_id)

    def _replace_lost(self, leader: Server) -> None:
        """A server that lost its disk, or was removed for good, gives its slot to a new one.

        Removed for good: the leader's snapshot says so, so that no restart can need its vote.
        """
        agreed, changed_at = self._group.checker.configuration()
        snapshot = leader.store.snapshot()
        members = {*agreed.voters, *agreed.learners, *agreed.voters_outgoing}
        for slot in sorted(self._group.slots):
            server = self._group.slots[slot]
            is_removed = server.id not in members and snapshot.index >= changed_at
            if server.has_amnesia or (server.comes_back and is_removed):
                self._group.renew(slot)

    def is_settled(self) -> bool:
        """Whether exactly those vote that should, and no change is on its way anywhere."""
        group = self._group
        conf, _ = group.checker.configuration()
        ids = {group.slots[slot].id for slot in self.wanted}
        if {*conf.voters} != ids or conf.learners or conf.voters_outgoing:
            return False
        commit = group.checker.commit
        return not any(
            entry.type != "normal" and entry.index > commit
            for server in group.slots.values()
            for entry in server.disk.image.log[-TAIL_ENTRIES:]
        )


def leading_out(leader: Server, leaving: list[int]) -> int:
    """The leader's id if it is among those who leave first, 0 otherwise."""
    return leader.id if leaving[0] == leader.id else 0
