"""Proves init and join: the files they make, what they refuse, and that a refusal writes nothing.

The other side of `join` is the real Joiner with real certificates, served over TLS on loopback.
"""

from __future__ import annotations

import io
import socket
import time
from pathlib import Path

import pytest

from pgherd.api.herd import Admission, Shared, SharedToken
from pgherd.api.joining import Joiner, read_admission
from pgherd.api.serve import ServeTls
from pgherd.cli.entering import aim
from pgherd.cli.place import Place
from pgherd.cli.verify import CheckFailed, Verifier
from pgherd.config.load import load
from pgherd.daemon import translate
from pgherd.ledger import commands as cmd
from pgherd.model.errors import OperatorError
from pgherd.model.ids import NodeId
from pgherd.pki.authority import fingerprint
from pgherd.pki.token import Invitation, encode_token, hash_secret

SECRET = "the-secret"


@pytest.fixture(autouse=True)
def no_postgres_search(monkeypatch):
    """The search for PostgreSQL is `postgres`'s own matter; here it finds 15."""
    monkeypatch.setattr("pgherd.cli.founding.find_postgres", lambda settings: (None, 15))
    monkeypatch.setattr("pgherd.cli.founding.speaks_tls", lambda settings: True)
    monkeypatch.setattr("pgherd.cli.entering.speaks_tls", lambda settings: True)


def init(pgherd, directory: Path, *more: str):
    address = ("--address", "127.0.0.1", "--base-port", str(pgherd.free_base()))
    return pgherd("init", "--dir", directory, *address, *more)


def pools(settings) -> list[tuple[str, str]]:
    return [(one.route, one.pool) for one in settings.proxy.listeners]


