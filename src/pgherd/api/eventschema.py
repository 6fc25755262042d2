"""The public form of events. Pure."""

from __future__ import annotations

from pgherd.api.shape import Model
from pgherd.api.times import iso
from pgherd.model.event import Event as Told


class Event(Model):
    """One decision, action or change.

    id: the same at every node, and however often it is told · scope: cluster where every node has
    it, node where only the one that is named told it · node: whom it is about, or who tells ·
    epoch: the ledger's term · rule: 0 where no rule stands behind it · duration_ms: of what ended
    with it · place: of the stream, for `since` and Last-Event-ID.
    """

    id: str
    at: str
    kind: str
    level: str
    scope: str
    node: str | None
    epoch: int
    rule: int
    text: str
    duration_ms: int | None
    fields: dict[str, str]
    place: str | None = None


class Events(Model):
    """Events, oldest first. place: where to go on · lost: how many before these are not kept."""

    events: list[Event]
    place: str
    lost: int


def shown(event: Told, *, place: str | None = None) -> Event:
    """An event as the API and webhooks have it."""
    return Event(
        id=event.id,
        at=iso(event.at_ms) or "",
        kind=event.kind,
        level=event.level.value,
        scope="cluster" if event.is_clusters else "node",
        node=event.node or None,
        epoch=event.term,
        rule=event.rule,
        text=event.text,
        duration_ms=event.duration_ms,
        fields=event.fields,
        place=place,
    )
