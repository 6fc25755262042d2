"""Events, hooks and receivers of a real herd: one switchover, seen from everywhere, and a veto."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tending import done
from test_repair import replicas

from pgherd.proof import layout
from pgherd.proof.herd import LocalHerd

KEY = "k3y"
CALLBACKS = ("on_role_change", "on_switchover")
ALL_CALLBACKS = (
    *("on_start", "on_stop", "on_restart", "on_reload"),
    *("on_role_change", "on_switchover", "on_failover"),
)


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes what it gets; a busy one not at the first try."""

    server: Receiving

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        tries = int(self.headers["x-pgherd-attempt"])
        taken = tries > self.server.refused
        if taken:
            self.server.got.append((dict(self.headers.items()), body))
        self.send_response(204 if taken else 503)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Receiving(http.server.ThreadingHTTPServer):
    """A receiver on a port of its own."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.refused = 1
        """So many tries of each event are not taken."""
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def of(self, kind: str = "") -> list[dict[str, Any]]:
        """The events of a kind, or all, that were taken; each is signed."""
        found = []
        for headers, body in list(self.got):
            at = headers["X-Pgherd-Timestamp"]
            digest = hmac.new(KEY.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
            assert headers["X-Pgherd-Signature"] == f"v1={digest}"
            found.append(json.loads(body))
        return [one for one in found if kind in ("", one["kind"])]


class Stream:
    """One node's events, as they come."""

    def __init__(self, herd: LocalHerd, name: str) -> None:
        place = herd.places[name]
        self._connection = http.client.HTTPConnection(place.host, place.ports.api, timeout=60)
        headers = {"Authorization": f"Bearer {herd.secrets.token}"}
        self._connection.request(
            "GET", "/api/v1/events?kind=primary.*&kind=term.*", headers=headers
        )
        self._answer = self._connection.getresponse()
        assert self._answer.headers["content-type"].startswith("text/event-stream")
        self._answer.readline()  # it follows from here on

    def until(self, kind: str) -> list[dict[str, Any]]:
        """Everything up to an event of a kind."""
        found: list[dict[str, Any]] = []
        while not found or found[-1]["kind"] != kind:
            line = self._answer.readline().decode()
            assert line, "the stream has ended"
            if line.startswith("data: "):
                found.append(json.loads(line.removeprefix("data: ")))
        return found

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


@pytest.fixture
def receiver() -> Iterator[Receiving]:
    server = Receiving()
    yield server
    server.shutdown()
    server.server_close()


