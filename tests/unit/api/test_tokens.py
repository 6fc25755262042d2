"""Proves the ledger's tokens: made once, known by their hash, worth nothing once revoked or over.

And the audit record, the address list, and reads that are open where that is wanted.
"""

from __future__ import annotations

import hashlib
import ipaddress

import msgspec
import pytest

from pgherd.api.gate import Asked
from pgherd.api.guard import Access, ApiToken, Guard, Role
from pgherd.ledger.commands import MakeToken
from pgherd.ledger.levels import LEVEL

OF_FILE = ApiToken("root", Role.ADMIN, hashlib.sha256(b"root").hexdigest())
AS_ROOT = {"Authorization": "Bearer root"}


@pytest.fixture
def upgraded(herd):
    herd.current = msgspec.structs.replace(herd.current, level=LEVEL)
    return herd


@pytest.fixture
def client(upgraded, make_client):
    return make_client(upgraded, tokens=(OF_FILE,))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def make(client, role: str, **more: str):
    return client.post("/api/v1/tokens", json={"role": role, **more}, headers=AS_ROOT)


def test_a_token_is_shown_once_and_counts_everywhere(upgraded, client, make_client):
    """Its hash is all that the ledger has; every node knows it, and what it may do."""
    answer = make(client, "operator", name="ops", ttl="90d")
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    made = answer.json()
    token = made["token"]
    assert token.startswith("pgherd_")
    assert (made["name"], made["role"], made["is_expired"]) == ("ops", "operator", False)
    assert token not in repr(upgraded.current)
    assert token not in client.get("/api/v1/tokens", headers=AS_ROOT).text
    other = make_client(upgraded, tokens=(OF_FILE,))
    assert other.get("/api/v1/nodes", headers=bearer(token)).status_code == 200
    assert other.post("/api/v1/tokens/join", headers=bearer(token)).status_code == 403
    other.post("/api/v1/cluster/switchover?wait=0", headers=bearer(token))
    assert upgraded.current.switchover.requested_by == "ops from testclient"
    gone = other.delete("/api/v1/tokens/ops", headers=AS_ROOT)
    assert (gone.status_code, gone.json()["id"]) == (200, made["id"])
    assert client.get("/api/v1/nodes", headers=bearer(token)).status_code == 401
    assert other.delete("/api/v1/tokens/ops", headers=AS_ROOT).status_code == 404


def test_a_token_ends_by_itself(upgraded, client):
    """By the clock of whoever is asked."""
    token = make(client, "viewer", ttl="1h").json()["token"]
    upgraded.unix_ms += 3_599_000
    assert client.get("/api/v1/nodes", headers=bearer(token)).status_code == 200
    upgraded.unix_ms += 1_000
    assert client.get("/api/v1/nodes", headers=bearer(token)).status_code == 401
    [_, shown] = client.get("/api/v1/tokens", headers=AS_ROOT).json()["tokens"]
    assert shown["is_expired"] is True


def test_a_change_with_a_kept_token_asks_the_quorum_first(upgraded, client):
    """This node may not have heard that it was revoked; the file's own tokens need no quorum."""
    token = make(client, "admin").json()["token"]
    upgraded.has_quorum = False
    refused = client.post("/api/v1/tokens/join", headers=bearer(token))
    assert (refused.status_code, refused.json()["code"]) == (503, "no_quorum")
    assert client.get("/api/v1/nodes", headers=bearer(token)).status_code == 200

    async def hears_of_it(*, timeout_s: float) -> bool:
        upgraded.current = msgspec.structs.replace(
            upgraded.current, rights=msgspec.structs.replace(upgraded.current.rights, tokens=())
        )
        return True

    upgraded.consistent = hears_of_it
    assert client.post("/api/v1/tokens/join", headers=bearer(token)).status_code == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"role": "god"}, 422),
        ({"role": "viewer", "name": "a b"}, 422),
        ({"role": "viewer", "name": "root"}, 409),
        ({"role": "viewer", "ttl": "soon"}, 422),
    ],
)
def test_wishes_that_are_none(client, body, status):
    assert client.post("/api/v1/tokens", json=body, headers=AS_ROOT).status_code == status


def test_nobody_is_locked_out(upgraded, make_client):
    """The first token of all is an admin's, and the last admin's stays; the file's stay anyway."""
    client = make_client(upgraded)
    first = client.post("/api/v1/tokens", json={"role": "viewer"})
    assert (first.status_code, first.json()["code"]) == (412, "no_admin")
    made = client.post("/api/v1/tokens", json={"role": "admin", "name": "ann"}).json()
    assert client.get("/api/v1/nodes").status_code == 401, "nobody is anybody any more"
    last = client.delete("/api/v1/tokens/ann", headers=bearer(made["token"]))
    assert (last.status_code, last.json()["code"]) == (412, "last_admin")
    file = make_client(upgraded, tokens=(OF_FILE,))
    kept = file.delete("/api/v1/tokens/root", headers=AS_ROOT)
    assert (kept.status_code, kept.json()["code"]) == (412, "of_file")
    assert file.delete("/api/v1/tokens/ann", headers=AS_ROOT).status_code == 200


def test_who_has_heard_of_nothing_lets_nobody_change_anything(upgraded, make_client):
    """A node that has just started cannot know yet whether there are tokens."""
    client = make_client(upgraded, knows=lambda: False)
    assert client.get("/raft/peers").status_code == 200
    refused = client.post("/api/v1/cluster/switchover")
    assert (refused.status_code, refused.json()["code"]) == (503, "not_ready")


