"""What a proxy that ends SCRAM gives to clients that are slow, rude or too many: no server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from base64 import b64decode

import psycopg
import pytest

from pgherd.wire.login import ACCEPT_TLS, startup_packet
from pgherd.wire.query import HEADER_BYTES, error_of, simple
from pgherd.wire.scram import ITERATIONS, MECHANISM, ScramClient, keys_of
from pgherd.wire.startup import SSL_REQUEST

PASSWORD = "right"
SETUP = "CREATE ROLE ann LOGIN PASSWORD 'right'"
ONE_VERSION = pytest.mark.parametrize("lab", ["15"], indirect=True)
COUNT = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'ann'"
ANN = (("user", "ann"), ("database", "postgres"))


class Raw:
    """A client at the level of bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, port: int, first: bytes = b"") -> Raw:
        made = cls(*await asyncio.open_connection("127.0.0.1", port))
        made.writer.write(first)
        return made

    async def message(self) -> tuple[bytes, bytes]:
        head = await asyncio.wait_for(self.reader.readexactly(HEADER_BYTES), 15)
        body = await self.reader.readexactly(int.from_bytes(head[1:], "big") - 4)
        return head[:1], body

    async def until(self, kind: bytes) -> bytes:
        """The body of the next message of a kind, past all others."""
        while True:
            found, body = await self.message()
            if found == kind:
                return body
            assert found != b"E", error_of(body)

    def respond(self, body: bytes) -> None:
        self.writer.write(b"p" + (4 + len(body)).to_bytes(4, "big") + body)

    async def log_in(self) -> None:
        """Prove to know the password, up to ReadyForQuery."""
        await self.until(b"R")
        client = ScramClient(self.keys(b"0" * 16), nonce="fyko+d2lbbFgONRv9qkxdawL")
        first = client.first()
        self.respond(MECHANISM.encode() + b"\0" + len(first).to_bytes(4, "big") + first)
        answer = (await self.until(b"R"))[4:]
        salt = answer.split(b",s=")[1].split(b",")[0]
        client._keys = self.keys(b64decode(salt))
        self.respond(client.final(answer))
        await self.until(b"Z")

    @staticmethod
    def keys(salt: bytes):
        return keys_of(PASSWORD, salt=salt, iterations=ITERATIONS)

    async def end(self) -> bytes:
        """Everything up to the end of the stream."""
        with contextlib.suppress(ConnectionResetError):
            return await asyncio.wait_for(self.reader.read(-1), 15)
        return b""


async def story_of(lab, way, tell, **options) -> None:
    """Tell a story in front of a server that knows ann."""
    server = await lab.primary("a")
    await server.set_names("")
    async with await psycopg.AsyncConnection.connect(lab.dsn(server), autocommit=True) as agent:
        await agent.execute(SETUP)

        async def sessions() -> int:
            return (await (await agent.execute(COUNT)).fetchone())[0]

        async with way(server, **options) as it:
            await tell(it, sessions)


