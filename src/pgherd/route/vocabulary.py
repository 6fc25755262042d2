"""What is known of one database's names, and what a statement comes to with it.

Theory of operation. Nothing is read in advance. A statement with a name that nobody asked about yet
is for the primary, and the name is noted; the next question to the primary's agent is about all the
names that were noted meanwhile, and from its answer on such statements are judged. A name that goes
on being used is asked about again after `REFRESH_MS`, and is believed for `BELIEVED_MS` without an
answer. Whoever sees that names may have got another meaning (DDL) calls `forget`: an answer to what
was asked before counts for nothing.

A view is what its definition is, a table with policies what their conditions are as well; both are
judged as statements are, however deep they go.

Pure. Owns what is believed and for how long; who asks, and when, is `relay`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import msgspec

from pgherd.model.ids import Instant
from pgherd.route.meanings import Function, Meanings, Names, Relation
from pgherd.route.statement import Kind, Shape, Verdict

REFRESH_MS = 10_000
BELIEVED_MS = 60_000
AGAIN_MS = 1_000
"""After a question without an answer."""

ANSWER_MS = 5_000
"""A question that has no answer by then has none."""

NAMES_MAX = 20_000
QUESTION_MAX = 500
RELATIONS_DEEP_MAX = 500

Fact = TypeVar("Fact")


class _Shelf(Generic[Fact]):
    """What is believed of one sort of names; None: there is none of that name."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[Fact | None, Instant]] = {}
        self.wanted: set[str] = set()

    def look(self, name: str, now: Instant) -> tuple[Fact | None, bool]:
        """What it is, and whether that is known at all."""
        found = self.known.get(name)
        age = BELIEVED_MS if found is None else now - found[1]
        if age > REFRESH_MS and len(self.wanted) < NAMES_MAX:
            self.wanted.add(name)
        if found is None or age > BELIEVED_MS:
            return None, False
        return found[0], True

    def learn(self, about: Iterable[str], facts: dict[str, Fact], now: Instant) -> None:
        for name in about:
            self.known[name] = facts.get(name), now
            self.wanted.discard(name)

    def forget(self) -> None:
        self.wanted |= self.known.keys()
        self.known.clear()


class _Finding(msgspec.Struct):
    """What was found of a statement so far: the first reason of each sort."""

    write: str = ""
    doubt: str = ""
    unknown: str = ""

    def note(self, shape: Shape, prefix: str) -> None:
        if shape.kind is Kind.WRITE:
            self.write = self.write or prefix + shape.why
        elif shape.kind is Kind.DOUBT:
            self.doubt = self.doubt or prefix + shape.why

    def verdict(self) -> Verdict:
        if self.write:
            return Verdict(Kind.WRITE, self.write)
        if self.doubt:
            return Verdict(Kind.DOUBT, self.doubt, is_final=not self.unknown)
        if self.unknown:
            return Verdict(Kind.DOUBT, self.unknown, is_final=False)
        return Verdict(Kind.READ, "a read")


