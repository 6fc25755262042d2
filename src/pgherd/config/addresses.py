"""Where a node listens and where the others reach it, channel by channel.

Owns the keys under `node.address` and what holds when some are left out.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, field_validator

from pgherd.config.fields import Host, Key, is_wildcard, parse_host
from pgherd.config.problems import Wrong
from pgherd.config.section import Section

Channel = Literal["raft", "api", "postgresql", "proxy"]


def as_endpoint(value: Any) -> Any:
    """One host stands for both where to listen and what to advertise. Raises Wrong."""
    if isinstance(value, str):
        host = parse_host(value)
        if is_wildcard(host):
            raise Wrong(
                f"{host} is every address, so no peer can reach it",
                "split it: {listen: ..., advertise: ...}",
            )
        return {"listen": host, "advertise": host}
    return value


class Endpoint(Section):
    """Where one channel listens, and under which address the other nodes reach it."""

    listen: Annotated[Host | None, Key("Address to bind; null: the advertised one.")] = None
    advertise: Annotated[Host | None, Key("Address that others connect to.")] = None

    @field_validator("advertise", mode="after")
    @classmethod
    def _reachable(cls, value: str | None) -> str | None:
        if value is not None and is_wildcard(value):
            raise Wrong(f"{value} is every address", "write the one that the other nodes can reach")
        return value


EndpointRef = Annotated[Endpoint, BeforeValidator(as_endpoint)]


class Address(Endpoint):
    """The node's addresses: one for all channels, and exceptions per channel."""

    raft: Annotated[EndpointRef | None, Key("Peer channel, where it differs.")] = None
    api: Annotated[EndpointRef | None, Key("REST API, where it differs.")] = None
    postgresql: Annotated[EndpointRef | None, Key("PostgreSQL, where it differs.")] = None
    proxy: Annotated[EndpointRef | None, Key("Proxy listeners, where they differ.")] = None

    def advertised(self, channel: Channel) -> str:
        """The address under which the other nodes reach a channel."""
        own: Endpoint | None = getattr(self, channel)
        found = (own.advertise if own else None) or self.advertise
        assert found is not None, "checked when loaded"
        return found

    def bound(self, channel: Channel) -> str:
        """The address that a channel listens on."""
        own: Endpoint | None = getattr(self, channel)
        if own is not None and (own.listen or own.advertise):
            return own.listen or own.advertise or ""
        return self.listen or self.advertised(channel)
