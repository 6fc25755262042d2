"""This node's eye on split brain: looks at what it has heard, and says when it begins and ends.

What counts as one is `plan.splitbrain`'s. Owns the event, the log line and the word to the proxy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pgherd.model.facts import Facts
from pgherd.model.ids import Instant, NodeId
from pgherd.model.observation import Heard
from pgherd.plan.splitbrain import Notebook, contradictions
from pgherd.telemetry import logs
from pgherd.telemetry.boottime import unix_ms

log = logs.get("daemon")

SEEN = "split_brain.seen"
OVER = "split_brain.over"


class SplitBrain(Notebook):
    """tell: an event's kind and its sentence, for the journal · changed: sessions may go elsewhere.

    fresh_ms: a report that is older says nothing about now.
    """

    def __init__(
        self, *, fresh_ms: int, tell: Callable[[str, str], None], changed: Callable[[], None]
    ) -> None:
        super().__init__()
        self._fresh_ms = fresh_ms
        self._tell = tell
        self._changed = changed

    def watch(
        self, facts: Facts, reports: Mapping[NodeId, Heard], *, applied: int, now: Instant
    ) -> None:
        """Look at the newest reports."""
        fresh = {
            node: heard.report for node, heard in reports.items() if now - heard.at < self._fresh_ms
        }
        found = contradictions(facts, fresh, applied=applied)
        if not found and self.is_blank:
            return
        begun, ended = self.look(found, now=now, unix_ms=unix_ms())
        for one in begun:
            log.warning(SEEN, node=one.about.node, what=one.about.what, reason=one.about.text)
            self._tell(SEEN, f"{one.about.text}; {one.about.hint}")
        for one in ended:
            log.info(OVER, node=one.about.node, what=one.about.what)
            self._tell(OVER, f"{one.about.node}: no longer: {one.about.text}")
        if begun or ended:
            self._changed()
