"""Webhooks against a real receiver: signed, in order, tried again, given up, sent by one node."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from pgherd.config.fields import Secret
from pgherd.config.hooks import Webhook
from pgherd.daemon import webhooks as room
from pgherd.daemon.hookbook import HookBook, mark_of
from pgherd.daemon.posting import PostFailed, post, trust
from pgherd.daemon.webhooks import Ground, Sender, named
from pgherd.model.event import Event, Level
from pgherd.model.ids import NodeId, Term
from pgherd.pki.authority import make_ca, make_node_certificate
from pgherd.telemetry.boottime import unix_ms
from pgherd.telemetry.journal import Journal
from pgherd.telemetry.metrics import Metrics

N1, N2 = NodeId("n1"), NodeId("n2")
KEY = "not to be told"


class Receiver:
    """A real one. answers: statuses in turn, the last one for ever; None: nothing is said."""

    def __init__(self, *answers: int | None) -> None:
        self.answers = list(answers or (204,))
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.port = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines[1:-2])
            body = await reader.readexactly(int(headers["content-length"]))
            headers["path"] = lines[0]
            self.got.append((headers, body))
            status = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if status is None:
                await asyncio.sleep(600)
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" if status == 204 else b"")
            writer.write(f"HTTP/1.1 {status} x\r\nRetry-After: 0\r\n\r\n".encode())
            await writer.drain()
        finally:
            writer.close()

    @asynccontextmanager
    async def here(self, context: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    @property
    def ids(self) -> list[str]:
        return [json.loads(body)["id"] for _, body in self.got]


class Node:
    """What a sender stands on, with a lead that is given and taken."""

    def __init__(self, directory: Path, me: NodeId = N1, *, leads: int = 1) -> None:
        directory.mkdir(exist_ok=True)
        self.me = me
        self.leads = leads
        self.journal = Journal()
        self.book = HookBook(directory)
        self.shared: list[dict[str, int]] = []
        self.peers: list[Node] = []
        self.metrics = Metrics(node=me, version="1")
        self.ground = Ground(
            me=me,
            cluster="main",
            journal=self.journal,
            book=self.book,
            leads=lambda: self.leads,
            share=self.share,
            happened=self.happened,
            metrics=self.metrics,
        )

    def share(self) -> asyncio.Future[None]:
        for peer in self.peers:
            peer.book.keep_delivered(self.book.delivered)
            self.book.keep_delivered(peer.book.delivered)
        future = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future

    def happened(self, kind: str, text: str, *, term: Term, fields: Any = None, **_: Any) -> None:
        event = Event(
            at_ms=unix_ms(), node=self.me, kind=kind, text=text, term=term, fields=fields or {}
        )
        self.journal.record(event)

    def told(self, index: int, kind: str = "leader.elected", **more: Any) -> None:
        event = Event(
            at_ms=unix_ms(),
            node=N2,
            kind=kind,
            text=f"event {index}",
            index=index,
            id=f"c{index}.0",
            **more,
        )
        self.journal.record(event)

    @property
    def kinds(self) -> list[str]:
        return [one.event.kind for one in self.journal.since() if not one.event.is_clusters]

    def counted(self, result: str) -> float:
        counter = self.metrics._counted["pgherd_webhook_events_total"]
        return counter.labels(webhook="pager", result=result)._value.get()

    @asynccontextmanager
    async def sending(self, wanted: Webhook) -> AsyncIterator[None]:
        task = asyncio.create_task(Sender("pager", wanted, self.ground).run())
        await asyncio.sleep(0)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self.book.written()


def webhook(receiver: Receiver, **more: Any) -> Webhook:
    values = {"scheme": "http", **more}
    url = Secret("text", f"{values.pop('scheme')}://127.0.0.1:{receiver.port}/hook?t=T0K3N")
    known = {name: field.default for name, field in Webhook.model_fields.items() if name != "url"}
    return Webhook.model_construct(**{**known, **values}, url=url)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(room, "LOOK_S", 0.05)


def test_an_event_arrives_signed_and_complete(tmp_path: Path) -> None:
    """A receiver that knows the key can tell that it is ours, unchanged, and from when."""

    async def test() -> None:
        node = Node(tmp_path)
        async with (
            Receiver().here() as receiver,
            node.sending(webhook(receiver, secret=Secret("text", KEY))),
        ):
            node.told(7, "primary.changed", rule=203, duration_ms=812, level=Level.WARNING)
            await until(lambda: len(receiver.got) == 1)
        headers, body = receiver.got[0]
        value = json.loads(body)
        assert headers["path"].startswith("POST /hook?t=T0K3N ")
        assert (value["cluster"], value["sender"], value["id"]) == ("main", "n1", "c7.0")
        assert (value["rule"], value["duration_ms"], value["level"]) == (203, 812, "warning")
        at = headers["x-pgherd-timestamp"]
        digest = hmac.new(KEY.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
        assert headers["x-pgherd-signature"] == f"v1={digest}"
        assert abs(int(at) - unix_ms() / 1000) < 60
        assert headers["x-pgherd-event-id"] == "c7.0"
        assert node.counted("delivered") == 1

    run(test)


def test_only_what_is_wanted_is_sent(tmp_path: Path) -> None:
    """By kind and level; of this node's own trouble with it a receiver hears nothing."""

    async def test() -> None:
        node = Node(tmp_path)
        async with Receiver().here() as receiver:
            wanted = webhook(receiver, events=("primary.*", "server.full", "webhook.*"))
            async with node.sending(wanted):
                node.told(1)
                node.told(2, "primary.changed", level=Level.DEBUG)
                node.happened("webhook.failing", "x", term=Term(0), fields={"webhook": "pager"})
                node.happened("server.full", "full", term=Term(0))
                node.told(3, "primary.changed")
                await until(lambda: len(receiver.got) == 2)
        assert receiver.ids[1] == "c3.0"
        assert json.loads(receiver.got[0][1])["kind"] == "server.full"

    run(test)


