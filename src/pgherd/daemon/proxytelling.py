"""What a node's proxy reports, asked for by any node: for whoever looks at all of them at once.

Owns the question. The numbers are the proxy's own, as its agent has them already: nothing is asked
of the proxy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pgherd.api.herd import ProxySeen
from pgherd.daemon.asking import Question

if TYPE_CHECKING:
    from pgherd.daemon.build import Node

PROXY = "proxy"
ASK_S = 2.0


class ProxyTold(msgspec.Struct, frozen=True):
    """seen: None while there is no proxy."""

    seen: ProxySeen | None = None


Asked = Question[None, ProxyTold]


def attach(node: Node) -> Asked:
    """The question, as one node puts and answers it."""

    async def here(_: None) -> ProxyTold:
        return ProxyTold(node.port.proxy())

    return Question(
        PROXY,
        type(None),
        ProxyTold,
        me=node.me,
        here=here,
        ask=node.peers.request,
        timeout_s=ASK_S,
    )
