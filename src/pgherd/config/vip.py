"""The keys of one entry of `vip`: an address for clients, and what it follows.

Owns what an entry must be, what a list of them must not be together with the rest of the file, and
whether the interfaces are there: that is asked when a person checks a file, not when an agent reads
it, for a device may come late, and PostgreSQL need not wait for it.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import PlainValidator

from pgherd.config.fields import Key, is_wildcard
from pgherd.config.problems import Wrong
from pgherd.config.section import Section
from pgherd.config.source import Path
from pgherd.model.vip import MOST

if TYPE_CHECKING:
    from pgherd.config.settings import Settings

INTERFACE_LETTERS_MAX = 15
EXAMPLE = "as in 10.0.1.100/24 or fd00::100/64"


@dataclass(frozen=True, slots=True)
class WithPrefix:
    """An address and how much of it names its network."""

    ip: str
    prefix: int

    def __str__(self) -> str:
        return f"{self.ip}/{self.prefix}"


def parse_address(value: object) -> WithPrefix:
    """An address of one machine, with the length of its network's prefix."""
    if not isinstance(value, str):
        raise Wrong("is not an address", EXAMPLE)
    try:
        found = ipaddress.ip_interface(value)
    except ValueError:
        raise Wrong(f"{value!r} is not an address with a prefix length", EXAMPLE) from None
    ip, network = found.ip, found.network
    if "/" not in value:
        length = 24 if ip.version == 4 else 64
        raise Wrong(
            f"{ip} has no prefix length",
            f"write {ip}/{length}, with the length that the node's own address on the interface"
            " has",
        )
    if ip.is_loopback or ip.is_multicast or ip.is_unspecified or ip.is_link_local:
        raise Wrong(f"{ip} is no address that clients could be given", EXAMPLE)
    if network.num_addresses > 2 and ip == network.network_address:
        raise Wrong(f"{found} is the network, not an address in it", EXAMPLE)
    if ip.version == 4 and network.num_addresses > 2 and ip == network.broadcast_address:
        raise Wrong(f"{found} is the network's broadcast address", EXAMPLE)
    return WithPrefix(str(ip), network.prefixlen)


def parse_interface(value: object) -> str:
    """The name of a network interface, as the kernel allows it."""
    bad = not isinstance(value, str) or not value or any(c.isspace() or c in "/:" for c in value)
    if bad or len(str(value)) > INTERFACE_LETTERS_MAX or value in (".", ".."):
        raise Wrong(f"{value!r} is no network interface", "ip -brief link lists them")
    return str(value)


class Vip(Section):
    """One address that is on one node at a time."""

    address: Annotated[
        Annotated[WithPrefix, PlainValidator(parse_address)],
        Key("IPv4 or IPv6, with the prefix length of its network: 10.0.1.100/24."),
    ]
    interface: Annotated[
        Annotated[str, PlainValidator(parse_interface)],
        Key("Network interface that it is put on."),
    ]
    follow: Annotated[
        Literal["primary", "replica", "proxy"],
        Key(
            "Where it is: with the primary; with one healthy replica; with one node whose proxy is"
            " well. primary unless said."
        ),
    ] = "primary"


def problems(settings: Settings) -> Iterator[tuple[Path, str, str]]:
    """What is wrong with the list of addresses as a whole."""
    if len(settings.vip) > MOST:
        yield ("vip",), f"has {len(settings.vip)} addresses", f"at most {MOST}"
    for index, vip in enumerate(settings.vip):
        path: Path = ("vip", index, "address")
        if any(vip.address.ip == other.address.ip for other in settings.vip[:index]):
            yield path, f"{vip.address.ip} is listed twice", "an address follows one thing"
        if vip.address.ip in own_addresses(settings):
            yield (
                path,
                f"{vip.address.ip} is this node's own address, which cannot move",
                "choose one that no machine has",
            )
        unfit = list(_unfit(settings, vip, ("vip", index, "follow")))
        yield from unfit
        if not unfit and not listens(settings, vip):
            yield (
                path,
                f"nothing here would listen on {vip.address.ip}",
                f"let it listen on every address: {listen_hint(settings, vip)}",
            )


def device_problems(settings: Settings) -> Iterator[tuple[Path, str, str]]:
    """Interfaces that this machine does not have now."""
    there = {name for _, name in socket.if_nameindex()}
    for index, vip in enumerate(settings.vip):
        if vip.interface not in there:
            yield (
                ("vip", index, "interface"),
                f"there is no interface {vip.interface} now",
                f"this machine has {', '.join(sorted(there))}",
            )


def _unfit(settings: Settings, vip: Vip, path: Path) -> Iterator[tuple[Path, str, str]]:
    if vip.follow == "proxy" and not settings.proxy.listeners:
        yield path, "there is no proxy here to follow", "add proxy.listeners, or remove the entry"
    if vip.follow != "proxy" and not settings.has_server:
        text = f"a {settings.kind.value} node has no PostgreSQL to follow"
        yield path, text, "remove the entry, or follow: proxy"


def own_addresses(settings: Settings) -> set[str]:
    """Every address that this node is known by or listens on."""
    address = settings.node.address
    ends = (address, address.raft, address.api, address.postgresql, address.proxy)
    return {
        host
        for end in ends
        if end is not None
        for host in (end.listen, end.advertise)
        if host is not None
    }


def listens(settings: Settings, vip: Vip) -> bool:
    """Whether a client that connects to an address finds somebody."""
    address = settings.node.address
    hosts = [address.bound("proxy")] if settings.proxy.listeners else []
    if settings.has_server and vip.follow != "proxy":
        hosts.append(address.bound("postgresql"))
    return any(is_wildcard(host) and fits(host, vip) for host in hosts)


def fits(host: str, vip: Vip) -> bool:
    """Whether who listens on every address hears this one: `::` is not 0.0.0.0."""
    return ipaddress.ip_address(host).version == ipaddress.ip_address(vip.address.ip).version


def listen_hint(settings: Settings, vip: Vip) -> str:
    """What to write under node."""
    own = settings.node.address.advertise or "ADDRESS"
    channel = "proxy" if settings.proxy.listeners else "postgresql"
    wildcard = "'::'" if ":" in vip.address.ip else "0.0.0.0"
    return f"node.address: {{advertise: {own}, {channel}: {{listen: {wildcard}}}}}"
