"""What a real herd tells of itself: metrics that Prometheus takes, logs and levels from any node,
how nodes reach each other, and what became of a file that was read again."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from checkups import until_red
from prometheus_client.parser import text_string_to_metric_families
from tending import done

from pgherd.proof import layout
from pgherd.proof.client import NoAnswer
from pgherd.proof.herd import LocalHerd
from pgherd.proof.ports import claim_base

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "examples" / "prometheus" / "alerts.yaml"
WAIT_S = 30.0


def page(herd: LocalHerd, name: str) -> str:
    """/metrics of a node, as a scraper gets it."""
    place = herd.places[name]
    url = f"http://{place.host}:{place.ports.api}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        found: str = answer.read().decode()
    return found


def metrics(herd: LocalHerd, name: str) -> dict[str, float]:
    """Every sample of a node."""
    found = {}
    for family in text_string_to_metric_families(page(herd, name)):
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def others(herd: LocalHerd, name: str) -> list[str]:
    return [one for one in herd.nodes if one != name]


def lines_of(herd: LocalHerd, name: str, *, via: str, **params: Any) -> list[str]:
    query = "&".join(f"{key}={value}" for key, value in params.items())
    found: list[str] = herd.ask(f"/nodes/{name}/logs?{query}", name=via)["lines"]
    return found


def test_every_node_reaches_every_other_by_every_channel(herd: LocalHerd) -> None:
    """Whichever node is asked, each tells of its own ways; metrics say the same."""
    primary = str(herd.primary())
    via = others(herd, primary)[0]

    def all_up() -> bool:
        for name in herd.nodes:
            seen = herd.ask(f"/nodes/{name}/vitals", name=via)["peers"]
            up = {(one["node"], one["channel"]) for one in seen if one["is_up"]}
            ways = ("raft", "api", "postgresql")
            if up != {(one, way) for one in others(herd, name) for way in ways}:
                return False
        return True

    herd.wait_for(all_up, "all channels up", deadline_s=WAIT_S)
    done(herd, f"/nodes/{primary}/reload")
    vitals = herd.ask(f"/nodes/{primary}/vitals", name=via)
    assert 0 < vitals["memory"]["available_bytes"] < vitals["memory"]["size_bytes"]
    assert all(one["rtt_ms"] < 5000 for one in vitals["peers"])

    def worked() -> dict[str, float] | None:
        found = metrics(herd, primary)
        steps = [v for k, v in found.items() if "plan_steps_total" in k and "done" in k]
        return found if sum(steps) >= 1 else None

    found = herd.wait_for(worked, "the reload in the metrics", deadline_s=WAIT_S)
    assert found is not None
    for one in others(herd, primary):
        assert found[f"pgherd_peer_up{{channel=postgresql,peer={one}}}"] == 1
        assert found[f"pgherd_peer_rtt_seconds{{channel=raft,peer={one}}}"] >= 0
    assert found["pgherd_memory_bytes{process=agent}"] > 1 << 20
    assert found["pgherd_health_probes_total{result=alive}"] >= 1
    assert found["pgherd_raft_members{suffrage=voter}"] == 3


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_wrong(herd: LocalHerd) -> None:
    """On a live primary and a live replica, after requests of every kind."""
    primary = str(herd.primary())
    herd.query(primary, "SELECT 1")
    for name in (primary, others(herd, primary)[0]):
        done = subprocess.run(
            ["promtool", "check", "metrics"],
            input=page(herd, name),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_logs_come_from_any_node_and_hide_secrets(herd: LocalHerd) -> None:
    """A password that PostgreSQL logged is not in what is handed out; a cursor goes on where the
    last answer ended; a level that was asked for ends by itself."""
    primary = str(herd.primary())
    via = others(herd, primary)[0]
    with pytest.raises(Exception, match="unrecognized"):
        herd.query(primary, "ALTER ROLE nobody PASSWORD 'hunter-two-xyz' sic")
    found = lines_of(herd, primary, via=via, source="postgres", lines=20)
    statement = [one for one in found if "ALTER ROLE nobody" in one]
    assert statement
    assert not [one for one in found if "hunter-two-xyz" in one]
    first = herd.ask(f"/nodes/{primary}/logs?lines=1", name=via)
    assert len(first["lines"]) == 1
    level = {"level": "debug", "for": "1s"}
    herd.ask(f"/nodes/{primary}/log-level", name=via, method="PUT", body=level)
    path = f"/nodes/{primary}/logs?cursor={first['cursor']}"

    def news() -> dict[str, Any] | None:
        found: dict[str, Any] = herd.ask(path, name=via)
        return found if any("log.level-changed" in one for one in found["lines"]) else None

    told = herd.wait_for(news, "what came after the cursor", deadline_s=WAIT_S)
    assert told is not None
    assert not told["skipped"]
    herd.wait_for(
        lambda: herd.ask(f"/nodes/{primary}/log-level", name=via)["level"] == "info",
        "the file's level again",
        deadline_s=WAIT_S,
    )


def test_a_reload_says_what_became_of_each_key(herd: LocalHerd) -> None:
    """Through another node; effects are seen where they are. Mistakes change nothing, and come
    back with their lines."""
    primary = str(herd.primary())
    name = others(herd, primary)[0]
    place = herd.places[name]
    before = place.config.read_text()
    changes: dict[str, Any] = {
        "log": {"report_interval": "1s"},
        "failover": {"enabled": False},
        "node": {"tags": {"noloadbalance": True}},
        "postgresql": {"parameters": {"maintenance_work_mem": "77MB"}},
        "raft": {"heartbeat": "110ms"},
    }

    def reload() -> Any:
        return herd.ask(f"/nodes/{name}/config/reload", name=primary, method="POST", body={})

    try:
        layout.write_settings(place, layout.merge(layout.read_settings(place), changes))
        found = reload()
        assert sorted(found["applied"]) == [
            "failover.enabled",
            "log.report_interval",
            "node.tags.noloadbalance",
            "postgresql.parameters",
        ]
        assert found["needs_restart"] == ["raft.heartbeat"]
        [row] = herd.query(name, "SHOW maintenance_work_mem")
        assert row == ("77MB",)
        status = herd.ask("/cluster/status", name=name)
        assert status["auto_failover_enabled"] is False
        herd.wait_for(
            lambda: any("cluster.report" in one for one in lines_of(herd, name, via=primary)),
            "a report",
            deadline_s=WAIT_S,
        )
        again = reload()
        assert (again["applied"], again["needs_restart"]) == ([], ["raft.heartbeat"])
        place.config.write_text(place.config.read_text() + "\nttl: 30\n")
        with pytest.raises(NoAnswer) as refused:
            reload()
        assert "ttl: is Patroni's name" in str(refused.value)
        assert herd.ask("/cluster/status", name=name)["auto_failover_enabled"] is False
    finally:
        place.config.write_text(before)
        reload()
    assert herd.ask("/cluster/status", name=name)["auto_failover_enabled"] is True


@pytest.fixture
def syslog(tmp_path: Path) -> Iterator[socket.socket]:
    """A local syslog."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as opened:
        opened.bind(str(tmp_path / "syslog"))
        opened.settimeout(WAIT_S)
        yield opened