def test_whoever_proves_nothing_gets_no_server(lab, play, way, certificate, wait_until):
    """Silent, slow, garbled and endless clients end by themselves; real ones get in meanwhile."""
    first = startup_packet(ANN)

    async def story(it, sessions):
        slow = [
            await Raw.connect(it.port, beginning)
            for beginning in (b"", first[:3], first[:-1], first, SSL_REQUEST, SSL_REQUEST[:5])
            for _ in range(4)
        ]
        asked = await Raw.connect(it.port, first)
        await asked.until(b"R")
        await (await psycopg.AsyncConnection.connect(it.dsn("ann", PASSWORD))).close()
        for rude, code in (
            (b"GET / HTTP/1.1\r\n\r\n", "08P01"),
            ((20_000).to_bytes(4, "big") + bytes(19_996), "08P01"),
            (startup_packet((("user", ""), ("database", "x"))), "28000"),
            (startup_packet((("database", "x"),)), "28000"),
            ((8).to_bytes(4, "big") + (2 << 16).to_bytes(4, "big"), "0A000"),
            (b"\x16\x03\x01\x02\x00\x01", "08P01"),
            (SSL_REQUEST + first, "08P01"),
            (first + b"Q" + (9).to_bytes(4, "big") + b"hello", "08P01"),
            (startup_packet((("user", "ann\udcff"),)) + b"Q", "08P01"),
            (first + b"p" + (1 << 20).to_bytes(4, "big"), "08P01"),
            (first + b"p" + (14).to_bytes(4, "big") + b"NONE\0" + bytes(5), "08P01"),
        ):
            one = await Raw.connect(it.port, rude)
            said = await one.end()
            assert error_of(said[said.rindex(b"SFATAL") :]).sqlstate == code, (rude, said)
        tls = await Raw.connect(it.port, SSL_REQUEST)
        assert await tls.reader.readexactly(1) == ACCEPT_TLS
        tls.writer.write(b"this is no handshake, and long enough to be one of them")
        await tls.end()

        async def none() -> bool:
            return await sessions() == 0

        await wait_until("the one real session is over, and there is no other", none)
        for one in [*slow, asked]:
            await one.end()
        again = [await Raw.connect(it.port, first) for _ in range(27)]
        for one in again:  # as many as may be: none of the first has left anything behind
            await one.until(b"R")

    options = {"startup_ms": 5000, "sessions_max": 27}
    play(story_of(lab, way, story, **options, tls=certificate("proxy").tls))


def test_ends_of_every_kind_reach_the_server(lab, play, way, wait_until):
    """A half-closed client gets its answers; a reset or closed one leaves no server session."""

    async def story(it, sessions):
        half = await Raw.connect(it.port, startup_packet(ANN))
        await half.log_in()
        half.writer.write(simple("SELECT pg_sleep(0.5)") + simple("SELECT 'the answer'"))
        half.writer.write_eof()
        assert b"the answer" in await half.end()

        async def none() -> bool:
            return await sessions() == 0

        await wait_until("no session is left of the half-closed one", none)
        for way_out in ("reset", "close", "cut"):
            one = await Raw.connect(it.port, startup_packet(ANN))
            await one.log_in()
            assert await sessions() == 1
            if way_out == "reset":
                sock = one.writer.get_extra_info("socket")
                linger = struct.pack("ii", 1, 0)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            if way_out == "cut":
                one.writer.write(simple("SELECT 'never whole'")[:-3])
            one.writer.close()
            await wait_until(f"no session is left after {way_out}", none)

    play(story_of(lab, way, story))


@ONE_VERSION
def test_too_many_are_told_so_in_their_own_words(lab, play, way, certificate):
    """53300 in the place where PostgreSQL says it, in TLS too; the server is not asked."""

    async def story(it, sessions):
        tls = {"sslmode": "require"}
        first = await psycopg.AsyncConnection.connect(it.dsn("ann", PASSWORD, **tls))
        for more in (tls, {"sslmode": "disable"}):
            with pytest.raises(psycopg.OperationalError, match="1 sessions are open already"):
                await psycopg.AsyncConnection.connect(it.dsn("ann", PASSWORD, **more))
        assert await sessions() == 1
        await first.close()

    play(story_of(lab, way, story, sessions_max=1, tls=certificate("proxy").tls))


@ONE_VERSION
def test_versions_are_negotiated(lab, play, way):
    """A version and options of the future are answered with what there is, and then work."""

    async def story(it, sessions):
        future = startup_packet((*ANN, ("_pq_.weather", "fine")), minor=9)
        one = await Raw.connect(it.port, future)
        assert await one.until(b"v") == (
            (3 << 16 | 2).to_bytes(4, "big") + (1).to_bytes(4, "big") + b"_pq_.weather\0"
        )
        await one.log_in()
        one.writer.write(simple("SELECT 1"))
        await one.until(b"Z")
        one.writer.close()

    play(story_of(lab, way, story))


def test_nobody_learns_which_users_there_are(lab, play, way):
    """The proxy asks strangers exactly what PostgreSQL asks them, salt included."""

    async def asked(port: int, user: str) -> bytes:
        one = await Raw.connect(port, startup_packet((("user", user), ("database", "postgres"))))
        await one.until(b"R")
        one.respond(MECHANISM.encode() + b"\0" + (10).to_bytes(4, "big") + b"n,,n=,r=ab")
        answer = await one.until(b"R")
        one.writer.close()
        return answer.partition(b",s=")[2]

    async def story(it, sessions):
        for user in ("ann", "nobody", "x" * 70):
            through = await asked(it.port, user)
            assert through == await asked(it.server.port, user), user
            assert through.endswith(b",i=4096")

    play(story_of(lab, way, story))


