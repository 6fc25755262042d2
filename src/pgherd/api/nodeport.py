"""What any node can be asked about itself, through whichever daemon the call arrives at.

Owns the protocol, which `daemon` implements. Leaves the public form to `nodeschema`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pgherd.model.checkup import NodeFacts
from pgherd.model.ids import NodeId
from pgherd.model.nodelog import LevelNow, LevelWish, LogAsked, LogTold
from pgherd.model.reloaded import Reloaded
from pgherd.model.vitals import Vitals

if TYPE_CHECKING:
    from pgherd.api.herd import ProxySeen


class NodePort(Protocol):
    """Each of them raises PeerError where that node does not answer."""

    async def reload_config(self, node: NodeId, who: str) -> Reloaded:
        """Have a node read its configuration file again."""
        ...

    async def node_vitals(self, node: NodeId) -> Vitals:
        """Its memory, and whom it reaches."""
        ...

    async def node_proxy(self, node: NodeId) -> ProxySeen | None:
        """What its proxy reports; None while there is none."""
        ...

    async def node_checkup(self, node: NodeId, quick: bool) -> NodeFacts:
        """What a check-up of it looks at; quick: without what takes time."""
        ...

    async def node_logs(self, node: NodeId, asked: LogAsked) -> LogTold:
        """Its log lines, without secrets. Raises OperatorError where it has none of that kind."""
        ...

    async def log_level(self, node: NodeId, wish: LevelWish) -> LevelNow:
        """Change what it tells, or ask. Raises OperatorError for a level there is not."""
        ...
