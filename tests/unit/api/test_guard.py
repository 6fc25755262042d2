"""Proves who may do what: roles, health checks open to all, and the limits of tries."""

from __future__ import annotations

import hashlib
import re

import pytest

from pgherd.api import gate
from pgherd.api.failures import Problem
from pgherd.api.guard import ADDRESSES_MAX, Access, ApiToken, Limiter, Role


def token(name: str, role: Role) -> ApiToken:
    return ApiToken(name=name, role=role, sha256=hashlib.sha256(name.encode()).hexdigest())


TOKENS = (token("vera", Role.VIEWER), token("otto", Role.OPERATOR), token("ada", Role.ADMIN))
ROUTES = [
    ("GET", "/api/v1/cluster/status", Role.VIEWER),
    ("GET", "/raft/state", Role.VIEWER),
    ("POST", "/api/v1/cluster/switchover?wait=0", Role.OPERATOR),
    ("POST", "/api/v1/failover?wait=0", Role.OPERATOR),
    ("POST", "/api/v1/tokens/join", Role.ADMIN),
    ("GET", "/raft/snapshot", Role.ADMIN),
]
OPEN = ["/primary", "/replica", "/read-only", "/health", "/liveness", "/readiness"]


@pytest.mark.parametrize(("method", "path", "role"), ROUTES)
@pytest.mark.parametrize("given", TOKENS)
def test_roles(herd, make_client, method, path, role, given):
    """Each role may do its own and what is below; nobody without a token."""
    client = make_client(herd, tokens=TOKENS)
    anybody = client.request(method, path)
    assert (anybody.status_code, anybody.json()["code"]) == (401, "unauthenticated")
    assert anybody.headers["www-authenticate"] == "Bearer"
    wrong = client.request(method, path, headers={"Authorization": "Bearer nobody"})
    assert wrong.status_code == 401
    answer = client.request(method, path, headers={"Authorization": f"Bearer {given.name}"})
    if given.role >= role:
        assert answer.status_code not in (401, 403)
    else:
        assert (answer.status_code, answer.json()["code"]) == (403, "not_authorised")


UNASKED = {"/metrics", "/openapi.json", "/join/ca", "/api/v1/join/ca", "/join", "/api/v1/join"}
"""Routes that ask for no token, beside the health checks: `join` has one of its own."""
PATRONIS = {"/patroni", "/cluster", "/history", "/config", "/failsafe"}
"""Looks that tools made for Patroni take without a token, as there."""


def test_no_route_forgets_to_ask(herd, make_client):
    """Every change needs more than a viewer, every look a token; whatever routes there are."""
    client = make_client(herd, tokens=TOKENS, access=Access(changes_per_minute=10_000))
    asked = 0
    for path, verbs in client.get("/openapi.json").json()["paths"].items():
        if path in UNASKED | gate.ALWAYS_OPEN:
            continue
        where = re.sub(r"{[^}]+}", "n1", path)
        for method in verbs:
            if method == "get" and path in PATRONIS:
                continue
            asked += 1
            answer = client.request(method, where, json={})
            assert answer.status_code == 401, f"{method} {path}: {answer.text}"
            if method != "get":
                viewer = {"Authorization": "Bearer vera"}
                answer = client.request(method, where, json={}, headers=viewer)
                assert answer.status_code == 403, f"{method} {path}: {answer.text}"
    assert asked > 50, "it was looked at"


@pytest.mark.parametrize("path", OPEN)
def test_health_checks_stay_open(herd, make_client, path):
    """Load balancers carry no token."""
    assert make_client(herd, tokens=TOKENS).get(path).status_code in (200, 503)


def test_tokens_can_be_replaced(herd, make_client):
    """After a reload the old token is worth nothing."""
    client = make_client(herd, tokens=TOKENS)
    as_vera = {"Authorization": "Bearer vera"}
    assert client.get("/api/v1/nodes", headers=as_vera).status_code == 200
    client.app.state.services.guard.replace(TOKENS[1:])
    assert client.get("/api/v1/nodes", headers=as_vera).status_code == 401


def test_the_asker_is_recorded(herd, make_client):
    """A change carries the token's name and the address, not the token."""
    client = make_client(herd, tokens=TOKENS)
    client.post("/api/v1/cluster/switchover?wait=0", headers={"Authorization": "Bearer otto"})
    assert herd.current.switchover.requested_by == "otto from testclient"


def test_the_limiter_counts_per_address_and_window():
    """The sixth try in a minute is refused with the time to wait; others are not touched."""
    now = [0.0]
    limiter = Limiter(most=5, window_s=60.0, clock=lambda: now[0])
    for second in range(5):
        now[0] = float(second)
        limiter.check("a")
    with pytest.raises(Problem) as refused:
        limiter.check("a")
    assert refused.value.status == 429
    assert refused.value.headers["Retry-After"] == "57"
    limiter.check("b")
    now[0] = 60.5
    limiter.check("a")


def test_the_limiter_forgets_the_oldest_addresses():
    """Its memory is bounded whoever knocks."""
    limiter = Limiter(most=1, window_s=60.0, clock=lambda: 0.0)
    for number in range(ADDRESSES_MAX + 10):
        limiter.check(str(number))
    assert len(limiter._tries) <= ADDRESSES_MAX + 1


def test_health_checks_are_never_limited(herd, client):
    """A limiter that also hits health checks takes the herd out (DESIGN.md 9)."""
    assert {client.get("/primary").status_code for _ in range(150)} == {200}


def test_changes_are_limited(herd, client):
    """100 a minute from one address."""
    codes = [
        client.post("/api/v1/cluster/switchover", json={"candidate": "n9"}).status_code
        for _ in range(101)
    ]
    assert codes == [404] * 100 + [429]
