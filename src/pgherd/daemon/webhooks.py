"""Webhooks: events posted to an operator's receivers, signed, in order, until each is taken.

Owns what is sent when, and to whom. The cluster's events are sent by the Raft leader alone, from
where the last one had come; a node's own by itself. The journal is the queue: what a receiver does
not take before it is too old, or before the journal has gone on without it, is lost for it, counted
and told. A receiver may get an event twice, with the same id. One that does not answer holds up
nothing but its own events.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import ssl
from collections.abc import Callable
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

import msgspec

from pgherd import __version__
from pgherd.api.eventschema import shown
from pgherd.config.hooks import Webhook, problem
from pgherd.daemon.happenings import Happened
from pgherd.daemon.hookbook import HookBook, mark_of
from pgherd.daemon.posting import Answered, PostFailed, post, trust
from pgherd.model.errors import OperatorError
from pgherd.model.event import Event, Level
from pgherd.model.ids import NodeId, Term
from pgherd.telemetry import logs
from pgherd.telemetry.boottime import unix_ms
from pgherd.telemetry.journal import Entry, Journal
from pgherd.telemetry.metrics import Metrics

log = logs.get("hooks")

FIRST_PAUSE_S = 1.0
PAUSE_S_MAX = 60.0
LOOK_S = 5.0
"""A Raft leader that was elected without an event looks after so long."""
AGAIN = (408, 425, 429)
"""Refusals that are not for good; others below 500 are."""


class Failing(Exception):
    """A try that is worth another one. later_s: what the receiver asks for, 0 for nothing."""

    def __init__(self, why: str, *, later_s: float = 0.0) -> None:
        super().__init__(why)
        self.later_s = later_s


class Refused(Exception):
    """The receiver does not want this event."""


class Ground(msgspec.Struct, frozen=True):
    """What all senders of a node stand on. leads: the Raft term that it leads in, 0 for none."""

    me: NodeId
    cluster: str
    journal: Journal
    book: HookBook
    leads: Callable[[], int]
    share: Callable[[], asyncio.Future[None]]
    happened: Happened
    metrics: Metrics


class Sender:
    """One receiver's events."""

    def __init__(self, name: str, wanted: Webhook, ground: Ground) -> None:
        self.name = name
        self.wanted = wanted
        self._ground = ground
        self._own = ground.journal.newest
        self._began = self._newest_mark()
        self._led = 0
        self._seen = ground.journal.newest
        self._context: ssl.SSLContext | None = None
        self._failing = False

    async def run(self) -> None:
        """For ever: send what is there, wait for more."""
        journal = self._ground.journal
        while True:
            await self._take_lead()
            entry = self._next()
            if entry is not None:
                await self._send(entry)
                continue
            self._seen = journal.newest
            try:
                async with asyncio.timeout(LOOK_S):
                    await journal.wait_past(self._seen)
            except TimeoutError:
                pass  # perhaps this node leads by now

    async def _take_lead(self) -> None:
        """Who begins to lead hears from the others how far the receiver has been served."""
        term = self._ground.leads()
        if term and term != self._led:
            await self._ground.share()
            if self.name not in self._ground.book.delivered:
                self._ground.book.keep_delivered({self.name: self._began})
        self._led = term

    def _newest_mark(self) -> int:
        entries = self._ground.journal.since()
        return max((mark_of(one.event) for one in entries if one.event.is_clusters), default=0)

    def _next(self) -> Entry | None:
        """The oldest event that is due here; what is not wanted is passed over."""
        ground = self._ground
        if lost := ground.journal.missed(self._seen):
            self._lost(lost, "the journal went on without it")
            self._seen = ground.journal.newest
        for entry in ground.journal.since(min(self._own, self._oldest())):
            event = entry.event
            if event.is_clusters and ground.leads():
                if mark_of(event) > ground.book.delivered.get(self.name, 0):
                    if self.takes(event):
                        return entry
                    ground.book.keep_delivered({self.name: mark_of(event)})
            elif event.node == ground.me and not event.is_clusters and entry.number > self._own:
                if self.takes(event):
                    return entry
                self._own = entry.number
        return None

    def _oldest(self) -> int:
        """Where the cluster's events begin that this node may have to send."""
        ground = self._ground
        if not ground.leads():
            return ground.journal.newest
        known = ground.book.delivered.get(self.name, 0)
        number = ground.journal.newest
        for entry in reversed(ground.journal.since()):
            if entry.event.is_clusters and mark_of(entry.event) <= known:
                return number
            number = entry.number - 1
        return 0

    def takes(self, event: Event) -> bool:
        """Whether the receiver is to have an event; of its own trouble it is told nothing."""
        if event.kind.startswith("webhook.") and event.fields.get("webhook") == self.name:
            return False
        if event.level.weight < Level(self.wanted.level).weight:
            return False
        return any(fnmatchcase(event.kind, kind) for kind in self.wanted.events)

    async def _send(self, entry: Entry) -> None:
        """Have one event taken, refused, or given up."""
        event, pause_s, tries = entry.event, FIRST_PAUSE_S, 0
        while True:
            tries += 1
            if event.is_clusters and not self._ground.leads():
                return  # its successor sends it
            try:
                await self._try(event, tries)
            except Failing as failing:
                self._note_failure(str(failing))
                if unix_ms() - event.at_ms > self.wanted.give_up_ms:
                    self._lost(1, f"{event.id} is older than give_up")
                    break
                await asyncio.sleep(max(pause_s, min(failing.later_s, PAUSE_S_MAX)))
                pause_s = min(pause_s * 2, PAUSE_S_MAX)
            except Refused as refused:
                self._tell("webhook.refused", f"{self.name} refused {event.id}: {refused}")
                self._ground.metrics.webhook_sent(self.name, "refused")
                break
            else:
                self._note_success()
                break
        self._passed(entry)

    def _passed(self, entry: Entry) -> None:
        if not entry.event.is_clusters:
            self._own = entry.number
        elif self._ground.book.keep_delivered({self.name: mark_of(entry.event)}):
            self._ground.share()

    async def _try(self, event: Event, tries: int) -> None:
        """One try. Raises Failing or Refused."""
        try:
            url, secret = await asyncio.to_thread(self._reveal)
            if self._context is None and urlsplit(url).scheme == "https":
                self._context = await asyncio.to_thread(trust, self.wanted.ca)
            body = body_of(event, cluster=self._ground.cluster, sender=self._ground.me)
            answered = await post(
                url,
                body,
                headers=headers_of(event, body, secret=secret, at_s=unix_ms() // 1000, tries=tries),
                timeout_s=self.wanted.timeout_ms / 1000,
                context=self._context,
            )
        except PostFailed as error:
            self._context = None  # its certificates may be others by now
            raise Failing(str(error)) from error
        except OperatorError as error:
            raise Failing(error.message) from error
        judge(answered)

    def _reveal(self) -> tuple[str, str]:
        """Address and key, read anew each time: they may be in files that change."""
        url = self.wanted.url.reveal()
        if problem(url):
            raise OperatorError(f"what {self.wanted.url.shown()} holds {problem(url)}")
        return url, self.wanted.secret.reveal() if self.wanted.secret is not None else ""

    def _note_failure(self, why: str) -> None:
        self._ground.metrics.webhook_sent(self.name, "failed")
        if not self._failing:
            self._failing = True
            self._tell("webhook.failing", f"{self.name}: {why}")
        log.info("webhook.failed", webhook=self.name, reason=why)

    def _note_success(self) -> None:
        self._ground.metrics.webhook_sent(self.name, "delivered")
        if self._failing:
            self._failing = False
            self._tell("webhook.well", f"{self.name} takes events again")

    def _lost(self, count: int, why: str) -> None:
        self._ground.metrics.webhook_sent(self.name, "lost", count)
        self._tell("webhook.lost", f"{self.name} lacks {count} events: {why}")

    def _tell(self, kind: str, text: str) -> None:
        log.warning(kind, webhook=self.name, text=text)
        self._ground.happened(kind, text, term=Term(0), fields={"webhook": self.name})


def judge(answered: Answered) -> None:
    """What an answer's status means. Raises Failing or Refused."""
    status = answered.status
    if 200 <= status < 300:
        return
    if status >= 500 or status in AGAIN:
        raise Failing(f"it answered {status}", later_s=answered.retry_after_s)
    raise Refused(f"it answered {status}")


def body_of(event: Event, *, cluster: str, sender: NodeId) -> bytes:
    """An event as receivers get it: the API's own object, and whose it is."""
    value = shown(event).model_dump(exclude={"place"})
    return json.dumps({"cluster": cluster, "sender": sender, **value}).encode()


def headers_of(event: Event, body: bytes, *, secret: str, at_s: int, tries: int) -> dict[str, str]:
    """What a receiver checks: the signature is over time and body, so that none can be re-used."""
    found = {
        "User-Agent": f"pgherd/{__version__}",
        "X-Pgherd-Event": event.kind,
        "X-Pgherd-Event-Id": event.id,
        "X-Pgherd-Attempt": str(tries),
        "X-Pgherd-Timestamp": str(at_s),
    }
    if secret:
        found["X-Pgherd-Signature"] = f"v1={signature(secret, at_s, body)}"
    return found


def signature(secret: str, at_s: int, body: bytes) -> str:
    """HMAC-SHA256 in hex over the time in seconds, a dot, and the body."""
    return hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()


def named(webhooks: tuple[Webhook, ...]) -> dict[str, Webhook]:
    """Each receiver under its name: as configured, else its host; a second one gets a number."""
    found: dict[str, Webhook] = {}
    for wanted in webhooks:
        host = urlsplit(wanted.url.reference).hostname if wanted.url.kind == "text" else None
        base = wanted.name or host or wanted.url.shown()
        name, number = base, 1
        while name in found:
            number += 1
            name = f"{base}-{number}"
        found[name] = wanted
    return found
