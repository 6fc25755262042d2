"""Proves what a laptop has: contexts, completion, connection strings, help where one mistypes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pgherd.api.guard import Access, ApiToken, Role
from pgherd.api.serve import ServeTls
from pgherd.model.ids import NodeId
from pgherd.pki.authority import make_ca, make_client_certificate, make_node_certificate

TOKEN = "vera's own"


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    """Nobody's own configuration is read or written."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("PGHERD_CONTEXT", raising=False)


@pytest.fixture
def guarded(herd, fakes, serving):
    token = ApiToken(
        name="vera", role=Role.VIEWER, sha256=hashlib.sha256(TOKEN.encode()).hexdigest()
    )
    with serving(fakes.make_app(herd, tokens=(token,))) as served:
        yield served


def kept(tmp_path: Path) -> Path:
    return tmp_path / "config" / "pgherd" / "contexts.yaml"


def test_a_login_is_kept_for_its_owner_alone(guarded, pgherd, tmp_path, monkeypatch):
    """Address and token work from then on without another word; the token is shown nowhere."""
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    result = pgherd("login", guarded.url, "--token-file", file)
    assert (result.code, result.out) == (0, "context main: cluster main, operational\n")
    assert stat.S_IMODE(kept(tmp_path).stat().st_mode) == 0o600
    assert pgherd("nodes").code == 0
    listed = pgherd("context", "list", "-o", "json").out
    assert json.loads(listed) == [
        {
            "context": "main",
            "is_current": True,
            "urls": [guarded.url],
            "has_token": True,
            "has_ca": False,
        }
    ]
    assert TOKEN not in listed + pgherd("context", "list").out
    monkeypatch.setenv("PGHERD_TOKEN", "another")
    assert pgherd("nodes").code == 6
    assert pgherd("context", "remove", "main").code == 0
    assert TOKEN not in kept(tmp_path).read_text()


def test_a_login_that_does_not_work_is_not_kept(guarded, pgherd, tmp_path, monkeypatch):
    """Wrong token, no daemon, no address."""
    monkeypatch.setenv("PGHERD_TOKEN", "wrong")
    assert pgherd("login", guarded.url).code == 6
    assert pgherd("login", "http://127.0.0.1:1").code == 1
    assert pgherd("login", "somewhere").code == 2
    assert not kept(tmp_path).exists()


def test_several_contexts(served, guarded, pgherd, monkeypatch):
    """The last login counts, another one by name, by option or environment."""
    monkeypatch.setenv("PGHERD_TOKEN", TOKEN)
    assert pgherd("login", guarded.url, "--name", "guarded").code == 0
    monkeypatch.delenv("PGHERD_TOKEN")
    assert pgherd("login", served.url, "--name", "open").code == 0
    assert pgherd("nodes", "--context", "guarded").code == 0
    assert pgherd("nodes", "--api-url", guarded.url).code == 6
    monkeypatch.setenv("PGHERD_CONTEXT", "nowhere")
    wrong = pgherd("nodes")
    assert (wrong.code, "there are: guarded, open" in wrong.err) == (2, True)
    monkeypatch.delenv("PGHERD_CONTEXT")
    assert pgherd("context", "use", "guarded").out == "context guarded\n"
    rows = pgherd("context", "list").out
    assert "guarded  yes" in " ".join(rows.replace("\n", "  ").split(" ")).replace("   ", "  ")
    assert pgherd("context", "use", "nowhere").code == 2


def test_a_file_that_others_can_read_is_refused(served, pgherd, tmp_path):
    """As ssh does with its keys."""
    assert pgherd("login", served.url).code == 0
    kept(tmp_path).chmod(0o644)
    result = pgherd("nodes")
    assert (result.code, "chmod 600" in result.err) == (2, True)