def test_every_change_is_told_and_no_question(upgraded, make_client):
    """Who, from where, what, how it ended: also of who may not; never a body or a query."""
    told: list[Asked] = []
    client = make_client(upgraded, tokens=(OF_FILE,), on_change=told.append)
    client.get("/api/v1/nodes", headers=AS_ROOT)
    client.post("/api/v1/failover/plan", headers=AS_ROOT)
    assert told == []
    path = "/api/v1/cluster/switchover?wait=0"
    client.post(path, headers=AS_ROOT | {"X-Request-ID": "r1"})
    client.post(path, json={"candidate": "n9"}, headers=AS_ROOT)
    client.post(path, headers=bearer("nobody"))
    client.post("/api/v1/tokens", content=b"{", headers=AS_ROOT)
    client.delete("/api/v1/replication/slots/plan", headers=AS_ROOT)
    said = [
        (one.caller.name if one.caller else None, one.what, one.status, one.code) for one in told
    ]
    switchover = "POST /api/v1/cluster/switchover"
    assert said == [
        ("root", switchover, 202, ""),
        ("root", switchover, 404, "unknown_node"),
        (None, switchover, 401, "unauthenticated"),
        ("root", "POST /api/v1/tokens", 422, "invalid"),
        ("root", "DELETE /api/v1/replication/slots/plan", 404, "unknown_slot"),
    ]
    assert (told[0].request_id, told[0].address) == ("r1", "testclient")


def test_reads_may_be_open_and_metrics_closed(upgraded, make_client):
    """Changes never are; a wrong token is refused, not overlooked."""
    open_reads = Access(protect_reads=False)
    client = make_client(upgraded, tokens=(OF_FILE,), access=open_reads)
    assert client.get("/api/v1/nodes").status_code == 200
    assert client.get("/api/v1/nodes", headers=bearer("wrong")).status_code == 401
    assert client.post("/api/v1/cluster/switchover").status_code == 401
    assert client.get("/api/v1/audit").status_code == 401
    closed = make_client(upgraded, tokens=(OF_FILE,), access=Access(protect_metrics=True))
    assert closed.get("/metrics").status_code == 401
    assert closed.get("/primary").status_code == 200


@pytest.mark.parametrize(
    ("address", "may"),
    [
        ("10.0.1.7", True),
        ("::ffff:10.0.1.7", True),
        ("fd00::5", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("10.0.2.1", False),
        ("fe80::1%eth0", False),
        ("testclient", False),
    ],
)
def test_the_list_of_addresses(address, may):
    """Mapped addresses are what they map; this machine always may; what is none may not."""
    networks = tuple(ipaddress.ip_network(text) for text in ("10.0.1.0/24", "fd00::/8"))
    assert Guard((), access=Access(allow=networks)).lets_in(address) is may


def test_who_is_not_on_the_list_gets_health_checks_only(upgraded, make_client):
    allow = (ipaddress.ip_network("10.0.0.0/8"),)
    client = make_client(upgraded, access=Access(allow=allow))
    answer = client.get("/api/v1/nodes")
    assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed")
    assert client.get("/metrics").status_code == 403
    assert client.post("/api/v1/join", json={}).status_code == 403
    assert client.get("/primary").status_code == 200
    assert client.options("/readiness").status_code == 200


def test_heads_are_limited(client):
    long = {f"X-{number}": "x" * 1000 for number in range(17)}
    answer = client.get("/api/v1/nodes", headers=AS_ROOT | long)
    assert (answer.status_code, answer.json()["code"]) == (431, "too_large")
    assert client.get("/api/v1/nodes", headers=AS_ROOT | {"X-1": "x" * 1000}).status_code == 200


def test_the_rate_is_the_operators_to_say(upgraded, make_client):
    """2 a minute, then none; 0 limits nothing."""
    for most, codes in ((2, [404, 404, 429]), (0, [404] * 3)):
        client = make_client(upgraded, access=Access(changes_per_minute=most))
        body = {"candidate": "n9"}
        answers = [client.post("/api/v1/cluster/switchover", json=body) for _ in range(3)]
        assert [answer.status_code for answer in answers] == codes
    assert "retry-after" not in answers[-1].headers


def test_a_members_certificate_is_signed_for_admins_only(upgraded, client):
    """Elsewhere if this node has no key; a name that is no member's is refused."""
    body = {"node": "n2", "csr": "request", "days": 30}
    none = client.post("/api/v1/pki/sign", json=body, headers=AS_ROOT)
    assert (none.status_code, none.json()["code"]) == (412, "not_signed")
    upgraded.signer = lambda node, csr, days: (f"{node} {csr} {days}", "authority")
    done = client.post("/api/v1/pki/sign", json=body, headers=AS_ROOT)
    assert done.json() == {"certificate": "n2 request 30", "ca": "authority"}
    stranger = client.post("/api/v1/pki/sign", json=body | {"node": "n9"}, headers=AS_ROOT)
    assert (stranger.status_code, stranger.json()["code"]) == (404, "unknown_node")
    upgraded.must(MakeToken("t", "ops", Role.OPERATOR, hashlib.sha256(b"o").hexdigest(), "root"))
    assert client.post("/api/v1/pki/sign", json=body, headers=bearer("o")).status_code == 403
