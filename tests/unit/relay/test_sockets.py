"""Proves what we ask the kernel: who holds a port, and which peer is gone rather than slow."""

from __future__ import annotations

import os
import select
import socket

from pgherd.relay.sockets import KEEPALIVE_IDLE_S, is_dead, tune, who_listens


def test_the_owner_of_a_port_is_found() -> None:
    """This process for its own listener, nobody for a port that is only bound."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert (who_listens(server.getsockname()[1]) or "").startswith(f"pid {os.getpid()} (")
    with socket.socket() as idle:
        idle.bind(("127.0.0.1", 0))
        assert who_listens(idle.getsockname()[1]) is None


def test_a_peer_that_only_stopped_reading_is_not_dead() -> None:
    """Full buffers on both sides: everything sent was acknowledged, so it lives."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = socket.create_connection(server.getsockname())
        reader, _ = server.accept()
        sender.setblocking(False)
        try:
            while True:
                sender.send(bytes(65_536))
        except BlockingIOError:
            pass
        assert not select.select([], [sender], [], 0)[1]
        assert not is_dead(sender, dead_peer_ms=0)
        sender.close()
        reader.close()


def test_options_are_set() -> None:
    """No delay and keepalive; a Unix socket has no options of TCP and is never called dead."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        sock = socket.create_connection(server.getsockname())
        tune(sock)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == KEEPALIVE_IDLE_S
        sock.close()
    one, other = socket.socketpair()
    assert not is_dead(one, dead_peer_ms=0)
    one.close()
    other.close()