@ONE_VERSION
def test_a_server_that_wants_a_clear_password_gets_none(lab, play, way):
    """Its access rules are at fault: the client is told, and the log says what to do. Other rules
    work, and `trust` there does not mean that the proxy lets everybody in."""

    async def story():
        ways = {"ann": "password", "bea": "md5", "cid": "trust"}
        hba = tuple(f"host all {user} 127.0.0.1/32 {method}" for user, method in ways.items())
        server = await lab.primary("a", hba=hba)
        await server.set_names("")
        async with await psycopg.AsyncConnection.connect(lab.dsn(server), autocommit=True) as agent:
            for user in ways:
                await agent.execute(f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'")
        async with way(server) as it:
            for user in ("bea", "cid"):
                await (await psycopg.AsyncConnection.connect(it.dsn(user, PASSWORD))).close()
                with pytest.raises(psycopg.OperationalError, match="authentication failed"):
                    await psycopg.AsyncConnection.connect(it.dsn(user, "wrong"))
            with pytest.raises(psycopg.OperationalError, match="asks for a clear password"):
                await psycopg.AsyncConnection.connect(it.dsn("ann", PASSWORD))
            await it.says("entry.impossible")

    play(story())


HELD = b"Q" + (60_000).to_bytes(4, "big") + b"SET synchronous_commit = " * 2000
GROWTH_BYTES_MAX = 24 << 20


async def misbehave(one: Raw, number: int) -> None:
    """What a client does that knows its password and nothing else."""
    if number % 5 == 0:
        one.writer.write(HELD)  # and never the rest
    elif number % 5 == 1:
        one.writer.write(b"Q" + (0x3FFFFFFF).to_bytes(4, "big") + bytes(1 << 20))
    elif number % 5 == 2:
        one.writer.write(b"Q" + (number % 4).to_bytes(4, "big"))
    elif number % 5 == 3:
        one.writer.write(b"B" + (0xFFFFFFFF).to_bytes(4, "big") + bytes(300_000))
    else:
        one.writer.write(simple("SELECT repeat('x', 20000000)"))  # and reads nothing of it
    with contextlib.suppress(ConnectionResetError):
        await one.writer.drain()


@ONE_VERSION
def test_hostile_clients_harm_nobody_else(lab, play, way, wait_until):
    """Drops of a startup packet, endless and impossible messages, answers that nobody reads: each
    ends by itself or with its client, memory stays, the log says who, and others go on."""

    async def story(it, sessions):
        bystander = await psycopg.AsyncConnection.connect(it.dsn("ann", PASSWORD), autocommit=True)
        before = it.control.counters().rss_bytes
        first = startup_packet(ANN)
        drops = [await Raw.connect(it.port) for _ in range(10)]
        hostile = []
        for number in range(30):
            for slow in drops:
                if not slow.writer.is_closing():
                    slow.writer.write(first[number : number + 1])
            one = await Raw.connect(it.port, first)
            await one.log_in()
            await misbehave(one, number)
            hostile.append(one)
            assert await (await bystander.execute("SELECT %s::int", [number])).fetchone() == (
                number,
            )
        for number in (2, 3, 7, 8):  # what is no message is answered and ends
            assert b"08P01" in await hostile[number].end()
        for slow in drops:
            await slow.end()

        async def is_reported() -> bool:
            return it.control.counters().opened["primary:" + str(it.port)].get("silent", 0) >= 10

        await wait_until("who is too slow is counted", is_reported)
        assert it.control.counters().rss_bytes - before < GROWTH_BYTES_MAX
        for one in hostile:
            one.writer.transport.abort()

        async def alone() -> bool:
            return await sessions() == 1

        await wait_until("only the bystander is left", alone)
        await bystander.close()
        await it.says("client.violated address=127.0.0.1")

    play(story_of(lab, way, story, startup_ms=8000))
