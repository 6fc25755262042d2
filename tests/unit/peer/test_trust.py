"""Prove that only a node of this cluster gets in, under its own name, and that others are told."""

from __future__ import annotations

import asyncio
import datetime
import ssl
import time
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from pgherd.model.ids import NodeId
from pgherd.peer.frame import Channel, Hello, Lane, encode, pack
from pgherd.pki.authority import make_ca, make_client_certificate, make_node_certificate
from pgherd.pki.contexts import client_context
from pgherd.pki.files import write_private
from pgherd.raft.types import Msg, Snapshot

A, B = NodeId("a"), NodeId("b")
structlog.configure(cache_logger_on_first_use=False)


def meet(herd: Any, tell: Any, wait: Any, *, files: Any, dialler: str, listener: str) -> None:
    """Node b with `files` and a proper node a; both must say why they are not connected."""

    async def story() -> None:
        a = await herd.start("a")
        b = await herd.start("b", files=files)
        herd.introduce()
        a.peers.send_raft(B, Msg(type="Heartbeat"))
        b.peers.send_raft(A, Msg(type="Heartbeat"))
        await wait(lambda: dialler in a.peers.problems().get(B, ""), f"a says: {dialler}")
        await wait(lambda: b.peers.problems().get(A), "b has a reason too")
        await wait(lambda: any(listener in str(line) for line in lines), f"a logs: {listener}")
        assert not any([a.raft, b.raft, *a.peers.connected().values()])

    with capture_logs() as lines:
        tell(story(), herd)
    refused = [line for line in lines if line["event"] == "peer.connection_refused"]
    assert len(refused) <= 4, "the same complaint is logged once"


def test_another_clusters_ca_is_refused(tls_herd: Any, tell: Any, wait: Any) -> None:
    """A certificate of a CA with the same name but another key gets in nowhere."""
    files = tls_herd.files("b", ca=make_ca("test"))
    meet(
        tls_herd, tell, wait, files=files, dialler="its certificate is refused", listener="refused"
    )


@pytest.mark.fault(75)
def test_another_nodes_certificate_is_refused(tls_herd: Any, tell: Any, wait: Any) -> None:
    """c's certificate does not make its holder b, neither dialled nor dialling."""
    files = tls_herd.files("c")
    told = "the certificate is of c, the greeting of b"
    meet(tls_herd, tell, wait, files=files, dialler="is of c", listener=told)


def test_a_host_name_does_not_make_a_node(tls_herd: Any, tell: Any, wait: Any) -> None:
    """A certificate of c that asked for the host name "b" is still c's."""
    from pgherd.pki.authority import make_node_certificate
    from pgherd.pki.files import write_private

    files = tls_herd.files("c")
    issued = make_node_certificate(tls_herd.ca, NodeId("c"), ["b"])
    write_private(files.certificate, issued.certificate_pem)
    write_private(files.key, issued.key_pem)
    meet(tls_herd, tell, wait, files=files, dialler="is of c", listener="is of c")


def test_a_clients_certificate_makes_no_node(tls_herd: Any, tell: Any, wait: Any) -> None:
    """Whoever may call the API under the name b is not node b, whatever its role."""
    files = tls_herd.files("b")
    issued = make_client_certificate(tls_herd.ca, "b", "admin", days=1)
    write_private(files.certificate, issued.certificate_pem)
    write_private(files.key, issued.key_pem)
    meet(tls_herd, tell, wait, files=files, dialler="certificate", listener="is of None")


@pytest.mark.fault(75)
def test_an_expired_certificate_is_named(tls_herd: Any, tell: Any, wait: Any) -> None:
    """Both sides' logs say that it has expired."""
    long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=30)
    files = tls_herd.files("b", days=20, now=long_ago)
    told = "certificate has expired"
    meet(tls_herd, tell, wait, files=files, dialler=told, listener=told)


def test_tls_without_a_client_certificate_gets_no_answer(tls_herd: Any, tell: Any) -> None:
    """A stranger who trusts our CA but shows nothing is cut before its greeting is read."""

    async def story() -> None:
        a = await tls_herd.start("a")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=tls_herd.ca.certificate_pem.decode())
        reader, writer = await asyncio.open_connection(*a.address, ssl=context)
        writer.write(pack(Channel.HELLO, encode(Hello(B, A))))
        try:
            assert await reader.read() == b""
        except (ssl.SSLError, ConnectionError):
            pass
        writer.close()
        assert a.peers._door.guests() == set()

    tell(story(), tls_herd)