def everything(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


# --- init ----------------------------------------------------------------------------------------


def test_init_makes_a_valid_node(pgherd, tmp_path):
    """Configuration, authority, certificate, secrets; private what is secret."""
    result = init(pgherd, tmp_path / "n1", "--name", "n1", "--cluster", "shop")
    assert result.code == 0, result.err
    assert f"next: pgherd start --config {tmp_path}/n1/pgherd.yaml" in result.err
    settings = load(tmp_path / "n1" / "pgherd.yaml")
    assert (settings.cluster.name, settings.node.name) == ("shop", "n1")
    assert [str(seat) for seat in settings.raft.members] == [f"n1=127.0.0.1:{settings.raft.port}"]
    assert pools(settings) == [("primary", "session"), ("replica", "none")]
    shared = translate.shared(settings)
    assert (shared.primary_pool, shared.postgres_tls, shared.proxy_tls) == ("session", True, True)
    assert settings.api.tls.ca == settings.raft.tls.ca
    assert {settings.api.tls.cert, settings.proxy.tls.cert, settings.postgresql.tls.cert} == {
        settings.raft.tls.cert
    }
    token = (tmp_path / "n1/secrets/admin.token").read_text().strip()
    assert [one.sha256 for one in settings.api.tokens] == [hash_secret(token)]
    for name in ("pki/ca.key", "pki/node.key", "secrets/superuser", "secrets/admin.token"):
        assert (tmp_path / "n1" / name).stat().st_mode & 0o077 == 0
    assert token not in (tmp_path / "n1/pgherd.yaml").read_text()
    assert not (tmp_path / "n1/postgresql/data").exists()


@pytest.mark.parametrize(
    ("speaks", "major", "said"),
    [(False, 18, "no OpenSSL"), (True, 14, "by host name only"), (True, 15, "")],
)
def test_init_says_why_postgresql_stays_without_tls(
    pgherd, tmp_path, monkeypatch, speaks, major, said
):
    """Or has it, and then says nothing; what was set by hand counts."""
    monkeypatch.setattr("pgherd.cli.founding.find_postgres", lambda settings: (None, major))
    monkeypatch.setattr("pgherd.cli.founding.speaks_tls", lambda settings: speaks)
    result = init(pgherd, tmp_path / "n1")
    assert result.code == 0, result.err
    assert ("stays off" in result.err, said in result.err) == (bool(said), True)
    assert (load(tmp_path / "n1/pgherd.yaml").postgresql.tls is None) == bool(said)
    none = init(pgherd, tmp_path / "n2", "--set", "postgresql.tls=null", "--set", "proxy.tls=null")
    assert none.code == 0, none.err
    settings = load(tmp_path / "n2/pgherd.yaml")
    assert (settings.postgresql.tls, settings.proxy.tls) == (None, None)


def test_members_that_use_tls_let_in_who_can(pgherd, herd, fakes, serving, tmp_path, monkeypatch):
    """A witness need not; a node that has it is told to use it, with its own files."""
    init(pgherd, tmp_path / "n1")
    made = Inviting(herd, fakes, serving, tmp_path / "n1", postgres_tls=True, proxy_tls=True)
    made.issue()
    made.issue(id="t2")
    with made.server:
        monkeypatch.setattr("pgherd.cli.entering.speaks_tls", lambda settings: False)
        refused = join(pgherd, tmp_path / "n4", made.token())
        assert (refused.code, "built without it" in refused.err) == (3, True)
        assert everything(tmp_path / "n4") == set() if (tmp_path / "n4").exists() else True
        witness = join(pgherd, tmp_path / "w1", made.token(id="t2"), "--witness", "--name", "w1")
        assert witness.code == 0, witness.err
        assert load(tmp_path / "w1/pgherd.yaml").proxy.tls is None
        monkeypatch.setattr("pgherd.cli.entering.speaks_tls", lambda settings: True)
        monkeypatch.setattr("sys.stdin", io.StringIO(made.token() + "\n"))
        done = join(pgherd, tmp_path / "n4", "-")
    assert done.code == 0, done.err
    settings = load(tmp_path / "n4/pgherd.yaml")
    assert settings.postgresql.tls.required
    assert settings.postgresql.tls.cert == tmp_path / "n4/pki/node.crt"
    assert settings.proxy.tls is None, "its primary port does as the others', and ends no TLS"


def test_two_inits_are_refused(pgherd, tmp_path):
    """The second changes nothing and says how to go on."""
    init(pgherd, tmp_path / "n1")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "n1").rglob("*")}
    again = init(pgherd, tmp_path / "n1")
    assert again.code == 2
    assert "was set up already" in again.err
    assert "pgherd start --config" in again.err
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "n1").rglob("*")} == before


@pytest.mark.parametrize("place", ["postgresql/data", "raft", "pki"])
def test_init_keeps_what_is_there(pgherd, tmp_path, place):
    """A data directory, a consensus store or keys that somebody left stop it."""
    there = tmp_path / "n1" / place
    there.mkdir(parents=True)
    (there / "ca.key").write_text("precious")
    before = everything(tmp_path)
    result = init(pgherd, tmp_path / "n1")
    assert result.code == 2
    assert everything(tmp_path) == before


def test_init_refuses_a_taken_port(pgherd, tmp_path):
    """The key, the port and the way out are named; no file is made."""
    base = pgherd.free_base()
    with socket.socket() as other:
        other.bind(("127.0.0.1", base + 3))
        other.listen()
        address = ("--address", "127.0.0.1", "--base-port", str(base))
        result = pgherd("init", "--dir", tmp_path / "n1", *address)
    assert result.code == 2
    assert f"api.port: cannot listen on 127.0.0.1:{base + 3}" in result.err
    assert not (tmp_path / "n1").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--name", "N1"), "is not a node name"),
        (("--set", "raft.prot=1"), "raft.prot"),
        (("--set", "nonsense"), "is not key=value"),
        (("--database", "app"), "add --start"),
        (("--database", "a b", "--start"), "is not a plain name"),
    ],
)
def test_init_refuses_bad_wishes(pgherd, tmp_path, options, said):
    """Each with its reason, and before anything is written."""
    result = init(pgherd, tmp_path / "n1", *options)
    assert result.code == 2
    assert said in result.err
    assert not (tmp_path / "n1").exists()