def script(path: Path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def have(herd: LocalHerd, name: str, hooks: dict[str, Any]) -> None:
    """Give a node hooks by a reload, and wait until it has them."""
    log = herd.places[name].log
    before = log.read_text().count("key=hooks.")
    herd.reload_node(name, {"hooks": hooks})
    herd.wait_for(lambda: log.read_text().count("key=hooks.") > before, "the reload", deadline_s=20)


@contextmanager
def hooked(herd: LocalHerd) -> Iterator[None]:
    """In the end no node has hooks, running or not."""
    nothing = {"hooks": {"pre_promote": None, "webhook": [], **dict.fromkeys(ALL_CALLBACKS)}}
    try:
        yield
    finally:
        for name, place in herd.places.items():
            if name in herd._running:
                herd.reload_node(name, nothing)
            else:
                layout.write_settings(place, layout.merge(layout.read_settings(place), nothing))
        herd.start()


def wait_events(
    herd: LocalHerd, name: str, query: str, wanted: Callable[[dict[str, Any]], bool]
) -> list[dict[str, Any]]:
    """The events of a question that are wanted, once a node knows of one."""

    def found() -> list[dict[str, Any]]:
        events = herd.ask(f"/events?follow=0&{query}", name=name)["events"]
        return [one for one in events if wanted(one)]

    return herd.wait_for(found, f"events of {query} at {name}", deadline_s=20)


@pytest.mark.parametrize("stable", ["debian-15"], indirect=True)  # nothing of it is a version's
def test_a_switchover_is_seen_from_everywhere(
    herd: LocalHerd, receiver: Receiving, tmp_path: Path
) -> None:
    """Each node streams the same events in order; programs and a receiver are told; a veto counts.

    The first candidate's pre_promote refuses: nobody is promoted there, and another one leads.
    """
    tmp_path.chmod(0o755)
    refusing, other = replicas(herd)
    log = tmp_path / "log"
    told = script(tmp_path / "told", f'echo "$PGHERD_NODE $@ $PGHERD_TERM" >> {log}')
    hooks: dict[str, Any] = dict.fromkeys(CALLBACKS, told)
    hooks["webhook"] = [
        {
            "name": "pager",
            "url": f"http://127.0.0.1:{receiver.server_port}/",
            "secret": KEY,
            "events": ["primary.changed", "promotion.vetoed"],
        }
    ]
    refuse = script(tmp_path / "refuse", "echo the rack is on fire; exit 1")
    with hooked(herd):
        for name in herd.nodes:
            have(herd, name, {**hooks, "pre_promote": refuse} if name == refusing else hooks)
        leader = vetoed(herd, refusing)
        # From whoever leads now to whoever may: everybody is told the same, in the same order.
        first = next(name for name in herd.nodes if name not in (refusing, other))
        to = other if leader == first else first
        wanted = streamed(herd, leader, to)
        programs_told(herd, log, leader, to)
        receiver_told(herd, receiver, wanted, refusing)
    text = "".join(place.log.read_text() for place in herd.places.values())
    assert f"secret={KEY}" not in text


def vetoed(herd: LocalHerd, refusing: str) -> str:
    """A switchover to who refuses ends with another leader, and every node knows why."""
    first, epoch = str(herd.primary()), herd.status()["epoch"]
    body = {"candidate": refusing}
    herd.ask("/cluster/switchover?wait=0", method="POST", body=body, timeout_s=15.0)
    herd.wait_for(lambda: herd.status()["epoch"] > epoch + 1, "a second term", deadline_s=60)
    herd.wait_stable(60)
    leader = str(herd.primary())
    assert leader != refusing
    kind = "kind=promotion.vetoed&since=5m"
    *_, last = wait_events(herd, first, kind, lambda one: one["epoch"] == epoch + 1)
    assert last["node"] == refusing
    assert "the rack is on fire" in last["text"]
    return leader


def streamed(herd: LocalHerd, leader: str, to: str) -> str:
    """Every node streams the same of one switchover; the id of its last event."""
    streams = {name: Stream(herd, name) for name in herd.nodes}
    try:
        herd.switchover(to)
        seen = {name: stream.until("primary.changed") for name, stream in streams.items()}
    finally:
        for stream in streams.values():
            stream.close()
    epoch = herd.status()["epoch"]
    for events in seen.values():
        assert [(one["kind"], one["epoch"]) for one in events] == [
            ("term.begun", epoch),
            ("term.established", epoch),
            ("primary.changed", epoch),
        ]
        assert events[0]["rule"] == events[-1]["rule"] == 603
        assert events[-1]["fields"]["from"] == leader
        assert events[-1]["fields"]["to"] == to
        assert events[-1]["duration_ms"] > 0
    ids = [[one["id"] for one in events] for events in seen.values()]
    assert ids[0] == ids[1] == ids[2]
    return str(ids[0][-1])


def programs_told(herd: LocalHerd, log: Path, leader: str, to: str) -> None:
    """Each node's programs, of the switchover; of their roles, those whose role changed."""
    epoch = herd.status()["epoch"]

    def all_told() -> bool:
        lines = set(log.read_text().splitlines())
        wanted = {f"{name} on_switchover {role(name)} local {epoch}" for name in herd.nodes}
        wanted |= {f"{name} on_role_change {role(name)} local {epoch}" for name in (leader, to)}
        return wanted <= lines

    def role(name: str) -> str:
        return "primary" if name == to else "replica"

    herd.wait_for(all_told, "what the programs were told", deadline_s=20)


def receiver_told(herd: LocalHerd, receiver: Receiving, wanted: str, refusing: str) -> None:
    """Once of each, by who sends it: of its own veto, the node that refused."""
    herd.wait_for(
        lambda: (
            any(one["id"] == wanted for one in receiver.of("primary.changed"))
            and receiver.of("promotion.vetoed")
        ),
        "what the receiver was told",
        deadline_s=30,
    )
    assert [one["id"] for one in receiver.of("primary.changed")].count(wanted) == 1
    assert [one["sender"] for one in receiver.of("promotion.vetoed")] == [refusing]


def raft_leader(herd: LocalHerd) -> str:
    return str(herd.status()["raft_leader"])


class Told:
    """What the programs of nodes were told, by the lines that they write."""

    def __init__(self, herd: LocalHerd, log: Path) -> None:
        self._herd, self._log = herd, log
        log.touch()

    def lines(self, name: str) -> list[str]:
        found = self._log.read_text().splitlines()
        return [line.partition(" ")[2] for line in found if line.startswith(f"{name} ")]

    def wait(self, name: str, line: str) -> None:
        self._herd.wait_for(lambda: line in self.lines(name), f"{line} at {name}", deadline_s=30)

    def forget(self) -> None:
        self._log.write_text("")


@pytest.mark.full
@pytest.mark.parametrize("stable", ["debian-15"], indirect=True)
def test_hooks_of_servers_that_come_and_go(
    herd: LocalHerd, receiver: Receiving, tmp_path: Path
) -> None:
    """Restarted, reloaded, stopped, killed: each is told once, and a dead sender's events are sent.

    An agent that is killed tells nothing anew of a server that ran on.
    """
    tmp_path.chmod(0o755)
    receiver.refused = 0
    log = tmp_path / "log"
    told = script(tmp_path / "told", f'echo "$PGHERD_NODE $1 $2" >> {log}')
    hooks: dict[str, Any] = dict.fromkeys(ALL_CALLBACKS, told)
    hooks["on_switchover"] = None
    hooks["webhook"] = {
        "name": "pager",
        "url": f"http://127.0.0.1:{receiver.server_port}/",
        "secret": KEY,
        "events": ["primary.*", "term.*", "leader.*", "work.*"],
        "level": "debug",
    }
    programs = Told(herd, log)
    with hooked(herd):
        for name in herd.nodes:
            have(herd, name, hooks)
        for name in herd.nodes:  # the file was read
            assert set(programs.lines(name)) <= {"on_reload replica", "on_reload primary"}
        restarted_and_reloaded(herd, programs)
        loses_machines(herd, programs, receiver)
        stopped_and_started(herd, programs)


def restarted_and_reloaded(herd: LocalHerd, programs: Told) -> None:
    """Each once; an agent that dies alone has nothing to tell of its server.

    It is a replica's: a primary whose agent is slow to return is taken for lost.
    """
    one = replicas(herd)[0]
    programs.forget()
    done(herd, f"/nodes/{one}/restart")
    programs.wait(one, "on_restart replica")
    done(herd, f"/nodes/{one}/reload")
    programs.wait(one, "on_reload replica")
    herd.wait_stable(60)
    assert programs.lines(one) == ["on_restart replica", "on_reload replica"]
    programs.forget()
    herd.kill_agent(one)
    herd.wait_for(lambda: herd.ask("/health", name=one), "its next agent", deadline_s=30)
    herd.wait_stable(60)
    assert programs.lines(one) == []


def loses_machines(herd: LocalHerd, programs: Told, receiver: Receiving) -> None:
    """Who sends dies with its whole machine, the primary too where that is another node.

    What every node knows of the new epochs arrives, whoever was to send it.
    """
    first = str(herd.primary())
    sender, epoch = raft_leader(herd), herd.status()["epoch"]
    herd.kill_node(sender)
    if sender != first:
        herd.wait_for(lambda: raft_leader(herd) != sender, "another Raft leader", deadline_s=30)
        herd.restart_node(sender)
        herd.wait_stable(60)
        sender = first
        herd.kill_node(first)
    new = herd.wait_primary(other_than=first)
    programs.wait(new, "on_failover primary")
    programs.wait(new, "on_role_change primary")
    herd.restart_node(sender)
    herd.wait_stable(60)
    programs.wait(first, "on_start replica")
    programs.wait(first, "on_role_change replica")
    kinds = "&".join(f"kind={kind}" for kind in ("primary.*", "term.*", "leader.*"))
    known = herd.ask(f"/events?follow=0&limit=2000&level=debug&{kinds}", name=new)["events"]
    wanted = {event["id"] for event in known if event["epoch"] > epoch}
    assert len(wanted) >= 4
    herd.wait_for(
        lambda: wanted <= {event["id"] for event in receiver.of()},
        "the events of the failover at the receiver",
        deadline_s=60,
    )


def stopped_and_started(herd: LocalHerd, programs: Told) -> None:
    """A node that is stopped tells it before it ends."""
    other = replicas(herd)[0]
    programs.forget()
    herd.terminate_node(other)
    assert "on_stop replica" in programs.lines(other)
    herd.start_node(other)
    programs.wait(other, "on_start replica")
    herd.wait_stable(60)


@pytest.mark.full
@pytest.mark.parametrize("stable", ["debian-15"], indirect=True)
def test_a_hook_delays_a_promotion_and_no_longer_than_it_may(
    herd: LocalHerd, tmp_path: Path
) -> None:
    """The others wait while it runs, for longer than for a silent winner; at its deadline it ends.

    Where everybody refuses nobody is promoted, until a reload takes the hook away.
    """
    tmp_path.chmod(0o755)
    slow = script(tmp_path / "slow", "exec sleep 12")
    endless = script(tmp_path / "endless", "exec sleep 600")
    refuse = script(tmp_path / "refuse", "echo not today; exit 1")
    with hooked(herd):
        for command, deadline, kind in (
            (slow, "30s", "hook.done"),
            (endless, "2s", "hook.failed"),
        ):
            promoted_after(herd, command, deadline, kind)
        for name in herd.nodes:
            have(herd, name, {"pre_promote": {"command": [refuse], "deadline": "2s"}})
        refused_by_all(herd)
    herd.wait_stable(60)


def promoted_after(herd: LocalHerd, command: str, deadline: str, kind: str) -> None:
    """The primary dies; the winner is promoted when its hook has ended, and nobody else before."""
    for name in herd.nodes:
        have(herd, name, {"pre_promote": {"command": [command], "deadline": deadline}})
    first, epoch = str(herd.primary()), herd.status()["epoch"]
    herd.kill_node(first)
    new = herd.wait_primary(other_than=first)
    assert herd.status()["epoch"] == epoch + 1
    query = f"since=1m&kind={kind}&node={new}"
    [told] = wait_events(herd, new, query, lambda one: one["epoch"] == epoch + 1)
    assert told["fields"]["hook"] == "pre_promote"
    herd.restart_node(first)
    herd.wait_stable(60)


def refused_by_all(herd: LocalHerd) -> None:
    """Nobody leads until the hook is taken away."""
    first, epoch = str(herd.primary()), herd.status()["epoch"]
    herd.kill_node(first)
    left = [name for name in herd.nodes if name != first]

    def all_refused() -> bool:
        found = herd.ask("/events?follow=0&since=1m&kind=promotion.vetoed&level=error")["events"]
        return {one["node"] for one in found if one["epoch"] > epoch} == set(left)

    herd.wait_for(all_refused, "both refusals", deadline_s=60)
    assert herd.primary() is None
    why = herd.ask("/cluster/status", name=left[0])
    assert "not today" in json.dumps(why)
    for name in left:
        herd.reload_node(name, {"hooks": {"pre_promote": None}})
    herd.wait_primary(other_than=first)
