"""What is asked about names, how long the answers are believed, and what they come to."""

from __future__ import annotations

from pgherd.model.ids import Instant
from pgherd.relay.parsing import parse
from pgherd.route.classifier import VERDICT_MS, Classifier, Dialect
from pgherd.route.meanings import Function, Meanings, Names, Relation
from pgherd.route.statement import Kind, Verdict
from pgherd.route.vocabulary import AGAIN_MS, ANSWER_MS, BELIEVED_MS, REFRESH_MS, Vocabulary

FUNCTIONS = {"f": Function(False), "v": Function(True), "row": Function(True, True)}
OPERATORS = {"+": False, "!!!": True}
RELATIONS = {
    "t": Relation(),
    "secret": Relation(("SELECT (v() > 0)",)),
    "view": Relation(("SELECT f() FROM t;",)),
    "deep": Relation(("SELECT * FROM loud",)),
    "loud": Relation(("SELECT v()",)),
    "next": Relation(("SELECT nextval('s')",)),
    "gone": Relation(why="is unlogged"),
    "one": Relation(("SELECT * FROM other",)),
    "other": Relation(("SELECT * FROM one",)),
}


def answer(names: Names, doubt: str = "") -> Meanings:
    return Meanings(names, FUNCTIONS, OPERATORS, RELATIONS, doubt)


class Home:
    """A classifier with a database that answers."""

    def __init__(self) -> None:
        self.classifier = Classifier(parse, b"secret")
        self.vocabulary: Vocabulary = self.classifier.vocabulary("app")
        self.now = Instant(1000)

    def once(self, text: str, database: str = "app") -> Verdict:
        return self.classifier.judge(self.classifier.look(text.encode()), database, self.now)

    def judged(self, text: str) -> Verdict:
        verdict = self.once(text)
        while names := self.vocabulary.question(self.now):
            self.vocabulary.told(answer(names), self.now)
            verdict = self.once(text)
        return verdict


def test_an_unknown_name_is_for_the_primary_until_it_was_asked_about():
    home = Home()
    assert home.once("SELECT f(1) FROM t") == Verdict(
        Kind.DOUBT, "f() is not known yet", is_final=False
    )
    names = home.vocabulary.question(home.now)
    assert names == Names(frozenset({"f"}), frozenset(), frozenset({"t"}))
    assert home.vocabulary.question(home.now) is None  # one at a time
    home.vocabulary.told(answer(names), home.now)
    assert home.once("SELECT f(1) FROM t").kind is Kind.READ
    assert home.vocabulary.question(home.now) is None
    assert home.once("SELECT f(1) FROM t", "elsewhere").kind is Kind.DOUBT


def test_what_names_come_to():
    home = Home()
    expected = {
        "SELECT 1": (Kind.READ, "a read"),
        "SELECT f(1) + 1 FROM t, view": (Kind.READ, "a read"),
        "SELECT v()": (Kind.DOUBT, "v() is volatile"),
        "SELECT 1 !!! 2": (Kind.DOUBT, "operator !!! is volatile"),
        "SELECT t.row FROM t": (Kind.DOUBT, "column row may be a call of row(), which is volatile"),
        "SELECT t.v FROM t": (Kind.READ, "a read"),
        "SELECT t.f, t.unheard FROM t": (Kind.READ, "a read"),
        "SELECT * FROM deep": (Kind.DOUBT, "loud: v() is volatile"),
        "SELECT * FROM secret": (Kind.DOUBT, "secret: v() is volatile"),
        "SELECT * FROM gone": (Kind.DOUBT, "gone is unlogged"),
        "SELECT v() FROM next": (
            Kind.WRITE,
            "next: nextval() writes, or keeps something in its session",
        ),
        "SELECT unheard()": (Kind.DOUBT, "there is no function unheard()"),
        "SELECT 1 ### 2": (Kind.DOUBT, "there is no operator ###"),
        "SELECT * FROM unheard": (Kind.DOUBT, "unheard is no relation that all sessions see"),
        "SELECT * FROM one": (Kind.READ, "a read"),
    }
    for text, (kind, why) in expected.items():
        assert home.judged(text) == Verdict(kind, why), text


