"""Where one session's cycles go, and what it can ask the proxy for."""

from __future__ import annotations

import pytest

from pgherd.model.ids import Lsn, Term
from pgherd.relay.parsing import parse
from pgherd.route.choose import Route
from pgherd.route.classifier import Classifier, Seen
from pgherd.route.mark import Mark, ReadYourWrites, parse_mark
from pgherd.route.statement import Kind, Verdict
from pgherd.route.steering import Decision, Steering
from pgherd.route.wishes import Wish, wish_in
from pgherd.wire.cycles import first_cycle
from pgherd.wire.query import Answers, ServerError, prepare, run, simple

IDLE = ord("I")


class Client:
    """A session whose database knows everything: what a text is, it is."""

    def __init__(self, mode: ReadYourWrites = ReadYourWrites.OFF) -> None:
        self.steering = Steering(mode)
        self._classifier = Classifier(parse, b"secret")

    def decided(self, said: bytes) -> Decision:
        def judge(seen: Seen) -> Verdict:
            return Verdict(seen.shape.kind, seen.shape.why or "a read")

        return self.steering.decide(first_cycle(said), self._classifier.look, judge)

    def goes(self, *texts: str) -> Route:
        """Where a batch of these goes, each with a name of its own."""
        said = b"".join(prepare(str(n), text) for n, text in enumerate(texts))
        return self.decided(said + run("0", [])).route

    def told(self, text: str, status: int = IDLE) -> list[tuple[object, ...]] | str | None:
        """The rows that the proxy answers itself; its error; None: it is for a server."""
        answer = self.steering.answered(first_cycle(simple(text)), status)
        if answer is None:
            return None
        assert answer[-1] == status
        answers = Answers()
        assert answers.feed(answer)
        try:
            return answers.take()
        except ServerError as error:
            return error.sqlstate


def test_a_cycle_is_what_the_worst_of_its_statements_is():
    client = Client()
    assert client.decided(simple("SELECT 1")).route is Route.REPLICA
    assert client.decided(simple("INSERT INTO t VALUES (1)")).route is Route.PRIMARY
    assert client.goes("SELECT 1", "SELECT 2") is Route.REPLICA
    other = Client()
    assert other.goes("SELECT 1", "DELETE FROM t") is Route.PRIMARY
    assert other.decided(b"S\0\0\0\x04").route is Route.PRIMARY


def test_a_prepared_statement_is_known_by_its_name():
    client = Client()
    client.decided(prepare("r", "SELECT 1") + prepare("w", "DELETE FROM t") + run("r", []))
    assert client.decided(run("r", [])).route is Route.REPLICA
    assert client.decided(run("w", [])).route is Route.PRIMARY
    assert client.decided(run("r", [])[:-5] + run("w", [])).route is Route.PRIMARY
    assert client.decided(run("unheard", [])).route is Route.PRIMARY
    # The server refuses a name that is there, and goes on meaning the first: neither is believed.
    client.decided(prepare("w", "SELECT 1") + run("w", []))
    assert client.decided(run("w", [])).route is Route.PRIMARY
    client.decided(b"C\0\0\0\x07Sr\0" + b"S\0\0\0\x04")
    assert client.decided(run("r", [])).route is Route.PRIMARY


def test_a_batch_without_its_end_is_for_the_primary():
    client = Client()
    client.steering.wish = Route.REPLICA
    assert client.decided(prepare("", "SELECT 1") + b"H\0\0\0\x04").route is Route.PRIMARY


def test_a_transaction_that_reads_begins_a_cycle_or_is_doubtful():
    client = Client()
    decision = client.decided(simple("BEGIN READ ONLY"))
    assert (decision.route, decision.is_reading) == (Route.REPLICA, True)
    assert client.goes("BEGIN READ ONLY", "SELECT 1") is Route.REPLICA
    assert Client().goes("BEGIN READ ONLY", "DELETE FROM t") is Route.PRIMARY
    assert Client().goes("SELECT 1", "BEGIN READ ONLY") is Route.PRIMARY
    assert client.decided(simple("/* pgherd: primary */ BEGIN READ ONLY")).is_reading is False


