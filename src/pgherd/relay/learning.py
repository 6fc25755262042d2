"""What this process has learnt of its clients' statements, and whom it asks for the rest.

Owns the one classifier of a process, made when the first session of `route: auto` comes, and the
questions to the agent about names: one at a time for each database, and no more databases at once
than the agent takes. Nobody waits for an answer; what it is good for comes later.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from pgherd.relay.journal import say
from pgherd.relay.messages import MeaningsAsked, MeaningsTold
from pgherd.telemetry.boottime import now_ms

if TYPE_CHECKING:
    from pgherd.route.classifier import Classifier, Seen
    from pgherd.route.statement import Verdict

SECRET_BYTES = 16
QUESTIONS_AT_ONCE_MAX = 16
"""Below what an agent takes (`control.CANCELS_AT_ONCE_MAX`), as cancels come beside them."""

Send = Callable[[MeaningsAsked], None]


class Learnt:
    """One process's."""

    def __init__(self) -> None:
        self._classifier: Classifier | None = None
        self._send: Send | None = None
        self._asked: set[str] = set()

    @property
    def classifier(self) -> Classifier:
        """What is known of statements."""
        if self._classifier is None:
            from pgherd.relay.parsing import parse  # the parser is large, and few need it
            from pgherd.route.classifier import Classifier

            self._classifier = Classifier(parse, secrets.token_bytes(SECRET_BYTES))
        return self._classifier

    def judge(self, seen: Seen, database: str) -> Verdict:
        """What a statement is in a database, as far as is known; what is not known is asked."""
        verdict = self.classifier.judge(seen, database, now_ms())
        self._ask(database)
        return verdict

    def stamp(self, database: str) -> tuple[int, ...]:
        """Another one whenever what is known of a database's statements may be another matter."""
        return self.classifier.stamp(database, now_ms())

    def changed(self, database: str) -> None:
        """Names may mean something else there from now on."""
        self.classifier.vocabulary(database).forget()
        self._ask(database)

    def refused(self, seen: tuple[Seen, ...], database: str) -> None:
        """A replica did not take these."""
        for one in seen:
            self.classifier.refused(one, database, now_ms())

    def connected(self, send: Send) -> None:
        """An agent is there."""
        self._send = send

    def lost(self) -> None:
        """It is gone, and what it was asked with it."""
        self._send = None
        for database in self._asked:
            self.classifier.vocabulary(database).failed(now_ms())
        self._asked.clear()

    def told(self, answer: MeaningsTold) -> None:
        """Take the agent's answer."""
        self._asked.discard(answer.database)
        vocabulary = self.classifier.vocabulary(answer.database)
        if answer.meanings is not None:
            vocabulary.told(answer.meanings, now_ms())
            return
        vocabulary.failed(now_ms())
        say("names.unexplained", database=answer.database, why=answer.problem)

    def _ask(self, database: str) -> None:
        if self._send is None or len(self._asked) >= QUESTIONS_AT_ONCE_MAX:
            return
        names = self.classifier.vocabulary(database).question(now_ms())
        if names is not None:
            self._asked.add(database)
            self._send(MeaningsAsked(database, names))