def test_what_is_no_text_is_a_clear_error(served, pgherd, tmp_path, monkeypatch):
    """A token's file, a variable, the kept contexts, a CA: each says what to do next."""
    broken = tmp_path / "broken"
    broken.write_bytes(b"\xff\xfe\x00")
    for words in (("--token-file", broken), ("--token-file", tmp_path), ("--ca", broken)):
        refused = pgherd("login", served.url, *words)
        assert (refused.code, "next: " in refused.err) == (2, True), refused.err
    with monkeypatch.context() as during:
        during.setenv("PGHERD_TOKEN", "tök")
        refused = pgherd("nodes", "--api-url", served.url)
        assert (refused.code, "PGHERD_TOKEN" in refused.err) == (2, True), refused.err
    with monkeypatch.context() as during:
        during.setenv("PGHERD_CA", str(broken))
        refused = pgherd("nodes", "--api-url", served.url)
        assert (refused.code, "PGHERD_CA" in refused.err) == (2, True), refused.err
    assert pgherd("login", served.url).code == 0
    kept(tmp_path).write_bytes(broken.read_bytes())
    refused = pgherd("nodes")
    assert (refused.code, "pgherd login" in refused.err) == (2, True), refused.err


def test_the_authority_travels_with_the_context(herd, fakes, serving, pgherd, tmp_path):
    """HTTPS is checked against it, though its file is gone."""
    ca = make_ca("main")
    issued = make_node_certificate(ca, NodeId("n1"), ["127.0.0.1"])
    for name, pem in (("ca", ca.certificate_pem), ("crt", issued.certificate_pem)):
        (tmp_path / name).write_bytes(pem)
    (tmp_path / "key").write_bytes(issued.key_pem)
    tls = ServeTls(cert=tmp_path / "crt", key=tmp_path / "key")
    with serving(fakes.make_app(herd), tls) as served:
        assert pgherd("login", served.url).code == 1
        assert pgherd("login", served.url, "--ca", tmp_path / "key").code == 2
        assert pgherd("login", served.url, "--ca", tmp_path / "ca").code == 0
        (tmp_path / "ca").unlink()
        assert pgherd("nodes").code == 0


def test_a_certificate_of_the_environment_is_shown(
    herd, fakes, serving, pgherd, tmp_path, monkeypatch
):
    """At login and with a context, before a token that is kept; PGHERD_TOKEN counts before it."""
    ca = make_ca("main")
    node = make_node_certificate(ca, NodeId("n1"), ["127.0.0.1"])
    bob = make_client_certificate(ca, "bob", "viewer", days=1)
    for name, issued in (("node", node), ("bob", bob)):
        (tmp_path / f"{name}.crt").write_bytes(issued.certificate_pem)
        (tmp_path / f"{name}.key").write_bytes(issued.key_pem)
    (tmp_path / "ca.crt").write_bytes(ca.certificate_pem)
    tls = ServeTls(*(tmp_path / name for name in ("node.crt", "node.key", "ca.crt")))
    vera = ApiToken("vera", Role.VIEWER, hashlib.sha256(TOKEN.encode()).hexdigest())
    app = fakes.make_app(herd, tokens=(vera,), access=Access(takes_certificates=True))
    (tmp_path / "token").write_text(TOKEN)
    with serving(app, tls) as served:
        login = ("login", served.url, "--ca", tmp_path / "ca.crt")
        assert pgherd(*login).code == 6
        monkeypatch.setenv("PGHERD_CERT", str(tmp_path / "bob.crt"))
        monkeypatch.setenv("PGHERD_KEY", str(tmp_path / "bob.key"))
        bare = pgherd(*login, "--name", "bare")
        assert (bare.code, "PGHERD_CERT" in bare.err) == (0, True), bare.err
        assert pgherd("nodes").code == 0
        assert pgherd(*login, "--name", "full", "--token-file", tmp_path / "token").code == 0
        monkeypatch.setenv("PGHERD_CERT", str(tmp_path / "node.crt"))
        monkeypatch.setenv("PGHERD_KEY", str(tmp_path / "node.key"))
        assert pgherd("nodes", "--context", "full").code == 6, "a node's has no role"
        monkeypatch.setenv("PGHERD_TOKEN", TOKEN)
        assert pgherd("nodes", "--context", "bare").code == 0
        for name in ("CERT", "KEY", "TOKEN"):
            monkeypatch.delenv(f"PGHERD_{name}")
        assert pgherd("nodes", "--context", "full").code == 0
        assert pgherd("nodes", "--context", "bare").code == 6