def test_names_in_use_are_asked_again_and_not_believed_for_ever():
    home = Home()
    assert home.judged("SELECT f()").kind is Kind.READ
    home.now = Instant(home.now + REFRESH_MS)
    assert home.once("SELECT f()").kind is Kind.READ
    assert home.vocabulary.question(home.now) is None
    home.now = Instant(home.now + VERDICT_MS)
    assert home.once("SELECT f()").kind is Kind.READ
    assert home.vocabulary.question(home.now) is not None
    home.vocabulary.failed(home.now)
    assert home.vocabulary.question(home.now) is None
    home.now = Instant(home.now + AGAIN_MS)
    assert home.vocabulary.question(home.now) is not None
    home.now = Instant(home.now + BELIEVED_MS)
    assert home.once("SELECT f()").why == "f() is not known yet"
    assert home.vocabulary.question(home.now) is not None  # the last one has no answer any more


def test_an_answer_from_before_a_change_counts_for_nothing():
    home = Home()
    home.once("SELECT f()")
    names = home.vocabulary.question(home.now)
    assert names is not None
    home.vocabulary.forget()
    home.vocabulary.told(answer(names), home.now)
    assert home.once("SELECT f()").is_final is False
    assert home.judged("SELECT f()").kind is Kind.READ
    home.vocabulary.forget()
    assert home.once("SELECT f()").is_final is False


def test_an_answer_that_never_comes_is_given_up():
    home = Home()
    home.once("SELECT f()")
    assert home.vocabulary.question(home.now) is not None
    home.now = Instant(home.now + ANSWER_MS)
    assert home.vocabulary.question(home.now) is not None


def test_a_database_can_be_doubtful_as_a_whole():
    home = Home()
    home.once("SELECT f()")
    names = home.vocabulary.question(home.now)
    assert names is not None
    home.vocabulary.told(answer(names, "a cast is volatile"), home.now)
    assert home.once("SELECT f()") == Verdict(Kind.DOUBT, "a cast is volatile")
    assert home.once("SELECT 1") == Verdict(Kind.DOUBT, "a cast is volatile")


def test_statements_that_differ_in_literals_are_parsed_once():
    home = Home()
    for i in range(50):
        home.judged(f"SELECT f(1) FROM t WHERE a = {i} AND b = 'x{i}'")
    assert home.classifier.parsed == 1
    home.judged("SELECT f(1) FROM t WHERE a = 1 AND b = 'x' -- by whole text")
    assert home.classifier.parsed == 2


def test_a_text_that_is_refused_speaks_for_no_other():
    """One whose literals make the grammar refuse it, before and after one that it takes."""
    home = Home()
    assert home.judged("SELECT 1::float(99)").kind is Kind.DOUBT
    assert home.judged("SELECT 1::float(24)").kind is Kind.READ
    assert home.judged("SELECT 1::float(98)").kind is Kind.DOUBT


def test_what_cannot_be_read_surely_is_for_the_primary():
    look = home_look = Home().classifier.look
    assert look(b"SELECT '" + b"x" * 20_000 + b"'").shape.kind is Kind.DOUBT
    assert look("SELECT 'é'".encode("latin-1"), Dialect(is_utf8=False)).shape.kind is Kind.DOUBT
    assert look(b"SELECT '\xff'").shape.kind is Kind.DOUBT
    assert look(b"SELECT 'a\\'", Dialect(is_standard=False)).shape.kind is Kind.DOUBT
    assert look(b"SELECT 'a\\'").shape.kind is Kind.READ
    assert home_look(b"SELECT 'a'", Dialect(is_utf8=False, is_standard=False)).shape.kind is (
        Kind.READ
    )