def test_the_cli_finds_its_own_daemon(pgherd, tmp_path, herd, fakes, serving):
    """After init, --config alone gives address, CA and token: HTTPS is verified, 200 comes back."""
    from pgherd.api.guard import ApiToken, Role

    init(pgherd, tmp_path / "n1")
    file = tmp_path / "n1/pgherd.yaml"
    settings = load(file)
    tokens = [ApiToken(name="admin", role=Role.ADMIN, sha256=settings.api.tokens[0].sha256)]
    tls = ServeTls(cert=settings.api.tls.cert, key=settings.api.tls.key)
    with serving(fakes.make_app(herd, tokens=tokens), tls, port=settings.api.port):
        assert pgherd("status", "--config", file).code == 0
        (tmp_path / "n1/secrets/admin.token").unlink()
        assert pgherd("status", "--config", file).code == 6


def test_verification_names_the_failed_check(pgherd, tmp_path, capsys):
    """Nothing runs: the first check fails in time, is printed, and the next command is told."""
    init(pgherd, tmp_path / "n1")
    place = Place(config=tmp_path / "n1/pgherd.yaml", directory=tmp_path / "n1")
    place.log.write_text("agent.refused reason=nobody started it\n")
    verifier = Verifier(place, load(place.config), timeout_s=0.3)
    with pytest.raises(CheckFailed) as failed:
        verifier.first_node()
    said = capsys.readouterr().err
    assert "FAIL  the API answers: no daemon answers" in said
    assert "nobody started it" in said
    assert "pgherd status --config" in failed.value.hint
    assert failed.value.exit_code == 1


# --- join ----------------------------------------------------------------------------------------


class Inviting:
    """A member made by the real `init`, its Joiner served over its own TLS."""

    def __init__(
        self, herd, fakes, serving, directory: Path, *, pool: str = "none", **more: object
    ) -> None:
        self.herd = herd
        herd.unix_ms = int(time.time() * 1000)
        self.settings = load(directory / "pgherd.yaml")
        ca = self.settings.raft.tls.ca
        self.ca_sha256 = fingerprint(ca.read_bytes())
        tokens = tuple(
            SharedToken(name=one.name, role=one.role, sha256=one.sha256)
            for one in self.settings.api.tokens
        )
        shared = Shared(
            superuser="postgres",
            superuser_password="super",
            replication="repl",
            replication_password="stream",
            hba=("host app app all scram-sha-256",),
            parameters={"work_mem": "8MB"},
            tokens=tokens,
            primary_pool=pool,
            **more,
        )
        joiner = Joiner(
            facts=herd.facts,
            submit=herd.submit,
            ca_certificate=ca,
            ca_key=ca.with_suffix(".key"),
            shared=lambda: shared,
            unix_s=lambda: herd.unix_ms / 1000,
        )
        herd.joiner = joiner.admit
        app = fakes.make_app(herd, ca_pem=joiner.ca_pem)
        tls = ServeTls(cert=self.settings.api.tls.cert, key=self.settings.api.tls.key)
        self.server = serving(app, tls)

    def token(self, *, secret: str = SECRET, ca: str = "", id: str = "t1") -> str:
        invitation = Invitation(
            host="127.0.0.1",
            port=self.server.port,
            id=id,
            secret=secret,
            ca_sha256=ca or self.ca_sha256,
        )
        return encode_token(invitation)

    def issue(self, *, seconds: int = 3600, id: str = "t1") -> None:
        expires = int(self.herd.unix_ms / 1000) + seconds
        self.herd.must(
            cmd.IssueToken(id=id, secret_sha256=hash_secret(SECRET), expires_at_unix=expires)
        )


