"""Attack a `Shuttle` for a while: `python hostile_shuttle.py EXTENSION SEED CYCLES`.

A process of its own, so that it can run under a sanitizer with an extension that was built for it.
Clients say statements, in pieces and in batches, some of them strange; servers answer each with
what is in it, in pieces too, with long rows, errors, notices and changed parameters; everybody may
leave at any moment, and everything is recalled at any moment. Ends with an assertion when a client
heard what was not its own answer, in its order, or when what it said or was owed is lost: what a
client heard and what the news hand over are, together, what it said and what servers answered.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import random
import socket
import sys
import time
from typing import Any

CLIENTS, SERVERS = 12, 4
NAME, OTHER, NUMBER, MOMENT = b"mine", b"pgherd_theirs", 7, 5
QUIET_S = 60.0
SYNC = b"S\0\0\0\4"
READS = 9
"""The domain of those that read from replicas."""

LATE = 1 << 4
"""Is a matter of time, and may not be seen."""


def load(path: str) -> Any:
    """The extension from that file, whatever its name."""
    loader = importlib.machinery.ExtensionFileLoader("_shuttle", path)
    spec = importlib.util.spec_from_loader("_shuttle", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def message(kind: bytes, body: bytes) -> bytes:
    return kind + (4 + len(body)).to_bytes(4, "big") + body


def answer(text: bytes) -> bytes:
    """What a server says to a statement: the same to the same one."""
    dice = random.Random(text)
    said = message(b"T", b"\0\1" + bytes(20))
    for _ in range(dice.choice((1, 1, 2, 30))):
        said += message(b"D", text + bytes(dice.choice((0, 3, 900, 70_000))))
    if dice.random() < 0.1:
        said += message(b"N", b"SNOTICE\0C00000\0Mhello\0\0")
    if dice.random() < 0.01:
        said += message(b"S", b"TimeZone\0UTC\0")
    if dice.random() < 0.01:
        said += message(b"N", b"SWARNING\0VWARNING\0C01000\0RSyncRepWaitForLSN\0\0")
    if dice.random() < 0.1:
        said += message(b"E", b"SERROR\0VERROR\0C22012\0M" + text + b"\0\0")
    if dice.random() < 0.005:
        said += message(b"E", b"SFATAL\0VFATAL\0C57P01\0\0")
    return said + message(b"C", b"SELECT 1\0")


class Server:
    """Plays PostgreSQL behind a socket. status: of its transaction."""

    def __init__(self) -> None:
        self.inner, self.sock = socket.socketpair()
        self.inner.setblocking(False)
        self.sock.setblocking(False)
        self.heard = b""
        self.owes = b""
        self.status = b"I"
        self.text = b""
        self.is_over = False

    def act(self, dice: random.Random) -> None:
        if self.is_over:
            return
        try:
            self.heard += self.sock.recv(1 << 20)
        except BlockingIOError:
            pass
        while len(self.heard) >= 5:
            length = 1 + int.from_bytes(self.heard[1:5], "big")
            if len(self.heard) < length:
                break
            one, self.heard = self.heard[:length], self.heard[length:]
            self._take(one[:1], one[5:])
        if self.owes:
            piece = self.owes[: dice.choice((1, 3, 7, 4000, 100_000))]
            try:
                self.owes = self.owes[self.sock.send(piece) :]
            except BlockingIOError:
                pass

    def _take(self, kind: bytes, body: bytes) -> None:
        if kind == b"Q":
            text = body[:-1]
            self.status = {b"BEGIN": b"T", b"COMMIT": b"I"}.get(text, self.status)
            self.owes += answer(text) + message(b"Z", self.status)
        elif kind == b"P":
            self.text = body.split(b"\0")[1]
            self.owes += message(b"1", b"")
        elif kind == b"B":
            name, value = body.split(b"\0")[1], body.rsplit(b"=", 1)[-1]
            assert name in (b"", OTHER), f"a server hears of {name!r}"
            self.text = self.text if not name else b"named " + value
            self.owes += message(b"2", b"")
        elif kind == b"E":
            self.owes += answer(self.text)
        elif kind == b"S":
            self.owes += message(b"Z", self.status)


class Client:
    """says: all of it · owed: the whole answer to it · heard: of that."""

    def __init__(self) -> None:
        self.inner, self.sock = socket.socketpair()
        self.inner.setblocking(False)
        self.sock.setblocking(False)
        self.said = self.unsaid = self.owed = self.heard = b""
        self.in_transaction = self.is_gone = False
        self.elsewhere: socket.socket | None = None
        self.reads = False
        self.count = 0

    def act(self, number: int, dice: random.Random) -> None:
        if self.is_gone:
            return
        if not self.unsaid and len(self.owed) - len(self.heard) < 100_000:
            self._say(number, dice)
        piece = self.unsaid[: dice.choice((1, 4, 30, 10_000))]
        try:
            sent = self.sock.send(piece)
            self.said, self.unsaid = self.said + piece[:sent], self.unsaid[sent:]
        except BlockingIOError:
            pass
        if dice.random() < 0.8:
            self.hear()

    def _say(self, number: int, dice: random.Random) -> None:
        self.count += 1
        mark = b"%d-%d" % (number, self.count)
        status = b"T" if self.in_transaction else b"I"
        match dice.choices(range(5), (5, 3, 3, 2, 0.15))[0]:
            case 0:
                text = b"SELECT '%s'" % mark
                self._owe(message(b"Q", text + b"\0"), answer(text), status)
            case 1:
                text = b"SELECT $1 /* %s */" % (mark if dice.random() < 0.2 else b"")
                said = message(b"P", b"\0" + text + b"\0\0\0") + message(b"B", b"\0\0" + bytes(6))
                told = message(b"1", b"") + message(b"2", b"") + answer(text)
                self._owe(said + message(b"E", bytes(5)) + SYNC, told, status)
            case 2:
                said = message(b"B", b"\0" + NAME + b"\0=" + mark) + message(b"E", bytes(5)) + SYNC
                self._owe(said, message(b"2", b"") + answer(b"named " + mark), status)
            case 3:
                text = b"COMMIT" if self.in_transaction else b"BEGIN"
                self.in_transaction = not self.in_transaction
                status = b"T" if self.in_transaction else b"I"
                self._owe(message(b"Q", text + b"\0"), answer(text), status)
            case _:
                strange = (
                    message(b"Q", b"LISTEN news\0"), message(b"B", b"\0stranger\0"), b"X\0\0\0\4",
                    message(b"Q", b"no end"), b"Q\0\0\0\1", message(b"d", b"data"), b"H\0\0\0\4",
                    message(b"Q", b"SELECT f('create temp table')\0"), message(b"P", b"x"),
                )  # fmt: skip
                self.unsaid += dice.choice(strange)

    def _owe(self, said: bytes, told: bytes, status: bytes) -> None:
        self.unsaid += said
        self.owed += told + message(b"Z", status)

    def hear(self) -> None:
        try:
            self.heard += self.sock.recv(1 << 20)
        except BlockingIOError:
            return
        assert self.owed.startswith(self.heard), "it heard what was not its answer"


class Attack:
    """Plays the process around a shuttle."""

    def __init__(self, path: str, seed: int) -> None:
        self.dice = random.Random(seed)
        self.shuttle = load(path).Shuttle((5, 50))
        self.pools = self.shuttle.pool(), self.shuttle.pool()
        self.clients: dict[int, Client] = {}
        self.servers: dict[int, Server] = {}
        self.parked: dict[int, Server] = {}
        self.numbers = self.cycles = self.whys = 0

    def run(self, cycles: int) -> None:
        deadline = time.monotonic() + QUIET_S
        while self.cycles < cycles:
            assert time.monotonic() < deadline, f"{self.cycles} of {cycles} cycles"
            self._fill()
            for number, client in list(self.clients.items()):
                client.act(number, self.dice)
            for server in [*self.servers.values(), *self.parked.values()]:
                server.act(self.dice)
            self._disturb()
            self.hear()

    def _fill(self) -> None:
        while len(self.clients) < CLIENTS:
            self.numbers += 1
            client = self.clients[self.numbers] = Client()
            pools = self.dice.choice((self.pools, self.pools[:1], self.pools[1:]))
            names = [(NAME, OTHER, NUMBER, MOMENT)]
            fd, settings = client.inner.fileno(), self.dice.choice((1, 1, 1, 2))
            domain = self.dice.choice((0, 0, READS))
            client.reads = bool(domain)
            assert self.shuttle.put_client(self.numbers, fd, pools, settings, domain, names)
        while len(self.servers) + len(self.parked) < SERVERS:
            self.numbers += 1
            self.parked[self.numbers] = Server()
        for number, server in list(self.parked.items()):
            if server.owes or server.status != b"I":
                continue
            self.servers[number] = self.parked.pop(number)
            shelf = [(NUMBER, self.dice.choice((MOMENT, MOMENT, MOMENT, 1)))]
            pool, fd = self.pools[number % 2], server.inner.fileno()
            settings = self.dice.choice((1, 1, 1, 2))
            assert self.shuttle.put_server(number, fd, pool, settings, shelf)

    def _disturb(self) -> None:
        some = self.dice.choice(list(self.clients))
        match self.dice.choices(range(9), (3, 1, 1, 1, 1, 3, 1, 0.5, 100))[0]:
            case 0:
                self.shuttle.recall(some)
            case 1:
                self.shuttle.recall_pool(self.dice.choice(self.pools))
            case 2:
                self.shuttle.share(self.dice.choice(self.pools), self.dice.randrange(3))
            case 3:
                self.shuttle.trim(self.dice.choice(self.pools), 0)
            case 4:
                self.shuttle.recall_server(self.dice.choice(list(self.servers) or [0]))
            case 5:
                self.shuttle.look(some)
                self.shuttle.counts(self.pools[0])
            case 6:
                self.clients[some].sock.close()
                self._forget(some)
            case 7 if self.servers:
                number = self.dice.choice(list(self.servers))
                self.servers[number].sock.shutdown(socket.SHUT_WR)
                self.servers[number].is_over = True

    def _forget(self, number: int) -> None:
        """Its other end is gone: what comes of it is not looked at."""
        client = self.clients[number]
        client.sock, client.elsewhere = socket.socketpair()
        client.sock.setblocking(False)
        client.owed = client.said = client.unsaid = client.heard = b""
        client.is_gone = True

    def hear(self) -> None:
        for kind, *what in self.shuttle.news():
            if kind == 0:
                self._handed(*what)
            elif kind == 1:
                number, _, why, left, rest, out = what
                server = self.servers.pop(number)
                assert not left
                assert not out
                assert not rest or why == 3
                self._park(number, server)
            elif kind == 3:
                number, said = what
                texts = [one for one in said.split(b"\0") if b"SELECT" in one or one[-5:] in MORE]
                for text in texts:
                    text = text[text.find(b"SELECT") :] if b"SELECT" in text else text
                    self._learn(text.split(b"\0")[0], True)
                for text in (b"BEGIN", b"COMMIT"):
                    self._learn(text, True)
                self._learn(b"LISTEN news", False)
                self.shuttle.answered(number, True)

    def _learn(self, text: bytes, is_plain: bool) -> None:
        for domain in (0, READS):
            self.shuttle.learn(domain, text, is_plain)

    def _park(self, number: int, server: Server) -> None:
        """An idle server may ride again, unless it has ended."""
        try:
            server.inner.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            self.parked[number] = server
            return
        server.inner.close()
        server.sock.close()

    def _handed(
        self, number: int, pool: int, why: int, server: int, status: int, is_running: bool,
        is_tried: bool, unnamed: bytes | None, is_other: bool, said: bytes, heard: bytes,
        kept: bytes, rest: bytes, client_out: bytes, server_out: bytes, left: int, simple: int,
        extended: int, waited_ms: int,
    ) -> None:  # fmt: skip
        client = self.clients.pop(number)
        self.cycles += simple + extended
        self.whys |= 1 << why
        assert pool in self.pools
        assert waited_ms >= 0
        assert is_running == bool(said)
        assert chr(status) in "ITE"
        told = b""
        if not client.is_gone:
            client.hear()
            told = client.heard + client_out
            assert client.owed.startswith(told), "what it is to hear is not its answer"
            unread = _left_in(client.inner)
            assert client.said.endswith(said + kept + unread), "what it said is not whole"
        if server:
            its = self.servers.pop(server)
            if is_running and not client.is_gone and not its.is_over:
                self._compare(client, its, told, rest, heard, left, is_tried)
            its.sock.close()
            its.inner.close()
        client.sock.close()
        client.inner.close()

    def _compare(
        self,
        client: Client,
        its: Server,
        told: bytes,
        rest: bytes,
        heard: bytes,
        left: int,
        is_tried: bool,
    ) -> None:
        """What the client did not hear is all on its way; `heard` is the rest of what it did."""
        if is_tried:
            assert client.reads
            assert not heard
        ahead = rest + _left_in(its.inner) + its.owes
        assert client.owed[len(told) :].startswith(ahead), "a piece of the answer is lost"
        for kind in (one for one in _messages(heard) if one[:1] in b"1CE3"):
            assert kind in told or len(kind) > 4000, "it was told of what the client did not hear"
        assert left <= len(client.owed) - len(told)


MORE = (b"BEGIN", b"OMMIT")


def _left_in(sock: socket.socket) -> bytes:
    found = b""
    while True:
        try:
            data = sock.recv(1 << 20)
        except (BlockingIOError, ConnectionError):
            return found
        if not data:
            return found
        found += data


def _messages(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        after = at + 1 + int.from_bytes(data[at + 1 : at + 5], "big")
        found.append(data[at:after])
        at = after
    assert at == len(data), "messages are whole"
    return found


def main(path: str, seed: int, cycles: int) -> None:
    attack = Attack(path, seed)
    attack.run(cycles)
    attack.shuttle.recall_pool(attack.pools[0])
    attack.shuttle.recall_pool(attack.pools[1])
    attack.hear()  # a recall is done when it returns
    assert not attack.clients
    assert not attack.servers
    for pool in attack.pools:
        attack.shuttle.drop_pool(pool)
    attack.shuttle.close()
    attack.shuttle.close()
    assert attack.whys | LATE == 0b111111, f"not all whys were seen: {attack.whys:b}"
    print(f"cycles={attack.cycles} clients={attack.numbers}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