def test_a_receiver_that_fails_is_tried_again_in_order(tmp_path: Path) -> None:
    """An error, no answer, nobody there: the same event, until it is taken; told once each way."""

    async def test() -> None:
        node = Node(tmp_path)
        receiver = Receiver(503, None, 429, 204)
        async with receiver.here(), node.sending(webhook(receiver, timeout_ms=300)):
            node.told(1)
            node.told(2)
            await until(lambda: len(receiver.got) >= 5)
            assert receiver.ids == ["c1.0", "c1.0", "c1.0", "c1.0", "c2.0"]
            attempts = [headers["x-pgherd-attempt"] for headers, _ in receiver.got]
            assert attempts == ["1", "2", "3", "4", "1"]
        await until(lambda: node.counted("delivered") == 2)
        assert node.kinds == ["webhook.failing", "webhook.well"]
        assert node.counted("failed") == 3
        texts = "".join(one.event.text for one in node.journal.since())
        assert "T0K3N" not in texts

    run(test)


def test_a_refusal_for_good_is_not_repeated(tmp_path: Path) -> None:
    """A redirection is one too: an event goes where it was configured to go."""

    async def test() -> None:
        node = Node(tmp_path)
        async with Receiver(400, 302, 204).here() as receiver, node.sending(webhook(receiver)):
            for index in (1, 2, 3):
                node.told(index)
            await until(lambda: node.counted("delivered") == 1)
        assert receiver.ids == ["c1.0", "c2.0", "c3.0"]
        assert node.counted("refused") == 2
        assert node.kinds == ["webhook.refused", "webhook.refused"]

    run(test)


def test_what_is_too_old_is_given_up_and_told(tmp_path: Path) -> None:
    """So is what the journal has no room for; both are counted."""

    async def test() -> None:
        node = Node(tmp_path)
        receiver = Receiver(500)
        async with receiver.here(), node.sending(webhook(receiver, give_up_ms=100)):
            node.told(1)
            await until(lambda: node.counted("lost") == 1)
        assert "webhook.lost" in node.kinds
        small = Node(tmp_path / "small")
        small.journal._entries = type(small.journal._entries)(maxlen=5)
        away = Receiver(None, 204)
        async with away.here(), small.sending(webhook(away, timeout_ms=400)):
            small.told(1)
            await until(lambda: len(away.got) == 1)
            for index in range(2, 20):
                small.told(index)
            await until(lambda: "c19.0" in away.ids)
        assert small.counted("lost") >= 1
        assert "webhook.lost" in small.kinds

    run(test)


