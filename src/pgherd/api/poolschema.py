"""The public form of pools: part of the contract. Owns shapes, as `schema` does."""

from __future__ import annotations

from pgherd.api.shape import Model, NodeName


class Pool(Model):
    """One user's server connections to one database of one node.

    database: as clients call it · pools: how many these are, for sessions with other startup
    parameters have other servers; size and reserve are of each · servers_resetting: given up by a
    client and not lendable yet · the rest: totals since the pool was first used.
    """

    database: str
    user: str
    server: NodeName
    pools: int
    size: int
    reserve: int
    is_paused: bool
    clients_active: int
    clients_waiting: int
    longest_wait_ms: int
    servers_active: int
    servers_idle: int
    servers_opening: int
    servers_resetting: int
    lent: int
    waited: int
    waited_ms: int
    opened: int
    not_opened: int
    closed: int
    refused: int


class Pools(Model):
    """The pools of the node which answers. proxy_healthy: null on a node without a proxy · routed:
    with route: auto, where requests went (primary, replica) -> what they are (read, doubt, write),
    errors in their answers (failed), and those said again elsewhere (repeated), each a total.
    """

    node: NodeName
    proxy_healthy: bool | None
    pools: list[Pool]
    routed: dict[str, dict[str, int]]