@pytest.mark.full
def test_lines_and_metrics_go_where_the_file_says(
    stable: Any, tmp_path: Path, syslog: socket.socket
) -> None:
    """JSON into a file that is renamed when it is full, and to syslog, until nobody is there;
    metrics on a port of their own, and nothing else there."""
    port, file = claim_base(), tmp_path / "agent.log"
    log = {"level": "debug", "format": "json", "file": str(file), "file_size": "64kB"}
    log |= {"file_keep": 1, "syslog": syslog.getsockname(), "report_interval": "100ms"}
    overrides = {"metrics": {"port": port}, "log": log}
    with LocalHerd(1, postgres_bin=stable.postgres_bin, overrides=overrides) as herd:
        herd.start()
        herd.wait_stable(WAIT_S)
        host = herd.places["n1"].host
        with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=10) as answer:
            assert b"pgherd_build_info" in answer.read()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://{host}:{port}/api/v1/health", timeout=10)
        herd.wait_for(lambda: (tmp_path / "agent.log.1").exists(), "a full file", deadline_s=90)
        lines = [json.loads(one) for one in (tmp_path / "agent.log.1").read_text().splitlines()]
        assert all(one["node"] == "n1" and one["event"] for one in lines)
        assert file.stat().st_size <= 64 << 10
        assert syslog.recv(9000).startswith(b"<3")
        syslog.close()
        until_red(herd, "n1", ("agent.dropped", "n1"))