def test_plain_tcp_to_a_tls_port_is_refused(tls_herd: Any, tell: Any) -> None:
    """Without TLS nothing is answered."""

    async def story() -> None:
        a = await tls_herd.start("a")
        reader, writer = await asyncio.open_connection(*a.address)
        writer.write(pack(Channel.HELLO, encode(Hello(B, A))))
        try:
            assert Channel.WELCOME not in (await reader.read())[5:6]
        except ConnectionError:
            pass
        writer.close()
        assert a.peers._door.guests() == set()

    tell(story(), tls_herd)


def test_the_wrong_node_at_an_address_is_noticed(plain_herd: Any, tell: Any, wait: Any) -> None:
    """Even without TLS: whoever dials b and reaches c, or reaches itself, is told so."""

    async def story() -> None:
        a, c = await plain_herd.start("a"), await plain_herd.start("c")
        a.peers.set_peers({B: c.address, NodeId("d"): a.address})
        await wait(lambda: "this is c, not b" in a.peers.problems().get(B, ""), "wrong node")
        await wait(lambda: "this is a, not d" in a.peers.problems().get("d", ""), "oneself")

    tell(story(), plain_herd)


@pytest.mark.fault(22)
def test_a_second_daemon_of_the_same_name_is_noticed(tls_herd: Any, tell: Any, wait: Any) -> None:
    """A daemon that dials us under our own name is refused."""

    async def story() -> None:
        a = await tls_herd.start("a")
        files = tls_herd.files("a")
        _, writer = await asyncio.open_connection(
            *a.address, ssl=client_context(files), server_hostname="a"
        )
        writer.write(pack(Channel.HELLO, encode(Hello(A, A))))
        await wait(lambda: any("another daemon" in str(line) for line in lines), "refusal logged")
        writer.close()

    with capture_logs() as lines:
        tell(story(), tls_herd)


def test_a_replaced_certificate_leaves_old_connections_alone(
    tls_herd: Any, tell: Any, wait: Any
) -> None:
    """New connections show the new one at once; those that stand go on undisturbed."""

    async def story() -> None:
        a = await tls_herd.start("a")
        b = await tls_herd.start("b", files=(files := tls_herd.files("b", days=20)))
        tls_herd.introduce()
        await tls_herd.connected()
        main = a.peers._links[B, Lane.MAIN]
        wire, old_end = main._wire, main.certificate_ends_unix
        issued = make_node_certificate(tls_herd.ca, B, ["127.0.0.1"])
        write_private(files.key, issued.key_pem)
        write_private(files.certificate, issued.certificate_pem)
        a.peers.send_raft(B, Msg(type="Snap", snapshot=Snapshot(9, 1)))  # dials the bulk lane
        await wait(lambda: len(b.raft) == 1, "a message on a new connection")
        assert a.peers._links[B, Lane.BULK].certificate_ends_unix - old_end > 300 * 24 * 3600
        a.peers.send_raft(B, Msg(type="Heartbeat"))
        await wait(lambda: len(b.raft) == 2, "a message on the old connection")
        assert main._wire is wire
        assert main.certificate_ends_unix == old_end
        assert a.unreachable == []

    tell(story(), tls_herd)


def test_renewed_certificates_are_used_without_a_restart(
    tls_herd: Any, tell: Any, wait: Any
) -> None:
    """An expired certificate is replaced on disk; the next connection uses the new one."""
    long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=30)
    files = tls_herd.files("b", days=20, now=long_ago)

    async def story() -> None:
        a = await tls_herd.start("a")
        await tls_herd.start("b", files=files)
        tls_herd.introduce()
        await wait(lambda: "expired" in a.peers.problems().get(B, ""), "refused first")
        issued = make_node_certificate(tls_herd.ca, B, ["127.0.0.1"])
        write_private(files.key, issued.key_pem)
        write_private(files.certificate, issued.certificate_pem)
        await tls_herd.connected()
        left_s = a.peers.certificates_end_unix()[B] - time.time()
        assert left_s > 300 * 24 * 3600

    tell(story(), tls_herd)
