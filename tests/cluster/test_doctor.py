"""A check-up of a real herd: well when it is, red where something was broken, by whichever node is
asked; without a daemon too. Many faults at once, so that one herd is enough."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from checkups import DOCTOR_S, WAIT_S, changed, checkup, until_red, written_back
from tending import done, typed

from pgherd.proof.herd import LocalHerd


@pytest.fixture
def undo() -> Iterator[ExitStack]:
    """What brings the herd back, the last first, all of it whatever fails."""
    with ExitStack() as steps:
        yield steps


WELL = (
    *("herd.quorum", "herd.primary", "herd.split_brain", "herd.nodes_answer", "herd.members_well"),
    *("herd.voter_to_spare", "herd.synchronous", "herd.failover_ready", "herd.failover_choice"),
    *("herd.failover_enabled", "herd.paused", "herd.stopped", "herd.matched_parameters"),
    *("herd.versions", "herd.level"),
)
WELL_EACH = (
    *("agent.running", "port.raft", "port.api", "port.postgresql", "port.proxy", "net.firewall"),
    *("clock.skew", "login.replication", "pg.running", "pg.fsync", "pg.wal_log_hints"),
    *("files.secrets", "config.file", "config.in_force", "certificate.use", "hba.trust"),
    *("security.api_guard", "proxy.healthy"),
)


@pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)
def test_many_faults_of_a_herd_at_once(herd: LocalHerd, undo: ExitStack) -> None:
    """First well in everything that matters; then each fault is red at the node that has it."""
    primary = str(herd.primary())
    via, other = (name for name in herd.nodes if name != primary)

    def well() -> bool:
        found = checkup(herd, via=via)
        bad = [
            one["text"]
            for (check, _), one in found.items()
            if check in (*WELL, *WELL_EACH) and one["status"] != "ok"
        ]
        lacking = [c for c in WELL if (c, "") not in found]
        lacking += [(c, n) for c in WELL_EACH for n in herd.nodes if (c, n) not in found]  # type: ignore[misc] # names of both kinds
        if bad or lacking:
            print("not well yet:", bad, lacking)
        return not (bad or lacking)

    herd.wait_for(well, "a herd that is well", deadline_s=WAIT_S)
    ready = checkup(herd, via=via, query="?quick=1")["herd.failover_ready", ""]["text"]
    assert "would be elected" in ready
    assert "writes would wait for about" in ready
    assert "no acknowledged commit would be lost" in ready
    break_much(herd, undo, primary=primary, via=via, other=other)
    found = until_red(
        herd,
        via,
        *(("herd.paused", ""), ("herd.tokens", ""), ("herd.parameters_differ", "")),
        *(("login.replication", via), ("login.replication", other)),
        *(("herd.failover_enabled", ""), ("agent.log_level", via), ("security.rate_limit", via)),
        *(
            ("security.reads", via),
            ("config.file", other),
            ("config.in_force", primary),
            ("herd.failover_choice", ""),
            ("herd.failover_ready", ""),
        ),
        query="",
    )
    assert "not permitted to log in" in found["login.replication", via]["text"]
    assert "work_mem" in found["herd.parameters_differ", ""]["text"]
    assert "nmae" in found["config.file", other]["text"]
    quick = checkup(herd, via=via, query=f"?node={via}&quick=1")
    assert {node for _, node in quick} == {via}
    assert ("login.replication", via) not in quick
    shown = typed(herd, via, "doctor", "--output", "json", "--quick")
    assert shown.returncode == 1, shown.stderr
    assert json.loads(shown.stdout)["counts"]["critical"] >= 1
    told = typed(herd, via, "doctor", "--quick")
    assert "warning herd.paused" in told.stdout
    assert "to mend it: pgherd resume" in told.stdout


def break_much(herd: LocalHerd, undo: ExitStack, *, primary: str, via: str, other: str) -> None:
    """As people and time do it."""

    def post(path: str, body: dict[str, Any]) -> Any:
        return herd.ask(path, name=via, method="POST", body=body, timeout_s=15.0)

    undo.callback(written_back(herd))
    changes = {
        "failover": {"enabled": False},
        "log": {"level": "debug"},
        "api": {"rate_limit": 0, "protect_reads": False},
        "node": {"tags": {"nofailover": True}},
    }
    changed(herd, via, changes)
    changed(herd, other, {"node": {"nmae": "n9"}}, reload=False)
    changed(herd, primary, {"log": {"level": "warning"}}, reload=False)
    alone = "SET synchronous_commit = local"
    with psycopg.connect(herd.dsn_node(primary), autocommit=True) as one:
        one.execute(alone)
        one.execute("ALTER ROLE pgherd_replication NOLOGIN")
    undo.callback(lambda: allow(herd, primary))
    with psycopg.connect(herd.dsn_node(other), autocommit=True) as one:
        one.execute("ALTER SYSTEM SET work_mem = '77MB'")
        one.execute("SELECT pg_reload_conf()")
    undo.callback(lambda: reset(herd, other))
    token = post("/tokens", {"name": "doctored", "role": "viewer", "ttl": "1h"})
    undo.callback(lambda: herd.ask(f"/tokens/{token['id']}", name=via, method="DELETE"))
    post("/cluster/pause", {"reason": "a test of the doctor"})
    undo.callback(lambda: post("/cluster/resume", {}))


def allow(herd: LocalHerd, primary: str) -> None:
    with psycopg.connect(herd.dsn_node(primary), autocommit=True) as one:
        one.execute("SET synchronous_commit = local")
        one.execute("ALTER ROLE pgherd_replication LOGIN")


def reset(herd: LocalHerd, name: str) -> None:
    with psycopg.connect(herd.dsn_node(name), autocommit=True) as one:
        one.execute("ALTER SYSTEM RESET work_mem")
        one.execute("SELECT pg_reload_conf()")


@pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)
def test_a_node_that_is_gone_and_one_without_its_daemon(herd: LocalHerd, undo: ExitStack) -> None:
    """What is not known of it is unknown; on it, the command looks at it by itself and says so."""
    primary = str(herd.primary())
    gone, other = (name for name in herd.nodes if name != primary)
    done(herd, f"/nodes/{gone}/stop")
    until_red(
        herd,
        other,
        *(("herd.stopped", ""), ("pg.running", gone), ("port.postgresql", other)),
        *(("port.postgresql", primary), ("herd.members_well", ""), ("login.replication", other)),
        *(("herd.failover_choice", ""),),
        query="",
    )
    done(herd, f"/nodes/{gone}/start")
    herd.wait_stable(WAIT_S)
    undo.callback(herd.start)
    herd.kill_node(gone)
    found = until_red(
        herd,
        other,
        *(("herd.nodes_answer", ""), ("herd.voter_to_spare", ""), ("herd.members_well", "")),
        *(("port.raft", other), ("port.api", primary), ("port.proxy", primary)),
        query="",
    )
    of_gone = {one["status"] for (_, node), one in found.items() if node == gone}
    assert of_gone == {"unknown"}
    text = herd.ask("/doctor?quick=1", name=other, timeout_s=DOCTOR_S)["unreached"]
    assert set(text) == {gone}
    alone = typed(herd, gone, "doctor", "--output", "json")
    assert alone.returncode == 1
    assert "this node alone is looked at" in alone.stderr
    told = {one["check"]: one for one in json.loads(alone.stdout)["findings"]}
    assert told["agent.running"]["status"] == "critical"
    assert told["pg.fsync"]["status"] == "unknown"
    assert "PGSQL" in told["pg.fsync"]["text"], "why its server was not asked"
    assert told["disk.room"]["status"] in ("ok", "critical")
    assert told["port.raft"]["status"] == "ok", told["port.raft"]
    assert told["files.secrets"]["status"] == "ok"


@pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)
def test_the_metric_counts_what_was_found(herd: LocalHerd) -> None:
    """After a check-up: of this node alone, by result."""
    from test_telling import metrics

    name = herd.nodes[0]

    def agree() -> bool:
        found = checkup(herd, via=name, query=f"?node={name}")
        statuses = [one["status"] for one in found.values()]
        assert statuses.count("ok") > 40
        seen = metrics(herd, name)
        return all(
            seen[f"pgherd_doctor_checks{{status={status}}}"] == statuses.count(status)
            for status in ("ok", "critical", "warning", "advice", "unknown")
        )

    herd.wait_for(agree, "the findings in the metric", deadline_s=WAIT_S)


@pytest.mark.full
@pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)
def test_a_node_looks_at_itself_without_being_asked(herd: LocalHerd) -> None:
    """A minute after its daemon's start: nothing of it is unknown, no port is tried for it."""
    from test_telling import metrics

    name = herd.nodes[0]
    herd.kill_agent(name)

    def seen() -> dict[str, float]:
        try:
            return metrics(herd, name)
        except OSError:
            return {}

    herd.wait_for(
        lambda: (now := seen()) and "pgherd_doctor_checks{status=ok}" not in now,
        "an agent that has not looked yet",
        deadline_s=WAIT_S,
    )
    herd.wait_for(
        lambda: seen().get("pgherd_doctor_checks{status=ok}", 0) > 40,
        "its own check-up",
        deadline_s=2 * WAIT_S,
    )
    assert seen()["pgherd_doctor_checks{status=unknown}"] <= 4


