"""What strikes when: a plan drawn from a seed, pure and without end.

Owns the order of kinds (every kind once before any comes twice, so that none is left out by
chance), how long each lasts, which come in pairs, and the seed of each strike's own choices. A
machine does not keep time as a simulator does: a plan says what strikes, not what meets it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

import msgspec

from pgherd.chaos.fault import Kind

DOUBLE_PART = 0.25
"""Of steps whose first fault may come with another; some may not, so fewer of all steps."""

OFFSET_MAX_S = 2.5
GAP_S = (0.5, 1.5)


class Blow(msgspec.Struct, frozen=True):
    """One fault of a step. after_s: since the step began · seed: of its own choices."""

    kind: Kind
    after_s: float
    hold_s: float
    seed: int


class Step(msgspec.Struct, frozen=True):
    """One or two faults that overlap, and a pause before them."""

    number: int
    gap_s: float
    blows: tuple[Blow, ...]


def steps(
    seed: int,
    kinds: Sequence[Kind],
    *,
    leading_share: float = 0.0,
    double_part: float = DOUBLE_PART,
) -> Iterator[Step]:
    """The plan of a seed.

    leading_share: the least part of steps that should cost a primary · double_part: of steps whose
    first fault may come with another.
    """
    rng = Random(f"chaos {seed}")
    deck, leading, pairs = Deck(rng, kinds), Deck(rng, _leading(kinds)), Deck(rng, _pairing(kinds))
    number = failing = 0
    while True:
        number += 1
        short = failing < leading_share * number
        kind = (leading if short else deck).draw()
        failing += kind.fails_over
        blows = [_blow(rng, kind, after_s=0.0)]
        is_double = rng.random() < double_part
        if is_double and not kind.alone:
            second = pairs.draw(other_than=kind)
            blows.append(_blow(rng, second, after_s=rng.uniform(0, OFFSET_MAX_S)))
        yield Step(number, rng.uniform(*GAP_S), tuple(blows))


class Deck:
    """Kinds in an order that is drawn anew when all have been dealt."""

    def __init__(self, rng: Random, kinds: Sequence[Kind]) -> None:
        assert kinds, "no kind is allowed here"
        self._rng = rng
        self._kinds = list(kinds)
        self._left: list[Kind] = []

    def draw(self, *, other_than: Kind | None = None) -> Kind:
        """The next one; another one than given, which then comes after it."""
        if not self._left:
            self._left = self._rng.sample(self._kinds, len(self._kinds))
        kind = self._left.pop()
        if kind != other_than or len(self._kinds) == 1:
            return kind
        other = self.draw(other_than=other_than)
        self._left.append(kind)
        return other


def _blow(rng: Random, kind: Kind, *, after_s: float) -> Blow:
    return Blow(kind, after_s, rng.uniform(*kind.hold_s), rng.randrange(1 << 32))


def _leading(kinds: Sequence[Kind]) -> list[Kind]:
    """Kinds that usually cost the primary its place; all, where there is none."""
    return [kind for kind in kinds if kind.fails_over] or list(kinds)


def _pairing(kinds: Sequence[Kind]) -> list[Kind]:
    return [kind for kind in kinds if not kind.alone] or list(kinds)