def test_the_leader_sends_and_its_successor_goes_on(tmp_path: Path) -> None:
    """Nobody else sends the cluster's events; nothing is left out when the lead moves."""

    async def test() -> None:
        first, second = Node(tmp_path / "a"), Node(tmp_path / "b", N2, leads=0)
        first.peers, second.peers = [second], [first]
        async with Receiver().here() as receiver:
            wanted = webhook(receiver)
            async with first.sending(wanted), second.sending(wanted):
                for index in (1, 2):
                    first.told(index)
                    second.told(index)
                await until(lambda: len(receiver.got) == 2)
                second.happened("server.full", "its own", term=Term(0))
                await until(lambda: len(receiver.got) == 3)
                first.leads = 0
                for node in (first, second):
                    node.told(3)
                await asyncio.sleep(0.2)
                assert len(receiver.got) == 3
                second.leads = 2
                await until(lambda: len(receiver.got) == 4)
        senders = [json.loads(body)["sender"] for _, body in receiver.got]
        assert senders == ["n1", "n1", "n2", "n2"]
        assert (receiver.ids[:2], receiver.ids[3]) == (["c1.0", "c2.0"], "c3.0")

    run(test)


def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    """What was delivered is remembered on disk, and what was not is in the journal's file."""

    async def test() -> None:
        receiver = Receiver()
        async with receiver.here():
            node = Node(tmp_path)
            async with node.sending(webhook(receiver)):
                node.told(1)
                await until(lambda: node.counted("delivered") == 1)
            again = Node(tmp_path)
            for index in (1, 2):
                again.told(index)
            async with again.sending(webhook(receiver)):
                await until(lambda: again.counted("delivered") == 1)
        assert receiver.ids == ["c1.0", "c2.0"]

    run(test)


def test_a_restored_ledger_begins_anew(tmp_path: Path) -> None:
    """Marks beyond its end are of another one, here and at peers, and hold nothing back."""

    async def test() -> None:
        book = HookBook(tmp_path)
        book.keep_delivered({"pager": 90_000, "other": 100})
        await book.written()
        end = 500
        again = HookBook(tmp_path, end=lambda: end)
        assert again.delivered == {"other": 100}
        assert again.keep_delivered({"pager": 200})
        assert not again.keep_delivered({"pager": 90_000})
        assert again.delivered == {"other": 100, "pager": 200}
        # A sender may be a little ahead of this node: that counts as soon as it has come so far.
        again.keep_delivered({"pager": 700})
        assert again.delivered["pager"] == 200
        end = 1000
        assert again.delivered["pager"] == 700
        assert not again.keep_delivered({"pager": 600})
        await again.written()

    run(test)


def test_parts_of_one_command_are_told_apart() -> None:
    marks = [mark_of(Event(1, N1, "x", "", index=5, id=f"c5.{part}")) for part in (0, 1, 2)]
    assert marks == sorted(set(marks))
    assert mark_of(Event(1, N1, "x", "", index=6, id="c6.0")) > marks[-1]


def test_https_is_checked_against_the_configured_authority(tmp_path: Path) -> None:
    """A certificate that another authority signed is refused, and the event kept for later."""

    async def test() -> None:
        context, ca, other = certificates(tmp_path)
        async with Receiver().here(context) as receiver:
            node = Node(tmp_path / "n")
            async with node.sending(webhook(receiver, scheme="https", ca=ca)):
                node.told(1)
                await until(lambda: node.counted("delivered") == 1)
            url = f"https://127.0.0.1:{receiver.port}/"
            with pytest.raises(PostFailed, match="is not trusted"):
                await post(url, b"{}", headers={}, timeout_s=5, context=trust(other))

    run(test)


def certificates(directory: Path) -> tuple[ssl.SSLContext, Path, Path]:
    """A server for 127.0.0.1, the authority that signed it, and another one."""
    mine, theirs = make_ca("main"), make_ca("main")
    issued = make_node_certificate(mine, N1, ["127.0.0.1"])
    files = {
        "ca": mine.certificate_pem,
        "other": theirs.certificate_pem,
        "cert": issued.certificate_pem,
        "key": issued.key_pem,
    }
    for name, pem in files.items():
        (directory / name).write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "cert", directory / "key")
    return context, directory / "ca", directory / "other"


def test_receivers_have_names_that_say_nothing_secret() -> None:
    """Their host, or what they are called; two of one host are told apart."""
    urls = [Secret("text", f"https://alerts.example/{token}") for token in ("a", "b")]
    found = named((*(Webhook.model_construct(name="", url=url) for url in urls),))
    assert list(found) == ["alerts.example", "alerts.example-2"]
    found = named((Webhook.model_construct(name="", url=Secret("env", "HOOK")),))
    assert list(found) == ["env:HOOK"]
