"""PostgreSQL's own TLS, as `init` turns it on: members check each other, and files change under it.

A build without OpenSSL says that it cannot.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import psycopg
import pytest

from pgherd.model.errors import OperatorError, PostgresError
from pgherd.model.ids import NodeId, Term
from pgherd.pki.authority import Authority, make_ca, make_node_certificate
from pgherd.pki.files import write_private
from pgherd.postgres import slots, tlsfiles
from pgherd.postgres.server import PostgresServer

SSL = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_replication USING (pid)"


class Pki:
    """Files of nodes, of one authority."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca: Authority = make_ca("test")

    def issue(self, name: str) -> dict[str, str]:
        """A node's files, made anew; the arguments of `tlsfiles.used`."""
        files = {part: self.folder / f"{name}.{part}" for part in ("certificate", "key", "ca")}
        issued = make_node_certificate(self.ca, NodeId(name), ["127.0.0.1"])
        write_private(files["certificate"], issued.certificate_pem)
        write_private(files["key"], issued.key_pem)
        write_private(files["ca"], self.ca.certificate_pem)
        return {part: str(path) for part, path in files.items()}


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path)


def with_tls(lab, pki: Pki, name: str) -> PostgresServer:
    server = lab.server(name)
    home = server.data_dir.parent
    server.settings = tlsfiles.used(server.settings, home, **pki.issue(name), required=True)
    return server


async def primary_of(lab, pki: Pki) -> PostgresServer:
    server = with_tls(lab, pki, "a")
    await server.initdb("a00001")
    await server.start()
    await server.promote()
    await server.write_epoch(Term(1), NodeId("a"))
    await server.ensure_roles()
    return server


def copied(server: PostgresServer) -> tuple[str, int, object]:
    """The certificate that a server reads, and whose its key is, with which rights."""
    key = Path(server.settings.tls_key).stat()
    owner = server.user if server.user is not None and server.user.uid == key.st_uid else None
    return Path(server.settings.tls_certificate).read_text(), key.st_mode & 0o777, owner


async def first(server: PostgresServer, sql: str) -> list[str]:
    return [str(row[0]) for row in await server.watching.rows(sql, [])]


@pytest.mark.fault(75)
@pytest.mark.parametrize("lab", ["15"], indirect=True)
def test_members_stream_by_tls_and_know_each_other(lab, play, pki):
    """Without TLS nobody replicates; a server of another authority is not followed; clients choose.

    A new certificate is shown to new connections, and ends none.
    """

    async def story():
        primary = await primary_of(lab, pki)
        replica = with_tls(lab, pki, "b")
        await slots.ensure_slots(primary, {"pgherd_b"})
        await lab.copy(replica, primary, "b00001")
        await lab.follow(replica, primary, 1)
        assert await first(primary, SSL) == ["True"]
        assert copied(replica)[1:] == (0o600, replica.user)

        role = {"host": "127.0.0.1", "port": primary.port, "user": "pgherd_replication"}
        role |= {"password": "replicate-me", "replication": "true"}
        with pytest.raises(psycopg.OperationalError, match="no encryption"):
            await psycopg.AsyncConnection.connect(**role, sslmode="disable")
        stranger = Pki(pki.folder / "x")
        stranger.folder.mkdir()
        wrong = {"sslmode": "verify-full", "sslrootcert": stranger.issue("a")["ca"]}
        with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
            await psycopg.AsyncConnection.connect(**role, **wrong)

        [before] = await first(primary, "SELECT pid FROM pg_stat_replication")
        assert not await tlsfiles.renew(primary), "nothing has changed"
        pki.issue("a")
        assert await tlsfiles.renew(primary)
        right = {"sslmode": "verify-full", "sslrootcert": str(pki.folder / "a.ca")}
        await (await psycopg.AsyncConnection.connect(**role, **right)).close()
        now = await first(primary, "SELECT pid FROM pg_stat_replication")
        assert before in now, "beside it the session of a moment ago may be there still"

        shown = copied(primary)
        (pki.folder / "a.key").write_text("half a key")
        with pytest.raises(OperatorError, match="cannot be used"):
            await tlsfiles.renew(primary)
        assert copied(primary) == shown

    play(story())


@pytest.mark.parametrize("lab", ["18"], indirect=True)
def test_a_build_without_openssl_says_so(lab, play, pki):
    """It does not start with TLS; without it, as `init` leaves it there, it does."""

    async def story():
        server = with_tls(lab, pki, "a")
        await server.initdb("a00001")
        with pytest.raises(PostgresError, match="SSL"):
            await server.start()
        plain = msgspec.structs.replace(
            server.settings, tls_certificate="", tls_key="", tls_ca="", tls_from=(), sslmode=""
        )
        server.settings = msgspec.structs.replace(plain, tls_required=False)
        assert (await server.start()).accepting

    play(story())
