"""Proves that a client in a lane sees what it would see at a server of its own.

A model of a server that knows statements is talked to directly, and through lanes by clients that
share two of them; hypothesis makes up what they say, where bytes are cut and who gets which server.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgherd.wire import query
from pgherd.wire.guard import Guard
from pgherd.wire.lane import NAMES_MAX, TEXT_BYTES_MAX, Lane, Moments, message
from pgherd.wire.shelf import SHELF_MAX, Shelf, salt_of, statement
from pgherd.wire.startup import ProtocolViolation

READY = message(b"Z", b"I")
DESCRIBED = message(b"t", b"\0\0") + message(b"n", b"")


class Server:
    """Statements of one server process, as the protocol has them. Texts with `bad` fail.

    is_own: as a lane has it. A statement without a name that was to be replaced or closed in a
    batch after an error is gone: PostgreSQL skips that, but who uses it finds none, not another.
    """

    def __init__(self, *, is_own: bool = False) -> None:
        self._is_own = is_own
        self.known: dict[bytes, bytes] = {}
        self.portal: bytes | None = None
        self.skips = False
        self.shelf = Shelf()

    def answer(self, data: bytes) -> bytes:
        """What it says to these messages."""
        said = b""
        while data:
            kind, length = data[:1], int.from_bytes(data[1:5], "big")
            said += self._message(kind, data[5 : 1 + length])
            data = data[1 + length :]
        return said

    def _message(self, kind: bytes, body: bytes) -> bytes:
        if kind == b"S":
            self.skips, self.portal = False, None
            return READY
        is_unnamed = (kind == b"P" and body[:1] == b"\0") or (kind == b"C" and body == b"S\0")
        if is_unnamed and (self._is_own or not self.skips):
            self.known.pop(b"", None)
        if self.skips:
            return b""
        try:
            return self._done(kind, body)
        except LookupError as error:
            self.skips = kind != b"Q"
            failed = message(b"E", b"SERROR\0C%b\0\0" % str(error.args[0]).encode())
            return failed + (READY if kind == b"Q" else b"")

    def _done(self, kind: bytes, body: bytes) -> bytes:
        name, _, rest = body.partition(b"\0")
        match kind:
            case b"P":
                if name and name in self.known:
                    raise LookupError("42P05")
                if b"bad" in rest:
                    raise LookupError("42601")
                self.known[name] = rest
                return message(b"1", b"")
            case b"B":
                self.portal = self._known(rest.partition(b"\0")[0])
                return message(b"2", b"")
            case b"D":
                return DESCRIBED if self._known(name[1:]) else b""
            case b"E":
                if self.portal is None:
                    raise LookupError("34000")
                return self._ran(self.portal.partition(b"\0")[0])
            case b"C":
                self.known.pop(name[1:], None)
                return message(b"3", b"")
            case b"Q":
                self.known.pop(b"", None)
                return self._ran(name) + READY
            case _:
                return b""

    def _ran(self, text: bytes) -> bytes:
        verb, _, name = text.partition(b" ")
        if verb == b"DEALLOCATE" and name == b"ALL":
            self.known = {one: rest for one, rest in self.known.items() if not one}
            return message(b"C", b"DEALLOCATE ALL\0")
        if verb == b"DEALLOCATE":
            self._known(name)
            del self.known[name]
            return message(b"C", b"DEALLOCATE\0")
        return message(b"D", text) + message(b"C", b"SELECT 1\0")

    def _known(self, name: bytes) -> bytes:
        if name not in self.known:
            raise LookupError("26000")
        return self.known[name]


class Client:
    """One in a lane, and the server that it would have had."""

    def __init__(self, moments: Moments) -> None:
        self.lane = Lane({"TimeZone": "UTC"}, moments)
        self.guard = Guard(has_floor=False, whole_bytes=TEXT_BYTES_MAX)
        self.own = Server(is_own=True)
        self.at: Server | None = None

    def say(self, words: bytes, servers: list[Server], sizes: list[int]) -> None:
        """Say it to a server that is free, and compare what comes back."""
        if self.at is None:
            self.at = servers.pop()
            self.lane.borrow(self.at.shelf, {})
        said = b"".join(self.lane.speak(self.guard.client(one)) for one in cut(words, sizes))
        answer = self.at.answer(said)
        heard = b"".join(self.lane.hear(one) for one in cut(answer, sizes))
        assert heard == self.own.answer(words)
        if self.lane.is_idle:
            assert not self.lane.reasons
            servers.append(self.at)
            self.at = None


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """In pieces of these sizes, and then a last one."""
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


def parse(name: bytes, text: bytes) -> bytes:
    return message(b"P", name + b"\0" + text + b"\0\0\0")


def bind(name: bytes) -> bytes:
    return message(b"B", b"\0" + name + b"\0" + bytes(6))


def execute() -> bytes:
    return message(b"E", b"\0" + bytes(4))


def run(name: bytes) -> bytes:
    return bind(name) + execute()


def close(name: bytes) -> bytes:
    return message(b"C", b"S" + name + b"\0")


NAMES = st.sampled_from([b"", b"a", b"b"])
TEXTS = st.sampled_from([b"x", b"y", b"z", b"bad"])
WORDS = st.one_of(
    st.builds(parse, NAMES, TEXTS),
    st.builds(run, NAMES),
    st.builds(lambda name: message(b"D", b"S" + name + b"\0"), NAMES),
    st.builds(close, NAMES),
    st.builds(lambda name: parse(b"", b"DEALLOCATE " + name) + run(b""), st.just(b"a")),
)
BATCHES = st.builds(lambda words: b"".join(words) + query.SYNC, st.lists(WORDS, max_size=5))
SIMPLE = st.sampled_from(["x", "DEALLOCATE a", "DEALLOCATE b", "DEALLOCATE ALL"]).map(query.simple)
TURNS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.one_of(BATCHES, BATCHES, SIMPLE),
        st.lists(st.integers(0, 9), max_size=4),
        st.booleans(),
    ),
    max_size=25,
)


@settings(max_examples=400, deadline=None)
@given(TURNS)
def test_clients_that_share_servers_see_what_they_would_see_alone(turns: list) -> None:
    moments, servers = Moments(), [Server(), Server()]
    clients = [Client(moments) for _ in range(3)]
    for who, words, sizes, turned in turns:
        if turned:
            servers.reverse()
        if clients[who].at is None and not servers:
            continue
        clients[who].say(words, servers, sizes)


def test_nobody_runs_what_another_one_prepared_without_a_name_before_a_deallocate() -> None:
    """Hypothesis found it: DEALLOCATE becomes a Close, which leaves that statement where it is."""
    moments, servers = Moments(), [Server()]
    one, other = Client(moments), Client(moments)
    one.say(parse(b"", b"x") + parse(b"a", b"x") + query.SYNC, servers, [])
    one.say(query.simple("DEALLOCATE a"), servers, [])
    other.say(run(b"") + query.SYNC, servers, [])
    one.say(run(b"") + query.SYNC, servers, [])


def test_a_deallocate_that_was_prepared_before_takes_away_what_there_is_then() -> None:
    """Hypothesis found this as well: with a Describe before its Bind, and again."""
    one, servers = Client(Moments()), [Server()]
    one.say(parse(b"", b"DEALLOCATE a") + query.SYNC, servers, [])
    described = message(b"D", b"S\0")
    for words in (run(b""), parse(b"a", b"x") + described + run(b""), run(b""), run(b"a")):
        one.say(words + query.SYNC, servers, [])


class Talk:
    """One client at servers of the test's choice."""

    def __init__(self) -> None:
        self.client = Client(Moments())

    def at(self, server: Server, words: bytes) -> bytes:
        """What a server was told."""
        lane = self.client.lane
        lane.borrow(server.shelf, {})
        said = lane.speak(words)
        heard = lane.hear(server.answer(said))
        assert heard == self.client.own.answer(words)
        return said


