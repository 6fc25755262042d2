"""Which kind of session a listener's clients get.

Owns the choice, and that a proxy loads only the kinds that it has listeners for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.relay.messages import ListenerSettings, Pool
from pgherd.relay.session import ClientSide
from pgherd.route.choose import Route

if TYPE_CHECKING:
    from pgherd.relay.proxy import Proxy


def client_side(proxy: Proxy, listener: ListenerSettings) -> ClientSide:
    """What listens to a new client."""
    if listener.pool is Pool.NONE:
        return ClientSide(proxy, listener)
    from pgherd.relay.terminated import TerminatedClient  # a proxy without them stays lean

    if listener.pool is Pool.SESSION:
        return TerminatedClient(proxy, listener)
    if listener.route is Route.AUTO:
        from pgherd.relay.routed import RoutedClient

        return RoutedClient(proxy, proxy.pools, listener)
    from pgherd.relay.pooled import PooledClient
    from pgherd.relay.rider import Rider

    return PooledClient(proxy, listener, Rider(proxy, proxy.pools, listener))