PLANTED = "hunter2-Zz9"


@pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)
def test_a_support_bundle_of_a_real_herd_has_no_secret(herd: LocalHerd, tmp_path: Path) -> None:
    """Every password, token and key of the herd, and what was planted in logs and settings, is
    searched for in all of it."""
    primary = str(herd.primary())
    with psycopg.connect(herd.dsn_node(primary), autocommit=True) as one:
        with pytest.raises(psycopg.Error):
            one.execute(f"ALTER ROLE nobody PASSWORD '{PLANTED}' sic")
        with pytest.raises(psycopg.Error):
            one.execute(f"SELECT 'host=db user=x password={PLANTED}' sic sic")
    out = tmp_path / "bundle.tar.gz"
    made = typed(herd, primary, "report", "--out", str(out))
    assert made.returncode == 0, made.stderr
    with tarfile.open(out) as bundle:
        found = {one.name: bundle.extractfile(one).read() for one in bundle.getmembers()}  # type: ignore[union-attr] # files only
    content = b"".join(found.values())
    for name in herd.nodes:
        for part in ("agent.log", "postgresql.log", "checkup.json", "explain.json", "vitals.json"):
            assert any(one.endswith(f"nodes/{name}/{part}") for one in found), (name, part)
    for part in ("doctor.json", "metrics.txt", "configuration.yaml", "events.json"):
        assert any(one.endswith(f"/{part}") for one in found), part
    assert b"ALTER ROLE nobody" in content, "the log is there"
    assert b"synchronous_standby_names" in content, "and PostgreSQL's settings"
    assert b"pgherd_doctor_checks" in content
    words = [PLANTED, herd.secrets.token]
    words += [path.read_text().strip() for path in herd.directory.glob("*.secret")]
    for key in herd.directory.rglob("*.key"):
        words += [line for line in key.read_text().splitlines() if not line.startswith("-----")]
    assert len(words) > 4
    left = [word for word in words if word.encode() in content]
    assert not left
