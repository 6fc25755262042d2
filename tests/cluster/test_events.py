"""Events, hooks and receivers of a real herd: one switchover, seen from everywhere, and a veto."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tending import done
from test_repair import replicas

from pgherd.proof import layout
from pgherd.proof.herd import LocalHerd

KEY = "k3y"
CALLBACKS = ("on_role_change", "on_switchover")


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


@pytest.mark.parametrize("stable", ["debian-15"], indirect=True)  # nothing of it is a version's
def test_a_switchover_is_seen_from_everywhere(
    herd: LocalHerd, receiver: Receiving, tmp_path: Path
) -> None:
    """Each node streams the same events in order; programs and a receiver are told; a veto counts.

    The first candidate's pre_promote refuses: nobody is promoted there, and another one leads.
    """
    tmp_path.chmod(0o755)
    first = str(herd.primary())
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
    epoch = herd.status()["epoch"]
    for name in herd.nodes:
        have(herd, name, {**hooks, "pre_promote": refuse} if name == refusing else hooks)
    streams = {name: Stream(herd, name) for name in herd.nodes}
    try:
        herd.ask(
            "/cluster/switchover?wait=0",
            method="POST",
            body={"candidate": refusing},
            timeout_s=15.0,
        )
        herd.wait_for(lambda: herd.status()["epoch"] > epoch + 1, "a second term", deadline_s=60)
        herd.wait_stable(60)
        leader = str(herd.primary())
        assert leader != refusing
        vetoed = herd.ask("/events?follow=0&kind=promotion.vetoed&since=5m", name=first)["events"]
        assert (vetoed[-1]["node"], vetoed[-1]["epoch"]) == (refusing, epoch + 1)
        assert "the rack is on fire" in vetoed[-1]["text"]
        # From whoever leads now to whoever may: everybody is told the same, in the same order.
        to = other if leader == first else first
        for stream in streams.values():
            stream.close()
        streams = {name: Stream(herd, name) for name in herd.nodes}
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

    def all_told() -> bool:
        lines = set(log.read_text().splitlines())
        wanted = {f"{name} on_switchover {role(name)} local {epoch}" for name in herd.nodes}
        wanted |= {f"{name} on_role_change {role(name)} local {epoch}" for name in (leader, to)}
        return wanted <= lines

    def role(name: str) -> str:
        return "primary" if name == to else "replica"

    herd.wait_for(all_told, "what the programs were told", deadline_s=20)
    wanted = ids[0][-1]
    herd.wait_for(
        lambda: any(one["id"] == wanted for one in receiver.of("primary.changed")),
        "what the receiver was told",
        deadline_s=30,
    )
    assert [one["id"] for one in receiver.of("primary.changed")].count(wanted) == 1
    assert [one["sender"] for one in receiver.of("promotion.vetoed")] == [refusing]
    text = "".join(place.log.read_text() for place in herd.places.values())
    assert f"secret={KEY}" not in text
    for name in herd.nodes:
        nothing = {"pre_promote": None, "webhook": [], **dict.fromkeys(CALLBACKS)}
        herd.reload_node(name, {"hooks": nothing})


def raft_leader(herd: LocalHerd) -> str:
    return str(herd.status()["raft_leader"])


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
    names = ("on_start", "on_stop", "on_restart", "on_reload", "on_role_change", "on_failover")
    hooks: dict[str, Any] = dict.fromkeys(names, told)
    hooks["webhook"] = {
        "name": "pager",
        "url": f"http://127.0.0.1:{receiver.server_port}/",
        "secret": KEY,
        "events": ["primary.*", "term.*", "leader.*", "work.*"],
        "level": "debug",
    }
    for name in herd.nodes:
        have(herd, name, hooks)

    def lines(name: str) -> list[str]:
        found = log.read_text().splitlines() if log.exists() else []
        return [line.partition(" ")[2] for line in found if line.startswith(f"{name} ")]

    def wait(name: str, line: str) -> None:
        herd.wait_for(lambda: line in lines(name), f"{line} at {name}", deadline_s=30)

    first = str(herd.primary())
    one, _ = replicas(herd)
    for name in herd.nodes:
        log.touch()
        assert set(lines(name)) <= {"on_reload replica", "on_reload primary"}  # the file was read
    log.write_text("")
    done(herd, f"/nodes/{one}/restart")
    wait(one, "on_restart replica")
    done(herd, f"/nodes/{one}/reload")
    wait(one, "on_reload replica")
    herd.wait_stable(60)
    assert lines(one) == ["on_restart replica", "on_reload replica"]
    # The agent alone dies: its server is as it was.
    log.write_text("")
    herd.kill_agent(first)
    herd.wait_for(lambda: herd.ask("/health", name=first), "its next agent", deadline_s=30)
    herd.wait_stable(60)
    assert lines(first) == []
    # Who sends dies with its whole machine, the primary too where that is another node.
    sender, epoch = raft_leader(herd), herd.status()["epoch"]
    herd.kill_node(sender)
    if sender != first:
        herd.wait_for(lambda: raft_leader(herd) != sender, "another Raft leader", deadline_s=30)
        herd.restart_node(sender)
        herd.wait_stable(60)
        sender = first
        herd.kill_node(first)
    new = herd.wait_primary(other_than=first)
    wait(new, "on_failover primary")
    wait(new, "on_role_change primary")
    herd.restart_node(sender)
    herd.wait_stable(60)
    wait(first, "on_start replica")
    wait(first, "on_role_change replica")
    # What every node knows of the new epochs has arrived, whoever was to send it.
    kinds = "&".join(f"kind={kind}" for kind in ("primary.*", "term.*", "leader.*"))
    known = herd.ask(f"/events?follow=0&limit=2000&level=debug&{kinds}", name=new)["events"]
    wanted = {event["id"] for event in known if event["epoch"] > epoch}
    assert len(wanted) >= 4
    herd.wait_for(
        lambda: wanted <= {event["id"] for event in receiver.of()},
        "the events of the failover at the receiver",
        deadline_s=60,
    )
    # A node that is stopped tells it before it ends.
    other = next(name for name in herd.nodes if name != herd.primary())
    log.write_text("")
    herd.terminate_node(other)
    assert "on_stop replica" in lines(other)
    herd.start_node(other)
    wait(other, "on_start replica")
    herd.wait_stable(60)
    for name in herd.nodes:
        herd.reload_node(name, {"hooks": {**dict.fromkeys(names), "webhook": []}})


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
    for command, deadline, kind in (
        (slow, "30s", "hook.done"),
        (endless, "2s", "hook.failed"),
    ):
        for name in herd.nodes:
            have(herd, name, {"pre_promote": {"command": [command], "deadline": deadline}})
        first, epoch = str(herd.primary()), herd.status()["epoch"]
        herd.kill_node(first)
        new = herd.wait_primary(other_than=first)
        assert herd.status()["epoch"] == epoch + 1
        [told] = [
            one
            for one in herd.ask(f"/events?follow=0&since=1m&kind={kind}&node={new}")["events"]
            if one["epoch"] == epoch + 1
        ]
        assert told["fields"]["hook"] == "pre_promote"
        herd.restart_node(first)
        herd.wait_stable(60)
    for name in herd.nodes:
        have(herd, name, {"pre_promote": {"command": [refuse], "deadline": "2s"}})
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
    settings = layout.read_settings(herd.places[first])
    layout.write_settings(
        herd.places[first], layout.merge(settings, {"hooks": {"pre_promote": None}})
    )
    herd.restart_node(first)
    herd.wait_stable(60)