class Vocabulary:
    """See the module's text. shape: of the text of a definition."""

    def __init__(self, shape: Callable[[str], Shape]) -> None:
        self.generation = 0
        self._shape = shape
        self._functions: _Shelf[Function] = _Shelf()
        self._operators: _Shelf[bool] = _Shelf()
        self._relations: _Shelf[Relation] = _Shelf()
        self._shapes: dict[str, Shape] = {}
        self._doubt = ""
        self._asked: tuple[Instant, int] | None = None
        self._not_before = Instant(0)

    def judge(self, shape: Shape, now: Instant) -> Verdict:
        """What a statement of this shape is here."""
        finding = _Finding()
        seen: set[str] = set()
        todo: list[tuple[Shape, str]] = [(shape, "")]
        while todo:
            one, prefix = todo.pop()
            finding.note(one, prefix)
            self._judge_names(one, prefix, finding, now)
            for name in sorted(one.relations - seen):
                seen.add(name)
                todo += self._judge_relation(name, prefix, finding, now)
            if len(seen) > RELATIONS_DEEP_MAX:
                finding.doubt = finding.doubt or f"it reads more than {len(seen) - 1} relations"
                break
        if self._doubt and not finding.doubt:
            finding.doubt = self._doubt
        return finding.verdict()

    def question(self, now: Instant) -> Names | None:
        """What to ask now; None: nothing, or not yet. Then `told` or `failed` is called."""
        if self._asked is not None and now - self._asked[0] < ANSWER_MS:
            return None
        wanted = Names(*(self._first(one.wanted) for one in self._shelves()))
        if not len(wanted) or now < self._not_before:
            return None
        self._asked = now, self.generation
        return wanted

    def told(self, meanings: Meanings, now: Instant) -> None:
        """The answer to the last question; without effect if something was forgotten meanwhile.

        What it says is as old as the question.
        """
        asked, self._asked = self._asked, None
        if asked is None or asked[1] != self.generation:
            return
        at = asked[0]
        if self._size() + len(meanings.about) > NAMES_MAX:
            self._drop()
        self._functions.learn(meanings.about.functions, meanings.functions, at)
        self._operators.learn(meanings.about.operators, meanings.operators, at)
        self._relations.learn(meanings.about.relations, meanings.relations, at)
        self._doubt = meanings.doubt
        self.generation += 1
        if not len(meanings.about):
            self._not_before = Instant(now + AGAIN_MS)

    def failed(self, now: Instant) -> None:
        """There is no answer."""
        self._asked = None
        self._not_before = Instant(now + AGAIN_MS)

    def forget(self) -> None:
        """Names may mean something else from now on."""
        self._functions.forget()
        self._operators.forget()
        self._relations.forget()
        self._shapes.clear()
        self.generation += 1

    def _judge_names(self, shape: Shape, prefix: str, finding: _Finding, now: Instant) -> None:
        for name in sorted(shape.functions):
            function, is_known = self._functions.look(name, now)
            if not is_known:
                finding.unknown = finding.unknown or f"{prefix}{name}() is not known yet"
            elif function is None:
                finding.doubt = finding.doubt or f"{prefix}there is no function {name}()"
            elif function.is_volatile:
                finding.doubt = finding.doubt or f"{prefix}{name}() is volatile"
        for name in sorted(shape.operators):
            is_volatile, is_known = self._operators.look(name, now)
            if not is_known:
                finding.unknown = finding.unknown or f"{prefix}operator {name} is not known yet"
            elif is_volatile is None:
                finding.doubt = finding.doubt or f"{prefix}there is no operator {name}"
            elif is_volatile:
                finding.doubt = finding.doubt or f"{prefix}operator {name} is volatile"
        for name in sorted(shape.attributes):
            function, is_known = self._functions.look(name, now)
            if not is_known:
                finding.unknown = finding.unknown or f"{prefix}column {name} is not known yet"
            elif function is not None and function.takes_rows:
                why = f"{prefix}column {name} may be a call of {name}(), which is volatile"
                finding.doubt = finding.doubt or why

    def _judge_relation(
        self, name: str, prefix: str, finding: _Finding, now: Instant
    ) -> list[tuple[Shape, str]]:
        """What is to be judged besides when a relation is read."""
        relation, is_known = self._relations.look(name, now)
        if not is_known:
            finding.unknown = finding.unknown or f"{prefix}{name} is not known yet"
            return []
        if relation is None:
            finding.doubt = finding.doubt or f"{prefix}{name} is no relation that all sessions see"
            return []
        if relation.why:
            finding.doubt = finding.doubt or f"{prefix}{name} {relation.why}"
        return [(self._shape_of(text), f"{name}: ") for text in relation.texts]

    def _shape_of(self, text: str) -> Shape:
        shape = self._shapes.get(text)
        if shape is None:
            shape = self._shapes[text] = self._shape(text)
        return shape

    def _shelves(self) -> tuple[_Shelf[Function], _Shelf[bool], _Shelf[Relation]]:
        return self._functions, self._operators, self._relations

    def _first(self, wanted: set[str]) -> frozenset[str]:
        return frozenset(sorted(wanted)[:QUESTION_MAX])

    def _size(self) -> int:
        return sum(len(shelf.known) for shelf in self._shelves())

    def _drop(self) -> None:
        """There is no end of names here: begin anew with those that are still used."""
        for shelf in self._shelves():
            shelf.known.clear()
            shelf.wanted.clear()
        self._shapes.clear()