def test_two_places_to_ask_are_refused(served, pgherd, monkeypatch):
    """--context beside --api-url; where one of them is a variable the option counts."""
    assert pgherd("login", served.url).code == 0
    both = pgherd("nodes", "--context", "main", "--api-url", served.url)
    assert (both.code, "leave one of them out" in both.err) == (2, True)
    for variable, value, words in (
        ("PGHERD_CONTEXT", "nowhere", ("--api-url", served.url)),
        ("PGHERD_API_URL", "http://127.0.0.1:1", ("--context", "main")),
    ):
        with monkeypatch.context() as during:
            during.setenv(variable, value)
            assert pgherd("nodes", *words).code == 0


def test_connection_strings(served, pgherd):
    """Every node is in it; for a replica its listener, past the proxies the servers."""
    url = ("--api-url", served.url)
    assert pgherd("dsn", *url).out == (
        "host=127.0.0.1,127.0.0.1,127.0.0.1 port=6001,6002,6003 user=postgres dbname=postgres"
        " connect_timeout=5\n"
    )
    assert "port=6101,6102,6103" in pgherd("dsn", "--replica", *url).out
    direct = pgherd("dsn", "--direct", "--user", "o'tto", *url).out
    assert "port=5443,5444,5445 user='o\\'tto'" in direct
    assert "target_session_attrs=read-write" in direct
    found = json.loads(pgherd("dsn", "--uri", "-o", "json", *url).out)
    assert found["dsn"] == (
        "postgresql://postgres@127.0.0.1:6001,127.0.0.1:6002,127.0.0.1:6003/postgres"
        "?connect_timeout=5"
    )


def test_psql_is_run_with_it(served, pgherd, tmp_path, monkeypatch):
    """The program takes the place of ours, with its own arguments after two dashes."""
    program = tmp_path / "psql"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:/bin", "PGHERD_API_URL": served.url}
    command = [sys.executable, "-m", "pgherd.cli.main", "psql", "--replica", "--", "-c", "SELECT 1"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True)
    first, *rest = done.stdout.splitlines()
    assert "port=6101,6102,6103" in first
    assert rest == ["-c", "SELECT 1"]
    monkeypatch.setattr(shutil, "which", lambda name: None)
    missing = pgherd("psql", "--api-url", served.url)
    assert (missing.code, "pgherd dsn" in missing.err) == (2, True)


PSQL = """#!/bin/sh
echo "password=${PGPASSWORD-none}"
"""


@pytest.fixture
def node(herd, fakes, serving, tmp_path):
    """A node whose configuration has the superuser's password, and its API."""
    with serving(fakes.make_app(herd)) as served:
        (tmp_path / "superuser").write_text("the node's own")
        values = {
            "version": 1,
            "cluster": {"name": "main"},
            "node": {"name": "n1", "address": "127.0.0.1"},
            "api": {"port": served.port},
            "raft": {"data_dir": "/srv/n1/raft", "members": ["n1=127.0.0.1:8300"]},
            "postgresql": {
                "data_dir": "/srv/n1/pgdata",
                "superuser": {"password": f"file:{tmp_path / 'superuser'}"},
            },
        }
        config = tmp_path / "pgherd.yaml"
        config.write_text(yaml.safe_dump(values))
        yield config, served.url