@pytest.mark.full
@pytest.mark.fault(89)
def test_a_node_whose_log_nobody_reads_works_on(stable: Any) -> None:
    """Standard error of all its processes is a pipe that is full: it commits, and its server that
    is killed comes back."""
    with LocalHerd(1, postgres_bin=stable.postgres_bin) as herd:
        log = herd.places["n1"].log
        os.mkfifo(log)
        pipe = os.open(log, os.O_RDWR | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(pipe, b"x" * 4096)
        try:
            herd.start()
            herd.wait_stable(WAIT_S)
            herd.query("n1", "CREATE TABLE kept AS SELECT 1")
            before = herd.postmaster_pid("n1")
            herd.kill_postmaster("n1")
            herd.wait_for(lambda: is_back(herd, before), "it is back", deadline_s=WAIT_S)
            herd.wait_stable(WAIT_S)
            assert herd.query("n1", "SELECT count(*) FROM kept") == [(1,)]
        finally:
            os.unlink(log)
            os.close(pipe)


def is_back(herd: LocalHerd, before: int) -> bool:
    """Whether another postmaster runs."""
    try:
        return herd.postmaster_pid("n1") != before
    except (OSError, AssertionError):
        return False


@pytest.mark.full
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")
def test_a_prometheus_server_scrapes_it_and_alerts(herd: LocalHerd, tmp_path: Path) -> None:
    """Every target is up, every metric of the rules and the dashboard that has a subject here has
    series, and the alert of a node that is killed fires."""
    port = claim_base()
    rules = yaml.safe_load(ALERTS.read_text())
    for rule in rules["groups"][0]["rules"]:
        rule.pop("for", None)
    rules["groups"][0]["interval"] = "1s"
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(rules))
    targets = [f"{herd.places[one].host}:{herd.places[one].ports.api}" for one in herd.nodes]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["alerts.yaml"],
        "scrape_configs": [
            {
                "job_name": "pgherd",
                "static_configs": [{"targets": targets, "labels": {"cluster": "main"}}],
            }
        ],
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    with psycopg.connect(herd.dsn_proxy()) as client:
        client.execute("SELECT 1")
    server = subprocess.Popen(
        [
            *("prometheus", "--config.file", str(tmp_path / "prometheus.yml")),
            *("--storage.tsdb.path", str(tmp_path / "data")),
            *("--web.listen-address", f"127.0.0.1:{port}", "--log.level", "warn"),
        ]
    )
    try:
        watch_with(herd, asker(port))
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


Ask = Callable[[str], Any]


def asker(port: int) -> Ask:
    """Questions to a Prometheus server; None while it does not answer."""

    def ask(query: str) -> Any:
        quoted = urllib.parse.quote(query)
        try:
            url = f"http://127.0.0.1:{port}/api/v1/query?query={quoted}"
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]["result"]
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None

    return ask


def watch_with(herd: LocalHerd, ask: Ask) -> None:
    herd.wait_for(
        lambda: len(ask('up{job="pgherd"} == 1') or ()) == 3, "three targets", deadline_s=60
    )
    used = set(re.findall(r"pgherd_[a-z_]+", ALERTS.read_text()))

    def missing() -> set[str]:
        scraped = ask('{__name__=~"pgherd_.+"}') or ()
        return used - {one["metric"]["__name__"] for one in scraped}

    herd.wait_for(
        lambda: missing() <= {"pgherd_vip_owned"},  # nobody has an address that moves here
        "every metric of the rules",
        deadline_s=60,
    )
    assert not ask('ALERTS{alertstate="firing",severity="critical"}')
    victim = others(herd, str(herd.primary()))[0]
    herd.kill_node(victim)
    try:
        herd.wait_for(
            lambda: (
                {one["metric"]["alertname"] for one in ask("ALERTS") or ()}
                >= {"PgherdNodeDown", "PgherdMemberUnwell", "PgherdPeerUnreached"}
            ),
            "alerts about the node that was killed",
            deadline_s=60,
        )
    finally:
        herd.start_node(victim)
        herd.wait_stable(60)
