"""One address on one interface of this machine: is it free, take it, tell of it, give it up.

Owns the order of frames and the words of what goes wrong; the bytes are in `frames` and `netlink`.
The kernel takes an address away by itself when its time is over, so that none outlives an agent
that hangs or dies. Everything here blocks for a moment. Leaves whether it belongs here to
`plan.vip`, and when to `daemon.vips`.
"""

from __future__ import annotations

import array
import errno
import ipaddress
import socket
import struct
import time

from pgherd.act import frames, netlink, rights, sessions
from pgherd.model.errors import OperatorError
from pgherd.model.vip import Vip

PROBES = 3
PROBE_S = 0.15
"""Between two probes, and after the last. RFC 5227 takes seconds, which clients would wait too."""

ETHERNET = 1
FRAME_BYTES = 2048
SO_ATTACH_FILTER = 26
CODE = struct.Struct("=HBBI")
LOAD_BYTE, IS_EQUAL, ANSWER = 0x30, 0x15, 0x06
NEXT_HEADER_AT, ICMP_TYPE_AT = 20, 54
NEIGHBOURS = (
    (LOAD_BYTE, 0, 0, NEXT_HEADER_AT),
    (IS_EQUAL, 0, 4, frames.ICMPV6),
    (LOAD_BYTE, 0, 0, ICMP_TYPE_AT),
    (IS_EQUAL, 1, 0, frames.SOLICITATION),
    (IS_EQUAL, 0, 1, frames.ADVERTISEMENT),
    (ANSWER, 0, 0, FRAME_BYTES),
    (ANSWER, 0, 0, 0),
)
"""A filter for the kernel: of all IPv6 on the interface only what the probe waits for."""

SOL_PACKET, PACKET_ADD_MEMBERSHIP, MULTICAST = 263, 1, 0
MEMBERSHIP = struct.Struct("=iHH8s")


class VipFailed(OperatorError):
    """An address could not be probed, taken or told of here."""


class Place:
    """Where an address of a node belongs."""

    def __init__(self, vip: Vip) -> None:
        self.vip = vip
        self._ip = ipaddress.ip_address(vip.address)

    def why_not(self) -> str:
        """What keeps this machine from having it at all, with what to do; "" when nothing does."""
        if missing := rights.lacking():
            return f"pgherd lacks {' and '.join(missing)}: {rights.HINT}"
        try:
            self._index()
        except VipFailed as failed:
            return f"{failed.message}: {failed.hint}"
        return ""

    def found(self) -> netlink.Held | None:
        """How it is on its interface now; None when it is not. Raises VipFailed."""
        try:
            index = socket.if_nametoindex(self.vip.interface)
            held = netlink.held()
        except OSError:
            return None  # without the interface, or without rights, there is nothing of ours
        wanted = str(self._ip)
        return next((one for one in held if (one.address, one.index) == (wanted, index)), None)

    def probe(self) -> str:
        """Ask the network who has it: the link address of the first that answers, or "".

        Takes about half a second. Raises VipFailed.
        """
        try:
            with self._listen() as channel:
                question = frames.probe(self._ip, link_of(channel))
                for _ in range(PROBES):
                    channel.send(question)
                    if claim := self._claim(channel):
                        return frames.text_of(claim)
        except OSError as error:
            raise self._failed("probed", error) from error
        return ""

    def put(self, seconds: int) -> None:
        """Have it here for so long from now, or renew that. Raises VipFailed."""
        vip = self.vip
        try:
            netlink.put(self._ip, prefix=vip.prefix, index=self._index(), seconds=seconds)
        except OSError as error:
            raise self._failed("taken", error) from error

    def remove(self) -> bool:
        """Have it here no more, with its sessions; False when it was not. Raises VipFailed."""
        held = self.found()
        if held is None:
            return False
        try:
            sessions.reset(self._ip)
            return netlink.delete(self._ip, prefix=held.prefix, index=held.index)
        except OSError as error:
            raise self._failed("removed", error) from error

    def announce(self) -> None:
        """Tell everybody on the network that it is here. Raises VipFailed."""
        try:
            with self._open(kind=0) as channel:
                for frame in frames.announcements(self._ip, link_of(channel)):
                    channel.send(frame)
        except OSError as error:
            raise self._failed("announced", error) from error

    # --- the network ------------------------------------------------------------------------------

    def _index(self) -> int:
        name = self.vip.interface
        try:
            return socket.if_nametoindex(name)
        except OSError:
            there = ", ".join(sorted(name for _, name in socket.if_nameindex()))
            raise VipFailed(
                f"there is no interface {name}", f"this machine has {there}; correct vip.interface"
            ) from None

    def _open(self, *, kind: int) -> socket.socket:
        """A channel for whole frames; kind 0: to send alone. Raises OSError, VipFailed."""
        self._index()
        channel = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            if kind == frames.ETH_IPV6:
                attach(channel, NEIGHBOURS)
            channel.bind((self.vip.interface, kind))
            if channel.getsockname()[3] != ETHERNET:
                raise VipFailed(
                    f"{self.vip.interface} is no Ethernet, where an address can be announced",
                    "name another in vip.interface",
                )
        except BaseException:
            channel.close()
            raise
        return channel

    def _listen(self) -> socket.socket:
        if not self.vip.is_ipv6:
            return self._open(kind=frames.ETH_ARP)
        channel = self._open(kind=frames.ETH_IPV6)
        group = frames.group_mac(frames.solicited_node(self._ip.packed))
        option = MEMBERSHIP.pack(self._index(), MULTICAST, len(group), group + b"\0\0")
        channel.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, option)
        return channel

    def _claim(self, channel: socket.socket) -> bytes:
        """The first that claims it within a moment."""
        mac, until = link_of(channel), time.monotonic() + PROBE_S
        while (left_s := until - time.monotonic()) > 0:
            channel.settimeout(left_s)
            try:
                claim = frames.claimed_by(channel.recv(FRAME_BYTES), self._ip, mac)
            except TimeoutError:
                return b""
            if claim:
                return claim
        return b""

    def _failed(self, done: str, error: OSError) -> VipFailed:
        name = self.vip.interface
        if error.errno == errno.EPERM:
            missing = " and ".join(rights.NEEDED)
            return VipFailed(f"it cannot be {done}: pgherd lacks {missing}", rights.HINT)
        if error.errno == errno.EACCES and self.vip.is_ipv6:
            switch = f"net.ipv6.conf.{name}.disable_ipv6"
            return VipFailed(f"IPv6 is off on {name}", f"sysctl -w {switch}=0")
        if error.errno == errno.ENETDOWN:
            return VipFailed(f"{name} is down", f"ip link set {name} up")
        return VipFailed(f"it cannot be {done} on {name}: {error.strerror}", "pgherd status")


def link_of(channel: socket.socket) -> bytes:
    """The link address of the interface that a channel is bound to."""
    return bytes(channel.getsockname()[4])


def attach(channel: socket.socket, program: tuple[tuple[int, int, int, int], ...]) -> None:
    """Have the kernel pass on only what a program (bpf(4), of the classic kind) lets through."""
    code = array.array("B", b"".join(CODE.pack(*step) for step in program))
    address, _ = code.buffer_info()
    channel.setsockopt(
        socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(program), address)
    )