@pytest.mark.parametrize(
    ("argv", "environment", "has"),
    [
        ((), {}, True),
        (("--user", "ann"), {}, False),
        (("--api-url", "URL"), {}, False),
        ((), {"PGHERD_API_URL": "URL"}, False),
        (("--context", "far"), {}, False),
        ((), {"PGHERD_CONTEXT": "far"}, False),
    ],
)
def test_the_nodes_password_stays_with_its_own_cluster(
    node, pgherd, tmp_path, argv, environment, has
):
    """psql has it where the node's own API was asked, and nowhere else."""
    config, url = node
    assert pgherd("login", url, "--name", "far").code == 0
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "psql"
    program.write_text(PSQL)
    program.chmod(0o755)
    own = {"PATH": f"{program.parent}:/usr/bin:/bin", "PGHERD_CONFIG": str(config)}
    more = {name: value.replace("URL", url) for name, value in environment.items()}
    words = [word.replace("URL", url) for word in argv]
    env = {name: value for name, value in os.environ.items() if name != "PGPASSWORD"}
    done = subprocess.run(
        [sys.executable, "-m", "pgherd.cli.main", "psql", *words],
        env={**env, **own, **more},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    wanted = "the node's own" if has else "none"
    assert (done.returncode, done.stdout) == (0, f"password={wanted}\n"), done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(served, pgherd, shell):
    """The script is one of that shell, and what it calls completes commands and nodes."""
    script = pgherd("completion", shell).out
    assert f"complete_{shell}" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True, timeout=20)
    env = {**os.environ, "_PGHERD_COMPLETE": "complete_bash", "PGHERD_API_URL": served.url}
    for words, wanted in (
        ("pgherd switch", {"switchover"}),
        ("pgherd restart n", {"n1", "n2", "n3"}),
        ("pgherd switchover --to n2", {"n2"}),
    ):
        told = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        command = [sys.executable, "-m", "pgherd.cli.main"]
        done = subprocess.run(
            command, env={**env, **told}, capture_output=True, text=True, timeout=60, check=False
        )
        assert set(done.stdout.split()) == wanted, words


def test_completion_of_no_shell(pgherd):
    assert pgherd("completion", "cmd.exe").code == 2


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("swichover",), "switchover"),
        (("sync", "shwo"), "show"),
        (("nodes", "--outptu", "json"), "--output"),
        (("restart", "n11"), "n1"),
    ],
)
def test_mistyped_words(served, pgherd, words, meant):
    """Commands, options and nodes."""
    more = ("--api-url", served.url) if words[0] == "restart" else ()
    result = pgherd(*words, *more)
    assert result.code == 2
    assert "did you mean" in result.err.lower() or "possible options" in result.err.lower()
    assert meant in result.err


def test_colours(served, pgherd, monkeypatch):
    """Not where NO_COLOR or --no-color says so; nor into a pipe."""
    from rich.console import Console

    asked: list[bool] = []
    original = Console.__init__

    def init(self, *args, **more):
        asked.append(more["no_color"])
        original(self, *args, **more)

    monkeypatch.setattr(Console, "__init__", init)
    url = ("--api-url", served.url)
    assert "\x1b" not in pgherd("nodes", *url).out
    pgherd("nodes", "--no-color", *url)
    monkeypatch.setenv("NO_COLOR", "1")
    pgherd("nodes", *url)
    assert asked == [False, True, True]


def test_nodes_can_be_watched(served, pgherd, monkeypatch):
    """Again and again, also while no daemon answers."""
    from pgherd.cli import watching

    rounds: list[float] = []

    def rest(seconds: float) -> None:
        rounds.append(seconds)
        if len(rounds) == 2:
            monkeypatch.setenv("PGHERD_API_URL", "http://127.0.0.1:1")
        if len(rounds) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(watching.time, "sleep", rest)
    monkeypatch.setenv("PGHERD_API_URL", served.url)
    result = pgherd("nodes", "--watch", "-o", "yaml")
    assert result.code == 130
    assert result.out.count("node_id: n1") == 2
    assert "no daemon answers" in result.err
    assert yaml.safe_load(pgherd("nodes", "-o", "yaml", "--api-url", served.url).out)
