"""Proves what stands around the dashboard: its files and what a browser may do with them, who the
API takes a caller for, all proxies in one answer, and what a switchover would do."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from pgherd.api import dashboard
from pgherd.api.guard import Access, ApiToken, Role
from pgherd.api.herd import ProxySeen
from pgherd.model.ids import NodeId
from pgherd.model.observation import Server
from pgherd.model.standbycluster import Following, Remote
from pgherd.route.poolreport import PoolCounters, PoolReport
from pgherd.route.poolsteps import Seen

ROOT = Path(__file__).resolve().parents[3]
N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
BUSY = PoolReport(
    database="shop",
    user="app",
    server="n1",
    size=20,
    reserve=5,
    seen=Seen(
        clients_active=20,
        clients_waiting=4,
        servers_active=20,
        servers_idle=0,
        servers_opening=0,
        servers_resetting=0,
        longest_wait_ms=120,
        is_paused=False,
        lent=900,
        waited=70,
        waited_ms=800,
        opened=25,
        not_opened=0,
        closed=5,
        refused=0,
    ),
)
FILES = sorted(path.name for path in dashboard.FILES.iterdir() if path.is_file())


def token(name: str, role: Role) -> ApiToken:
    return ApiToken(name, role, hashlib.sha256(name.encode()).hexdigest())


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_served_as_what_it_is(client, name):
    """With a policy that allows this node's own scripts and no other; 304 for whoever has it."""
    answer = client.get(f"/ui/{name}")
    assert answer.status_code == 200
    assert answer.content == (dashboard.FILES / name).read_bytes()
    assert answer.headers["content-type"] == dashboard.TYPES[Path(name).suffix]
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    known = {"If-None-Match": answer.headers["etag"]}
    assert client.get(f"/ui/{name}", headers=known).status_code == 304


def test_the_page_is_at_its_directory(client):
    """`/ui` leads there, for names in the page are relative; nothing else of the disk is served."""
    assert client.get("/ui/").content == (dashboard.FILES / "index.html").read_bytes()
    led = client.get("/ui", follow_redirects=False)
    assert (led.status_code, led.headers["location"]) == (308, "ui/")
    for path in ("/ui/nothing.js", "/ui/../dashboard.py", "/ui/%2e%2e%2fdashboard.py"):
        assert client.get(path).status_code == 404


def test_the_page_is_open_and_what_it_shows_is_not(herd, make_client):
    """A browser sends no token for a page; the data needs one."""
    client = make_client(herd, tokens=[token("anna", Role.VIEWER)])
    assert client.get("/ui/").status_code == 200
    assert client.get("/api/v1/nodes").status_code == 401