@pytest.fixture
def inviting(pgherd, herd, fakes, serving, tmp_path):
    init(pgherd, tmp_path / "n1")
    made = Inviting(herd, fakes, serving, tmp_path / "n1")
    made.issue()
    with made.server:
        yield made


def join(pgherd, directory: Path, token: str, *more: str):
    address = ("--address", "127.0.0.1", "--base-port", str(pgherd.free_base()))
    name = () if "--name" in more else ("--name", "n4")
    return pgherd("join", "--token", token, "--dir", directory, *name, *address, *more)


def test_join_writes_a_whole_node(pgherd, inviting, tmp_path):
    """One token, no file copied: configuration, certificate, secrets, and the seat in consensus."""
    result = join(pgherd, tmp_path / "n4", inviting.token())
    assert result.code == 0, result.err
    settings = load(tmp_path / "n4/pgherd.yaml")
    assert (settings.node.name, settings.cluster.name) == ("n4", "main")
    assert settings.raft.members == ()
    assert settings.postgresql.replication.username == "repl"
    assert settings.postgresql.replication.password.reveal({}) == "stream"
    assert settings.postgresql.hba == ("host app app all scram-sha-256",)
    assert settings.postgresql.parameters == {"work_mem": "8MB"}
    assert settings.api.tokens == inviting.settings.api.tokens
    admission = read_admission(settings.raft.data_dir)
    assert isinstance(admission, Admission)
    assert admission.raft_id == inviting.herd.current.members[NodeId("n4")].raft_id
    assert [seat.node for seat in admission.members] == ["n1", "n2", "n3"]
    for name in ("ca.crt", "ca.key"):
        assert (tmp_path / "n4/pki" / name).read_bytes() == (
            tmp_path / "n1/pki" / name
        ).read_bytes()
    token = (tmp_path / "n1/secrets/admin.token").read_text()
    assert (tmp_path / "n4/secrets/admin.token").read_text() == token


@pytest.mark.parametrize(
    ("invited_by", "words", "expected"),
    [
        ("none", (), ["none", "none"]),
        ("session", (), ["session", "none"]),
        ("transaction", (), ["transaction", "none"]),
        ("session", ("--witness", "--proxy"), ["session", "none"]),
        ("session", ("--witness",), []),
        ("session", ("--set", "proxy.listeners=[{port: 1, route: primary}]"), ["none"]),
    ],
)
def test_a_new_nodes_primary_port_does_as_the_others(
    pgherd, herd, fakes, serving, tmp_path, invited_by, words, expected
):
    """An older file's member invites to `none`, a new one to `session`; what is typed counts."""
    init(pgherd, tmp_path / "n1")
    more = {"pool": invited_by, "proxy_tls": True}
    member = Inviting(herd, fakes, serving, tmp_path / "n1", **more)
    member.issue()
    with member.server:
        result = join(pgherd, tmp_path / "n4", member.token(), *words)
    assert result.code == 0, result.err
    settings = load(tmp_path / "n4/pgherd.yaml")
    assert [pool for _, pool in pools(settings)] == expected
    ends_tls = any(pool != "none" for pool in expected)
    assert (settings.proxy.tls is not None) == ends_tls, "where a member's proxy has TLS"


def test_a_witness_joins_without_secrets(pgherd, inviting, tmp_path):
    """It votes; it has no password and no authority's key."""
    result = join(pgherd, tmp_path / "w1", inviting.token(), "--name", "w1", "--witness")
    assert result.code == 0, result.err
    assert load(tmp_path / "w1/pgherd.yaml").node.witness
    assert not (tmp_path / "w1/pki/ca.key").exists()
    assert {path.name for path in (tmp_path / "w1/secrets").iterdir()} == {"local.token"}