def test_nothing_is_added_that_is_not_needed() -> None:
    """A statement is prepared once on each server; what names none passes as it is."""
    talk, one, two = Talk(), Server(), Server()
    talk.at(one, parse(b"a", b"x") + query.SYNC)
    assert talk.at(one, run(b"a") + query.SYNC).count(b"P\0\0") == 0
    assert talk.at(two, run(b"a") + query.SYNC)[:1] == b"P"
    assert talk.at(two, run(b"a") + query.SYNC)[:1] == b"B"
    assert one.known.keys() == two.known.keys()
    for words in (query.simple("x"), parse(b"", b"y") + run(b"") + query.SYNC, query.SYNC):
        assert talk.at(one, words) == words


def test_a_statement_is_never_older_than_its_clients_own_preparation() -> None:
    """Else DDL between the two would show: what another client prepared before is made anew."""
    moments, one, two = Moments(), Server(), Server()
    first, second = Client(moments), Client(moments)

    def told(client: Client, server: Server, words: bytes) -> bytes:
        client.lane.borrow(server.shelf, {})
        said = client.lane.speak(words)
        client.lane.hear(server.answer(said))
        return said[:1]

    assert told(first, one, parse(b"a", b"x") + query.SYNC) == b"P"
    assert told(second, two, parse(b"mine", b"x") + query.SYNC) == b"P"
    assert told(second, one, run(b"mine") + query.SYNC) == b"C", "and then P"
    assert told(second, one, run(b"mine") + query.SYNC) == b"B"
    assert told(first, one, run(b"a") + query.SYNC) == b"B"
    assert told(first, two, run(b"a") + query.SYNC) == b"B", "what is newer will do"
    assert told(first, two, parse(b"b", b"x") + query.SYNC) == b"C", "a Parse is a real one"