def test_nothing_outside_is_referred_to():
    """No address of another host, no markup made of text, no script or style in the page."""
    for name in FILES:
        text = (dashboard.FILES / name).read_text()
        found = re.findall(
            r"(?:https?:)?//[\w.-]+\.\w+", re.sub(r"http://www\.w3\.org/\S+", "", text)
        )
        assert not found, (name, found)
        unsafe = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
        assert not re.search(unsafe, text), name
    page = (dashboard.FILES / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bon\w+=|\bstyle=", page)


def test_every_file_is_part_of_the_package():
    """What setuptools leaves out would be missing where pgherd is installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["pgherd"]
    package = dashboard.FILES.parents[1]
    packed = {path for pattern in patterns for path in package.glob(pattern)}
    assert packed >= set(dashboard.FILES.iterdir())


def test_every_module_that_is_imported_is_there():
    """An import of a name that no module exports is a blank page."""
    exports, wanted = {}, []
    for name in FILES:
        if not name.endswith(".js"):
            continue
        text = (dashboard.FILES / name).read_text()
        made = r"export (?:async )?(?:function|const|class) (\w+)"
        exports[name] = set(re.findall(made, text))
        for names, source in re.findall(r"import \{([^}]*)\} from \"\./([\w.]+)\"", text):
            wanted += [(name, source, one.strip()) for one in names.split(",") if one.strip()]
    missing = [one for one in wanted if one[2] not in exports.get(one[1], ())]
    assert wanted
    assert not missing


# --- who asks ------------------------------------------------------------------------------------


def test_a_caller_is_told_who_it_is(herd, make_client):
    """Its name and role by token; 401 for a token that nobody knows, and without one."""
    client = make_client(herd, tokens=[token("anna", Role.OPERATOR)])
    known = client.get("/api/v1/whoami", headers=bearer("anna")).json()
    assert known == {"name": "anna", "role": "operator", "node": "n1", "has_rights": True}
    assert client.get("/api/v1/whoami", headers=bearer("nobody")).status_code == 401
    assert client.get("/api/v1/whoami").status_code == 401


def test_without_rights_everybody_has_all(herd, client, make_client):
    """Where no token was ever made; with open reads a stranger is a viewer."""
    assert client.get("/api/v1/whoami").json()["role"] == "admin"
    assert client.get("/api/v1/whoami").json()["has_rights"] is False
    access = Access(protect_reads=False)
    reads = make_client(herd, tokens=[token("anna", Role.ADMIN)], access=access)
    known = reads.get("/api/v1/whoami").json()
    assert (known["name"], known["role"], known["has_rights"]) == ("anybody", "viewer", True)


# --- proxies -------------------------------------------------------------------------------------


def test_all_proxies_are_in_one_answer(herd, client):
    """Each asked for at its own node; who is not heard is not waited for."""
    herd.own.proxies[N1] = ProxySeen(
        healthy=True,
        sessions={"primary:5432": {"n1": 3}, "replica:5433": {"n2": 2, "n1": 1}},
        held=2,
        engine="uvloop",
        pools=PoolCounters(pools=(BUSY,)),
    )
    herd.own.silent.add(N2)
    herd.silence(N3)
    found = {one["node"]: one for one in client.get("/api/v1/proxies").json()["proxies"]}
    assert found["n1"]["active_connections"] == 6
    assert found["n1"]["by_backend"] == {"n1": 4, "n2": 2}
    assert found["n1"]["by_listener"] == {"primary:5432": 3, "replica:5433": 3}
    [pool] = found["n1"]["pools"]
    assert (pool["user"], pool["size"], pool["clients_waiting"]) == ("app", 20, 4)
    assert (found["n1"]["held"], found["n1"]["problem"]) == (2, "")
    assert found["n2"]["problem"] == "no connection to n2"
    assert found["n3"]["problem"] == "its node does not report"
    assert found["n3"]["active_connections"] is None
    assert [node for node, _ in herd.own.asked] == [N1, N2]


def test_a_proxy_that_does_not_run_is_told(client):
    """A node without a proxy's report says so."""
    [first, *_] = client.get("/api/v1/proxies").json()["proxies"]
    assert first["problem"] == "its proxy does not run"


# --- plan of a switchover ------------------------------------------------------------------------


def test_a_plan_names_who_would_take_over(herd, client):
    """By the deciders' own preference; nothing is asked of the ledger."""
    plan = client.post("/api/v1/cluster/switchover/plan").json()
    assert (plan["ok"], plan["old_primary"], plan["why_not"]) == (True, "n1", "")
    assert plan["new_primary"] == plan["candidates"][0]["node"]
    assert {one["node"] for one in plan["candidates"]} == {"n2", "n3"}
    assert "nothing acknowledged is lost" in " ".join(plan["steps"])
    assert f"epoch {plan['epoch'] + 1}" in " ".join(plan["steps"])
    assert not herd.submitted


def test_a_plan_says_who_cannot(herd, client):
    """Rule 601's own reason, for each; with nobody fit there is nothing to begin."""
    herd.report_server(N2, state=Server.STOPPED)
    plan = client.post("/api/v1/cluster/switchover/plan", json={"candidate": "n2"}).json()
    assert (plan["ok"], plan["new_primary"], plan["steps"]) == (False, None, [])
    assert plan["why_not"] == "n2 runs no standby (stopped)"
    plan = client.post("/api/v1/cluster/switchover/plan").json()
    assert (plan["ok"], plan["new_primary"]) == (True, "n3")
    plan = client.post("/api/v1/cluster/switchover/plan", json={"candidate": "n1"}).json()
    assert plan["why_not"] == "n1 is the primary"
    assert client.post("/api/v1/cluster/switchover/plan", json={"to": "n9"}).status_code == 404


def test_a_plan_is_for_operators_while_there_is_a_quorum(herd, make_client):
    """It is asked with POST and changes nothing; a standby cluster has nothing to hand over."""
    path = "/api/v1/cluster/switchover/plan"
    tokens = [token("eve", Role.VIEWER), token("anna", Role.OPERATOR)]
    client = make_client(herd, tokens=tokens)
    assert client.post(path, headers=bearer("eve")).status_code == 403
    assert client.post(path, headers=bearer("anna")).status_code == 200
    herd.has_quorum = False
    answer = client.post(path, headers=bearer("anna"))
    assert (answer.status_code, answer.json()["code"]) == (503, "no_quorum")
    herd.has_quorum = True
    follows = Following(Remote((("far", 5432),)))
    herd.current = msgspec.structs.replace(herd.current, follows=follows)
    answer = client.post(path, headers=bearer("anna"))
    assert (answer.status_code, answer.json()["code"]) == (412, "standby_cluster")
