"""The secrets of one member: kept on disk, told to members, learned from them, and used."""

from __future__ import annotations

import asyncio
import stat

import msgspec
import pytest

from pgherd.daemon.rotating import Rotation
from pgherd.daemon.secretbook import (
    ASK_SECRET,
    FILE,
    GIVE_SECRET,
    IDLE_MAX,
    SecretBook,
    fingerprint,
)
from pgherd.ledger.commands import RotatePassword
from pgherd.model.credentials import Credential, Stage, Which
from pgherd.model.errors import OperatorError, PeerError
from pgherd.model.facts import Address, Facts, Kind, Member
from pgherd.model.ids import NodeId, RaftId
from pgherd.postgres.settings import ServerSettings

SECRET = "a long and random secret"
NAMES = [NodeId(name) for name in ("n1", "n2", "n3")]


def facts(credentials=None):
    members = {
        name: Member(name, RaftId(number), Kind.DATA, Address(name, 1))
        for number, name in enumerate(NAMES, 1)
    }
    return Facts("test", members=members, credentials=credentials or {})


NAMED = facts({Which.REPLICATION: Credential(1, fingerprint(SECRET), stage=Stage.BOTH)})


class Server:
    """What the book needs of a server that does not run."""

    user = None

    def __init__(self, directory):
        self.settings = ServerSettings(
            passfile=str(directory / "pgpass"), replication_password="file", version=7
        )

    def is_running(self):
        return False


class Herd:
    """Three members whose requests are calls."""

    def __init__(self, directory):
        self.facts = facts()
        self.down = set()
        self.used = []
        self.servers = {}
        self.books = {name: self.book(directory / name, name) for name in NAMES}

    def book(self, directory, name):
        directory.mkdir(exist_ok=True)
        server = self.servers[name] = Server(directory)
        return SecretBook(
            directory,
            me=name,
            base=server.settings,
            server=server,
            facts=lambda: self.facts,
            ask=self.ask,
            used=lambda: self.used.append(name),
        )

    async def ask(self, to, kind, body, *, timeout_s):
        if to in self.down:
            raise PeerError(f"{to} is down")
        try:
            book = self.books[to]
            return await (book.give(body) if kind == GIVE_SECRET else book.tell(body))
        except OperatorError as error:
            raise PeerError(str(error)) from error


@pytest.fixture
def herd(tmp_path):
    return Herd(tmp_path)


async def until_used(herd, name):
    book = herd.books[name]
    async with asyncio.timeout(10):
        while herd.servers[name].settings.mark != "replication:1:both":
            book.look()
            await asyncio.sleep(0.01)


def test_who_lacks_a_secret_asks_the_others_and_uses_it(herd, tmp_path):
    """It is on disk, private, and used in the passfile; what the cluster configured stays."""

    async def story():
        await herd.books["n3"].give(msgspec.msgpack.encode(SECRET))
        herd.facts, herd.down = NAMED, {"n3"}
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await until_used(herd, "n1")
        herd.down = {"n2"}
        await until_used(herd, "n1")

    asyncio.run(story())
    assert herd.used == ["n1"]
    settings = herd.servers["n1"].settings
    assert (settings.replication_role, settings.version) == ("pgherd_replication_2", 7)
    assert SECRET in (tmp_path / "n1" / "pgpass").read_text()
    file = tmp_path / "n1" / FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = herd.book(tmp_path / "n1", NodeId("n1")).overlaid()
    assert again is not None
    assert again.replication_password == SECRET
    file.write_text("{ broken")
    assert herd.book(tmp_path / "n1", NodeId("n1")).overlaid() is None


def test_a_wrong_answer_is_not_believed(herd):
    async def story():
        herd.facts = NAMED
        herd.books["n2"]._known = {fingerprint(SECRET): "another"}
        await herd.books["n3"].give(msgspec.msgpack.encode(SECRET))
        await until_used(herd, "n1")

    asyncio.run(story())
    assert herd.servers["n1"].settings.replication_password == SECRET


def test_what_is_in_use_is_kept_however_many_come_after(herd, tmp_path):
    async def story():
        await herd.books["n1"].give(msgspec.msgpack.encode(SECRET))
        herd.facts = NAMED
        for number in range(30):
            await herd.books["n1"].give(msgspec.msgpack.encode(f"given up {number}"))
        await until_used(herd, "n1")

    asyncio.run(story())
    kept = msgspec.json.decode((tmp_path / "n1" / FILE).read_bytes(), type=dict[str, str])
    assert SECRET in kept.values()
    assert len(kept) == IDLE_MAX + 2


def rotation(herd, submitted, *, is_private=True):
    async def submit(command):
        submitted.append(command)

    return Rotation(
        me=NodeId("n1"),
        facts=lambda: herd.facts,
        book=herd.books["n1"],
        ask=herd.ask,
        submit=submit,
        is_private=is_private,
    )


def test_all_members_have_a_secret_before_the_ledger_names_it(herd):
    """Only its fingerprint goes through consensus; who is down keeps it from beginning."""
    submitted: list[RotatePassword] = []
    wish = {"secret": "", "overlap_ms": 5, "author": "ann"}

    async def story():
        herd.down = {"n3"}
        with pytest.raises(OperatorError, match="n3 did not take") as refusal:
            await rotation(herd, submitted).begin(Which.REPLICATION, **wish)
        assert "start n3" in refusal.value.hint
        with pytest.raises(OperatorError, match="TLS"):
            await rotation(herd, submitted, is_private=False).begin(Which.REWIND, **wish)
        assert not submitted
        herd.down = set()
        await rotation(herd, submitted).begin(Which.REPLICATION, **wish)
        [command] = submitted
        body = msgspec.msgpack.encode(command.fingerprint)
        told = {await herd.ask(name, ASK_SECRET, body, timeout_s=1) for name in NAMES}
        [secret] = [msgspec.msgpack.decode(one, type=str) for one in told]
        assert fingerprint(secret) == command.fingerprint
        assert (command.expected, command.overlap_ms) == (0, 5)
        assert len(secret) > 40

    asyncio.run(story())
