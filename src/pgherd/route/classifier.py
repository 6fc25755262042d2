"""Everything that was learnt of statements, for one process: texts to shapes, shapes to verdicts.

Owns what is remembered and how much. A text is parsed when no text that differs in its literals
alone was parsed before (`lexis`); what it comes to in its database is remembered until what is
known of that database changes, and for `VERDICT_MS` at most, so that names in use are asked about
again.

Pure: the parser, the secret of the keys and the time are given.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from pgherd.model.ids import Instant
from pgherd.route.lexis import Hint, exact_key_of, hint_in, key_of
from pgherd.route.shape import shape_of
from pgherd.route.statement import Kind, Parse, Shape, Tree, Unparsed, Verdict
from pgherd.route.vocabulary import REFRESH_MS, Vocabulary

TEXT_BYTES_MAX = 16 * 1024
"""A longer text is for the primary: to parse it would keep other sessions waiting."""

SHAPES_MAX = 20_000
TEXTS_MAX = 5_000
SHORT_BYTES_MAX = 1024
"""Texts up to this length are found by themselves, without a look at their literals."""

K = TypeVar("K")
V = TypeVar("V")

VERDICT_MS = REFRESH_MS // 2
REFUSED_MS = 600_000

LONG = Shape(Kind.DOUBT, f"a text of more than {TEXT_BYTES_MAX} bytes", changes=True)
FOREIGN = Shape(Kind.DOUBT, "letters that are not UTF-8", changes=True)
BACKSLASH = Shape(Kind.DOUBT, "a backslash without standard_conforming_strings", changes=True)


class Dialect(msgspec.Struct, frozen=True):
    """How a session's server reads texts, as it reported it."""

    is_utf8: bool = True
    is_standard: bool = True


DIALECT = Dialect()


class Seen(msgspec.Struct, frozen=True):
    """A text that was looked at. key: what its verdicts are remembered by · hint: in a comment."""

    key: bytes
    shape: Shape
    hint: Hint = Hint.NONE


class Classifier:
    """See the module's text."""

    def __init__(self, parse: Parse, secret: bytes) -> None:
        self._parse = parse
        self._secret = secret
        self._texts: dict[bytes, Seen] = {}
        self._seen: dict[bytes, Seen] = {}
        self._verdicts: dict[tuple[str, bytes], tuple[Verdict, int, Instant]] = {}
        self.vocabularies: dict[str, Vocabulary] = {}
        self._refused: dict[tuple[str, bytes], Instant] = {}
        self._refusals = 0
        self.parsed = 0

    def look(self, text: bytes, dialect: Dialect = DIALECT) -> Seen:
        """What a text is by itself."""
        if (found := self._texts.get(text)) is not None and dialect == DIALECT:
            return found
        if len(text) > TEXT_BYTES_MAX:
            return Seen(b"long", LONG, hint_in(text))
        if not dialect.is_utf8 and not text.isascii():
            return Seen(b"foreign", FOREIGN)
        if not dialect.is_standard and b"\\" in text:
            return Seen(b"backslash", BACKSLASH)
        key = key_of(text, self._secret)
        found = self._seen.get(key)
        if found is None:
            found = self._look_anew(text, key)
        if len(text) <= SHORT_BYTES_MAX:
            _put(self._texts, text, found, TEXTS_MAX)
        return found

    def judge(self, seen: Seen, database: str, now: Instant) -> Verdict:
        """What it comes to in a database."""
        vocabulary = self.vocabulary(database)
        if self._refused and now < self._refused.get((database, seen.key), 0):
            return Verdict(Kind.DOUBT, "a replica refused it before")
        held = self._verdicts.get((database, seen.key))
        if held is not None and held[1] == vocabulary.generation and now < held[2]:
            return held[0]
        verdict = vocabulary.judge(seen.shape, now)
        if seen.key[:1] in b"sx" and verdict.is_final:
            until = Instant(now + VERDICT_MS)
            kept = verdict, vocabulary.generation, until
            _put(self._verdicts, (database, seen.key), kept, SHAPES_MAX)
        return verdict

    def stamp(self, database: str, now: Instant) -> tuple[int, ...]:
        """Another one whenever a verdict in a database may be another one, or is to be asked for
        again."""
        return self.vocabulary(database).generation, self._refusals, now // VERDICT_MS

    def refused(self, seen: Seen, database: str, now: Instant) -> None:
        """A replica did not take what was taken for a read: such statements are for the primary."""
        self._refusals += 1
        _put(self._refused, (database, seen.key), Instant(now + REFUSED_MS), TEXTS_MAX)

    def vocabulary(self, database: str) -> Vocabulary:
        """What is known of a database's names."""
        found = self.vocabularies.get(database)
        if found is None:
            found = self.vocabularies[database] = Vocabulary(self._definition)
        return found

    def _look_anew(self, text: bytes, key: bytes) -> Seen:
        self.parsed += 1
        tree = self._tree(text)
        if isinstance(tree, Unparsed):
            # What the grammar refuses may differ from what it takes by a literal alone.
            key = exact_key_of(text, self._secret)
        seen = Seen(key, shape_of(tree), hint_in(text))
        _put(self._seen, key, seen, SHAPES_MAX)
        return seen

    def _definition(self, text: str) -> Shape:
        return shape_of(self._parse(text))

    def _tree(self, text: bytes) -> Tree | Unparsed:
        try:
            return self._parse(text.decode())
        except UnicodeDecodeError:
            return Unparsed("it is not UTF-8")


def _put(held: dict[K, V], key: K, value: V, most: int) -> None:
    """Keep something; the oldest of too many make room."""
    if len(held) >= most:
        for old in list(held)[: most // 4]:
            del held[old]
    held[key] = value