@pytest.mark.parametrize(
    ("wish", "text", "route"),
    [
        ("auto", "SELECT 1", Route.REPLICA),
        ("auto", "SHOW x", Route.PRIMARY),
        ("primary", "SELECT 1", Route.PRIMARY),
        ("primary", "SELECT 1 /* pgherd: replica */", Route.REPLICA),
        ("replica", "SHOW x", Route.REPLICA),
        ("replica", "SHOW x /* pgherd: primary */", Route.PRIMARY),
        ("replica", "DELETE FROM t", Route.PRIMARY),
        ("replica", "SELECT nextval('s') /* pgherd: replica */", Route.PRIMARY),
        ("replica", "BEGIN", Route.PRIMARY),
    ],
)
def test_the_clients_word_comes_behind_what_is_known_to_write(wish, text, route):
    client = Client()
    assert client.told(f"SET pgherd.route = {wish}") == []
    assert client.decided(simple(text)).route is route


def test_what_is_for_the_proxy_is_answered_in_its_place():
    client = Client(ReadYourWrites.TOKEN)
    assert client.told("SHOW pgherd.route") == [("auto", "", "", "")]
    assert client.told("SET pgherd.trace TO 'on'", ord("T")) == []
    assert client.told("show PGHERD.TRACE;") == [("on",)]
    assert client.told("SET pgherd.min_lsn = '3:1/A0'") == []
    assert client.steering.needed == Mark(Term(3), Lsn(0x1000000A0))
    assert client.told("SHOW pgherd.lsn_token") == [("3:1/A0",)]
    assert client.told("RESET pgherd.min_lsn") == []
    assert client.steering.needed is None
    assert client.told("SELECT 'SHOW pgherd.route'") is None
    assert client.told("SHOW pgherd.route; SELECT 1") is None
    assert client.told("SHOW work_mem") is None
    assert client.told("SET pgherd.route = 'x'") == "22023"
    batch = prepare("p", "SHOW pgherd.route") + run("p", [])
    answer = client.steering.answered(first_cycle(batch), IDLE)
    assert answer is not None
    assert answer[:10] == b"1\0\0\0\x042\0\0\0\x04"
    again = client.steering.answered(first_cycle(run("p", [])), IDLE)
    assert again == answer[5:]
    mixed = prepare("p", "SELECT 1") + run("p", [])
    assert client.steering.answered(first_cycle(mixed), IDLE) is None
    assert client.steering.answered(first_cycle(run("p", [])), IDLE) is None


def test_marks_are_of_one_term():
    session = Steering(ReadYourWrites.SESSION)
    session.wrote(Mark(Term(2), Lsn(50)))
    assert session.needed == Mark(Term(2), Lsn(50))
    session.least = Mark(Term(2), Lsn(90))
    assert session.needed == Mark(Term(2), Lsn(90))
    session.wrote(Mark(Term(3), Lsn(10)))  # a smaller number, and further all the same
    assert session.needed == Mark(Term(3), Lsn(10))
    token = Steering(ReadYourWrites.TOKEN)
    token.wrote(Mark(Term(2), Lsn(50)))
    assert token.needed is None
    assert parse_mark(str(Mark(Term(7), Lsn(0x3000148)))) == Mark(Term(7), Lsn(0x3000148))
    assert [parse_mark(text) for text in ("", "7", "7:3", "7:0/", "-1:0/1", "7:0/123456789")] == [
        None
    ] * 6


@pytest.mark.parametrize(
    ("text", "wish"),
    [
        (b"SET pgherd.route = replica", Wish("set", "route", "replica")),
        (b" set SESSION pgherd.Route to 'Replica' ; ", Wish("set", "route", "Replica")),
        (b"SET LOCAL pgherd.route=auto", Wish("set", "route", "auto", is_local=True)),
        (b"SET pgherd.min_lsn = 7:0/30", Wish("set", "min_lsn", "7:0/30")),
        (b"SET pgherd.route TO DEFAULT", Wish("set", "route", "")),
        (b"SET pgherd.route TO 'default'", Wish("set", "route", "default")),
        (b"RESET pgherd.route", Wish("set", "route")),
        (b"SHOW pgherd.route", Wish("show", "route")),
        (b"SHOW pgherd.route = 1", None),
        (b"SET pgherd.route", None),
        (b"SET search_path = 'pgherd.route'", None),
        (b"SET pgherd.route = 'a''b'", None),
        (b"SET pgherd.route = replica; DELETE FROM t", None),
    ],
)
def test_wishes_are_whole_statements(text, wish):
    assert wish_in(text) == wish


def test_kinds_are_ordered_by_what_they_ask_of_a_server():
    assert Client().decided(simple("SELECT 1; DELETE FROM t")).kind is Kind.WRITE
    assert Client().decided(simple("SELECT 1; SELECT 2")).kind is Kind.DOUBT