def test_servers_keep_no_more_than_a_shelf_holds() -> None:
    talk, server = Talk(), Server()
    for number in range(SHELF_MAX + 50):
        talk.at(server, parse(b"n%d" % number, b"x%d" % number) + query.SYNC)
    assert len(server.known) == SHELF_MAX
    talk.at(server, run(b"n0") + query.SYNC)
    assert len(server.known) == SHELF_MAX


def test_a_client_may_prepare_much_but_not_all() -> None:
    lane = Lane({}, Moments())
    for number in range(NAMES_MAX):
        lane.speak(parse(b"n%d" % number, b"x") + query.SYNC)
    with pytest.raises(ProtocolViolation, match="too much"):
        lane.speak(parse(b"more", b"x"))


def test_statements_mean_the_same_under_the_same_settings_only() -> None:
    """A constant may be read by DateStyle and TimeZone; the application's name is nothing to it."""
    told = {"TimeZone": "UTC", "DateStyle": "ISO, MDY", "application_name": "a"}
    salt = salt_of(told)
    assert salt_of({**told, "application_name": "b", "in_hot_standby": "on"}) == salt
    assert salt_of({**told, "DateStyle": "ISO, DMY"}) != salt
    one, same = statement(b"x\0\0\0", salt), statement(b"x\0\0\0", salt)
    assert one is same
    assert statement(b"x\0\0\0", b"").name != one.name
    assert statement(b"x\0\0\1", salt).name != one.name


def test_what_was_reset_goes_back_to_what_the_client_had_asked_for() -> None:
    """It is told of its own value, and the server's is known until it is made that again."""
    lane = Lane({"TimeZone": "Asia/Tokyo", "DateStyle": "ISO"}, Moments(), ["TimeZone"])
    lane.borrow(Shelf(), {"TimeZone": "UTC", "DateStyle": "ISO"})
    lane.speak(query.simple("SET TimeZone TO 'America/Lima'"))
    lane.hear(message(b"C", b"SET\0") + message(b"S", b"TimeZone\0America/Lima\0") + READY)
    assert (lane.owed, lane.is_clean) == ({}, True)
    lane.speak(query.simple("RESET ALL"))
    heard = lane.hear(message(b"C", b"RESET\0") + message(b"S", b"TimeZone\0UTC\0") + READY)
    assert b"TimeZone\0Asia/Tokyo\0" in heard
    assert lane.owed == {"TimeZone": "UTC"}
    assert lane.settings["TimeZone"] == "Asia/Tokyo"
    assert lane.settings_there == {"TimeZone": "UTC", "DateStyle": "ISO"}


def test_what_is_longer_passes_in_pieces_under_a_name_of_its_own() -> None:
    """It is not looked through, so that its session keeps the server; COPY data is not held up."""
    guard, lane = Guard(has_floor=False, whole_bytes=TEXT_BYTES_MAX), Lane({}, Moments())
    text = b"SELECT 1" + b" " * (TEXT_BYTES_MAX + 10)
    words = parse(b"long", text) + run(b"long") + query.SYNC
    said = b"".join(lane.speak(guard.client(one)) for one in cut(words, [3, 20, 9000, 70000]))
    server = Server()
    heard = lane.hear(server.answer(said))
    assert heard[:5] == message(b"1", b"")
    assert heard.endswith(READY)
    assert [name[:12] for name in server.known] == [b"pgherd_long_"]
    assert not lane.is_clean
    data = message(b"d", b"x" * 100)
    assert lane.speak(guard.client(data[:20])) == data[:20]
    assert not lane.client_at_boundary
    assert lane.speak(guard.client(data[20:])) == data[20:]
    assert lane.client_at_boundary


@pytest.mark.parametrize("body", [b"S", b"Sname"])
def test_what_is_no_message_is_said(body: bytes) -> None:
    lane = Lane({}, Moments())
    with pytest.raises(ProtocolViolation, match="without an end"):
        lane.speak(message(b"D", body))
    with pytest.raises(ProtocolViolation, match="a message of 2 bytes"):
        lane.speak(b"Q\0\0\0\2")
    with pytest.raises(ProtocolViolation, match="a message of 3 bytes"):
        lane.hear(b"Z\0\0\0\3I")