def test_refused_joins_write_nothing(pgherd, inviting, tmp_path):
    """Unknown, wrong, expired, used, taken: a clear error, its exit code, and no file."""
    cases = [
        (inviting.token(secret="wrong"), (), 6, "did not make this join token"),
        (inviting.token(), ("--name", "n2"), 3, "n2 is a member already"),
        (inviting.token(ca="0" * 64), (), 2, "another cluster"),
    ]
    for token, more, code, said in cases:
        result = join(pgherd, tmp_path / "n4", token, *more)
        assert (result.code, said in result.err) == (code, True), result.err
        assert "next:" in result.err
    inviting.issue(seconds=-1, id="old")
    expired = join(pgherd, tmp_path / "n4", inviting.token(id="old"))
    assert expired.code == 6
    assert "has expired" in expired.err
    assert "pgherd token create --join" in expired.err
    assert not (tmp_path / "n4").exists()
    assert len(inviting.herd.current.members) == 3


def test_a_used_token_is_refused(pgherd, inviting, tmp_path):
    """The second node needs its own."""
    join(pgherd, tmp_path / "n4", inviting.token())
    result = join(pgherd, tmp_path / "n5", inviting.token(), "--name", "n5")
    assert result.code == 6
    assert "was used by n4" in result.err
    assert not (tmp_path / "n5").exists()


def test_a_wrong_major_is_refused(pgherd, inviting, tmp_path, monkeypatch):
    """Before the member is added."""
    monkeypatch.setattr("pgherd.cli.founding.find_postgres", lambda settings: (None, 18))
    result = join(pgherd, tmp_path / "n4", inviting.token())
    assert result.code == 3
    assert "has PostgreSQL 18, the cluster runs 15" in result.err
    assert not (tmp_path / "n4").exists()


def test_join_where_a_node_is(pgherd, inviting, tmp_path):
    """A directory in use is refused before the token is spent."""
    result = join(pgherd, tmp_path / "n1", inviting.token())
    assert result.code == 2
    assert "was set up already" in result.err
    assert inviting.herd.current.tokens["t1"].used_by is None


def test_tokens_that_are_none(pgherd, tmp_path):
    """Damaged or missing: said before anybody is asked."""
    for argv in (("--token", "x"), ("--token", "pgherd1.abcdef"), ()):
        result = pgherd("join", *argv, "--name", "n4", "--dir", tmp_path / "n4")
        assert result.code == 2
        assert "pgherd token create --join" in result.err or "copy it again" in result.err


def test_token_create(pgherd, inviting):
    """The token alone is on standard output; what it is good for is talk."""
    url = f"https://127.0.0.1:{inviting.server.port}"
    config = inviting.settings.raft.tls.ca.parent.parent / "pgherd.yaml"
    where = ("--api-url", url, "--config", config)
    result = pgherd("token", "create", "--join", "--ttl", "10m", *where)
    assert result.code == 0, result.err
    assert result.out.startswith("pgherd1.")
    assert result.out.count("\n") == 1
    assert "pgherd join" in result.err
    assert pgherd("token", "create", *where).code == 2
    assert pgherd("token", "create", "--join", "--ttl", "long", *where).code == 2


@pytest.mark.parametrize(
    ("target", "where"),
    [
        ("", ("h", 1)),
        ("10.0.0.1", ("10.0.0.1", 1)),
        ("10.0.0.1:9", ("10.0.0.1", 9)),
        ("[fd00::1]:9", ("fd00::1", 9)),
        ("fd00::1", ("fd00::1", 1)),
    ],
)
def test_the_target_may_be_typed(target, where):
    """HOST or HOST:PORT, IPv6 too, instead of what the token says."""
    told = Invitation(host="h", port=1, id="i", secret="s", ca_sha256="c")
    found = aim(told, target)
    assert (found.host, found.port) == where


def test_a_target_that_is_none():
    """Refused with an example."""
    told = Invitation(host="h", port=1, id="i", secret="s", ca_sha256="c")
    with pytest.raises(OperatorError):
        aim(told, "host:port")
