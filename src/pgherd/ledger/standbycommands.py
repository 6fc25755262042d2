"""Commands about a standby cluster; `commands` lists them with all."""

from __future__ import annotations

from pgherd.ledger.command import Command
from pgherd.model.ids import MemberKey, NodeId, Term
from pgherd.model.standbycluster import Remote


class LeadStandby(Command, frozen=True, tag=True):
    """Name the standby leader. number: of the Following that this starts from."""

    number: int
    node: NodeId
    rule: int
    reason: str


class PromoteCluster(Command, frozen=True, tag=True):
    """End the following: a first election among these copies, all of which have to seal.

    left_out: data members that are not waited for · forced: though something speaks against it.
    """

    number: int
    voters: tuple[MemberKey, ...]
    requested_by: str
    left_out: tuple[NodeId, ...] = ()
    forced: bool = False

    @property
    def text(self) -> str:
        """For people."""
        return f"asked for by {self.requested_by}{', forced' if self.forced else ''}"


class DemoteCluster(Command, frozen=True, tag=True):
    """Follow a remote primary from now on. term: the stable one that ends, or the last one."""

    term: Term
    remote: Remote
    requested_by: str

    @property
    def text(self) -> str:
        """For people."""
        return f"to follow {self.remote}, asked for by {self.requested_by}"
