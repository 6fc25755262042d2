"""Rights and certificates on a real herd: they count everywhere at once, and change as it runs."""

from __future__ import annotations

import contextlib
import http.client
import json
import resource
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tending import typed

from pgherd.api.connections import CONNECTIONS_MAX
from pgherd.proof.client import NoAnswer, ask
from pgherd.proof.crowd import Crowd, fetch, lag_below, loop_lags
from pgherd.proof.herd import LocalHerd

SOON_S = 30.0

wheel = pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)


def call(herd: LocalHerd, name: str, path: str, token: str, **more: Any) -> Any:
    """Ask one node with a token of one's own."""
    place = herd.places[name]
    return ask(place.host, place.ports.api, f"/api/v1{path}", token=token, **more)


def status_of(herd: LocalHerd, name: str, path: str, token: str, **more: Any) -> int:
    try:
        call(herd, name, path, token, **more)
    except NoAnswer as answer:
        return answer.status
    return 200


def pgherd(herd: LocalHerd, name: str, *words: str) -> str:
    """A command line at a node."""
    done = typed(herd, name, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def shown(herd: LocalHerd, name: str, place: Path) -> bytes:
    """The certificate that a node's peer port shows now."""
    files = place / name
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(place / "ca.crt")
    context.load_cert_chain(files / "node.crt", files / "node.key")
    where = herd.places[name]
    with (
        socket.create_connection((where.host, where.ports.raft), timeout=5) as plain,
        context.wrap_socket(plain) as wrapped,
    ):
        return wrapped.getpeercert(binary_form=True) or b""


@wheel
def test_a_token_counts_everywhere_until_it_is_revoked_everywhere(herd: LocalHerd) -> None:
    """Made at one node, taken by another, remembered by one that was killed; then by none.

    What it was used for is on record, and the clear token is in no file and no answer.
    """
    first, second, third = herd.nodes
    made = herd.ask("/tokens", name=first, method="POST", body={"role": "operator", "name": "ops"})
    token = made["token"]
    herd.wait_for(
        lambda: status_of(herd, third, "/nodes", token) == 200, "n3 knows it", deadline_s=SOON_S
    )
    assert status_of(herd, second, "/tokens", token) == 403
    body = {"candidate": "nobody"}
    assert status_of(herd, third, "/cluster/switchover", token, method="POST", body=body) == 404
    assert status_of(herd, third, "/tokens/join", token, method="POST", body={}) == 403

    def recorded() -> bool:
        found = herd.ask("/audit?who=ops", name=second)["audit"]
        return [(one["what"], one["result"], one["node"]) for one in found] == [
            ("POST /api/v1/cluster/switchover", "unknown_node", third)
        ]

    herd.wait_for(recorded, "the record of it", deadline_s=SOON_S)
    herd.kill_agent(third)
    herd.wait_for(
        lambda: status_of(herd, third, "/nodes", token) == 200,
        "n3 remembers it",
        deadline_s=SOON_S,
    )
    herd.wait_stable(60)
    assert json.loads(pgherd(herd, second, "audit", "--who", "ops", "--output", "json"))["audit"]
    assert "ops" in pgherd(herd, third, "token", "list")

    herd.ask("/tokens/ops", name=second, method="DELETE")
    for name in herd.nodes:
        assert status_of(herd, name, "/cluster/switchover", token, method="POST", body=body) == 401
        herd.wait_for(
            lambda name=name: status_of(herd, name, "/nodes", token) == 401,  # type: ignore[misc] # binds it
            f"{name} has heard of it",
            deadline_s=SOON_S,
        )


@wheel
@pytest.mark.fault(75)
def test_a_certificate_is_renewed_under_everybodys_connections(herd: LocalHerd) -> None:
    """No peer is refused, no session ends, no replica loses its stream; new ones see the new.

    Files that peers would refuse are warned of, and not used.
    """
    primary = herd.wait_primary()
    logs = {name: place.log.stat().st_size for name, place in herd.places.items()}
    streams = "SELECT pid FROM pg_stat_replication ORDER BY 1"
    before = herd.query(primary, streams)
    old = {name: shown(herd, name, herd.directory) for name in herd.nodes}
    with psycopg.connect(herd.dsn_node(primary), autocommit=True) as session:
        [[pid]] = session.execute("SELECT pg_backend_pid()").fetchall()
        for name in herd.nodes:
            soon = ("--ttl", "20d") if name == primary else ()
            said = pgherd(herd, name, "pki", "renew", *soon)
            assert "is good until" in said
        for name in herd.nodes:
            herd.wait_for(
                lambda name=name: shown(herd, name, herd.directory) != old[name],  # type: ignore[misc] # binds it
                f"the new certificate of {name}",
                deadline_s=SOON_S,
            )
        assert session.execute("SELECT pg_backend_pid()").fetchall() == [(pid,)]

    def warned(text: str) -> bool:
        return any(text in one and f"{primary}: " in one for one in herd.status()["warnings"])

    herd.wait_for(lambda: warned("ends in 19 days"), "a warning of the end", deadline_s=SOON_S)
    for name, began in logs.items():
        said = herd.places[name].log.read_bytes()[began:].decode()
        cut = [line for line in said.splitlines() if "peer." in line and "certificate" in line]
        assert not cut, cut
    assert herd.query(primary, streams) == before

    files = herd.places[primary].directory
    kept, good = (files / "node.crt").read_bytes(), shown(herd, primary, herd.directory)
    (files / "node.crt").write_bytes((herd.directory / "ca.crt").read_bytes())
    herd.wait_for(
        lambda: warned("cannot be used") or warned("is refused"), "a warning", deadline_s=SOON_S
    )
    (files / "node.crt").write_bytes(kept)
    assert shown(herd, primary, herd.directory) == good
    pgherd(herd, primary, "pki", "renew")
    herd.wait_for(lambda: not warned("certificate"), "no warning any more", deadline_s=SOON_S)
    herd.wait_stable(60)


@pytest.fixture
def many_files() -> Iterator[None]:
    """As many open files as this process may have, for as long as the test is."""
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


@wheel
@pytest.mark.full
@pytest.mark.usefixtures("many_files")
def test_a_crowd_at_the_api_does_not_hold_the_agent_up(herd: LocalHerd) -> None:
    """1,000 idle and 200 slow connections: the loop wakes in time, and health checks get through.

    The bound is generous; `./dev bench api` has the figures.
    """
    name = herd.wait_primary()
    place = herd.places[name]
    before, term = loop_lags(place.host, place.ports.api), herd.status()["epoch"]
    crowd = Crowd(place.host, place.ports.api)
    try:
        crowd.come(idle=1000, slow=200)
        crowd.stay(1)
        assert crowd.left() <= CONNECTIONS_MAX
        for _ in range(20):
            crowd.stay(1)
            fetch(place.host, place.ports.api, "/liveness")
        assert lag_below(before, loop_lags(place.host, place.ports.api), 0.99) <= 0.25
    finally:
        crowd.leave()
    assert herd.status()["epoch"] == term


def bodies(text: str) -> list[str]:
    """The lines of a private key that are it."""
    return [line for line in text.splitlines() if len(line) > 40 and not line.startswith("-")]


def secrets_of(herd: LocalHerd) -> set[str]:
    """Everything that nobody may be told, as it is now."""
    known = {herd.secrets.superuser, herd.secrets.replication, herd.secrets.token}
    keys = [herd.directory / "ca.key", *herd.directory.glob("n*/node.key")]
    for key in keys:
        known.update(bodies(key.read_text()))
    for book in herd.directory.glob("n*/raft/secrets.json"):
        known.update(json.loads(book.read_text()).values())
    return known


def told(herd: LocalHerd) -> dict[str, str]:
    """All that logs, the journal, the ledger, the API and the list of processes say."""
    places = [
        "n*/pgherd.log",
        "n*/pg/postgresql.log",
        "n*/raft/events.jsonl",
        "n*/raft/store.sqlite*",
    ]
    files = [path for place in places for path in herd.directory.glob(place) if path.is_file()]
    assert len(files) >= 4 * len(herd.nodes), files
    found = {str(path): path.read_bytes().decode("latin-1") for path in files}
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found[str(line)] = line.read_text(errors="replace")
    host, port = herd.places[herd.nodes[0]].host, herd.places[herd.nodes[0]].ports.api
    contract = json.loads(fetch(host, port, "/openapi.json"))
    looks = [path for path, verbs in contract["paths"].items() if "get" in verbs]
    assert len(looks) > 20, looks
    for path in looks:
        where = path.replace("{node_id}", herd.nodes[0])
        connection = http.client.HTTPConnection(host, port, timeout=5)
        if "{" in where:
            continue
        headers = {"Authorization": f"Bearer {herd.secrets.token}"}
        connection.request("GET", where, headers=headers)
        answer = connection.getresponse()
        goes_on = "event-stream" in str(answer.getheader("content-type"))
        with contextlib.suppress(TimeoutError):  # what goes on need not say anything now
            text = answer.read1(1 << 22) if goes_on else answer.read(1 << 22)
            found[path] = text.decode("latin-1")
        connection.close()
    return found


@wheel
def test_no_secret_is_told(herd: LocalHerd) -> None:
    """After all that makes, mistakes and changes them: in no log, answer, ledger or process."""
    name = herd.wait_primary()
    other = next(one for one in herd.nodes if one != name)
    post = {"method": "POST", "timeout_s": 30}
    token = herd.ask("/tokens", **post, body={"role": "admin", "name": "told"})["token"]
    wrong = "wrong-token-that-is-somebodys-password"
    assert status_of(herd, other, "/tokens", wrong, **post, body={"role": wrong}) == 401
    assert status_of(herd, other, f"/tokens?token={wrong}", token, method="GET") == 200
    assert status_of(herd, other, "/passwords/rotate", token, **post, body={"which": wrong}) == 422
    assert status_of(herd, other, "/nodes", wrong) == 401
    for which in ("replication", "rewind"):
        herd.ask("/passwords/rotate?wait=20", **post, body={"which": which, "overlap": "0s"})
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(make_conninfo(herd.dsn_node(name), password=wrong))
    pgherd(herd, other, "pki", "renew")
    herd.kill_agent(other)
    herd.wait_for(lambda: herd.ask("/health", name=other), "its next agent", deadline_s=SOON_S)
    herd.ask("/tokens/told", method="DELETE", timeout_s=10)

    def ended() -> bool:
        return all(one["stage"] == "ended" for one in herd.ask("/passwords")["passwords"])

    herd.wait_for(ended, "the former passwords' end", deadline_s=SOON_S)
    herd.wait_stable(60)
    hidden = secrets_of(herd) | {token, wrong}
    assert len(hidden) > 8
    found = told(herd)
    assert sum("token.made" in text for text in found.values()) > len(herd.nodes), "it was searched"
    for where, text in found.items():
        leaked = [secret[:4] + "..." for secret in hidden if secret in text]
        assert not leaked, f"{where} tells {leaked}"


@pytest.mark.full
@pytest.mark.parametrize("stable", ["debian-15"], indirect=True)
def test_tls_comes_to_servers_that_run(stable: Any) -> None:
    """In two steps, each by a reload: offered, then required. No stream and no session ends.

    A switchover then has members check each other; a certificate made anew is shown by all.
    """
    with LocalHerd(3, postgres_bin=stable.postgres_bin) as herd:
        herd.start()
        herd.wait_stable(90)
        comes_to_servers_that_run(herd)


def comes_to_servers_that_run(herd: LocalHerd) -> None:
    primary = herd.wait_primary()
    streams = "SELECT pid, ssl FROM pg_stat_replication JOIN pg_stat_ssl USING (pid) ORDER BY 1"
    before = herd.query(primary, streams)
    with psycopg.connect(herd.dsn_node(primary), autocommit=True) as session:
        for required in (False, True):
            for name in herd.nodes:
                place = herd.places[name].directory
                tls = {"cert": str(place / "node.crt"), "key": str(place / "node.key")}
                tls |= {"ca": str(herd.directory / "ca.crt"), "required": required}
                herd.reload_node(name, {"postgresql": {"tls": tls}})
            for name in herd.nodes:
                herd.wait_for(
                    lambda name=name: herd.query(name, "SHOW ssl") == [("on",)],  # type: ignore[misc] # binds it
                    f"{name} offers TLS",
                    deadline_s=SOON_S,
                )
        assert session.execute("SELECT 1").fetchall() == [(1,)]
    assert herd.query(primary, streams) == before
    other = next(name for name in herd.nodes if name != primary)
    herd.switchover(to=other)
    herd.wait_primary(other_than=primary)
    herd.wait_stable(60)
    herd.wait_for(
        lambda: [ssl for _, ssl in herd.query(other, streams)] == [True, True],
        "streams by TLS",
        deadline_s=SOON_S,
    )
    hba = (herd.places[other].data / "pgherd_hba.conf").read_text()
    assert "hostssl replication" in hba
    pgherd(herd, other, "pki", "renew")
    serial = herd.places[other].directory / "node.crt"
    copy = herd.places[other].data.parent / "tls" / "node.crt"
    herd.wait_for(
        lambda: copy.read_bytes() == serial.read_bytes(), "the copy of it", deadline_s=SOON_S
    )
    herd.wait_stable(60)


@wheel
@pytest.mark.full
def test_who_lacks_the_authoritys_key_has_its_request_signed_by_a_member(herd: LocalHerd) -> None:
    """As a witness does: its key stays where it is, and another node's agent signs."""
    herd.wait_stable(60)
    name = herd.nodes[-1]
    place, old = herd.places[name].directory, shown(herd, name, herd.directory)
    (place / "ca.crt").write_bytes((herd.directory / "ca.crt").read_bytes())
    herd.reload_node(name, {"raft": {"tls": {"ca": str(place / "ca.crt")}}})
    herd.kill_agent(name)
    herd.wait_for(
        lambda: herd.ask("/health", name=name)["status"] == "ok", "its agent", deadline_s=SOON_S
    )
    herd.wait_stable(60)
    key = (place / "node.key").read_bytes()
    assert "is good until" in pgherd(herd, name, "pki", "renew", "--ttl", "365d")
    assert (place / "node.key").read_bytes() != key
    herd.wait_for(
        lambda: shown(herd, name, herd.directory) != old, "its certificate", deadline_s=SOON_S
    )
    herd.reload_node(name, {"raft": {"tls": {"ca": str(herd.directory / "ca.crt")}}})
    herd.wait_stable(60)
