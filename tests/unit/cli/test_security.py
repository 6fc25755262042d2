"""Proves the commands of tokens, of the audit record, and of certificates, on real files."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import msgspec
import pytest
from cryptography import x509

from pgherd.api.guard import ApiToken, Role
from pgherd.cli.client import trust
from pgherd.config.load import load
from pgherd.ledger.commands import RecordAudit
from pgherd.ledger.levels import LEVEL
from pgherd.model.errors import OperatorError
from pgherd.model.rights import AuditEntry
from pgherd.pki.authority import Authority, fingerprint, sign_request
from pgherd.pki.token import hash_secret

ROOT = ApiToken("root", Role.ADMIN, hash_secret("root"))


@pytest.fixture
def upgraded(herd):
    herd.current = msgspec.structs.replace(herd.current, level=LEVEL)
    return herd


@pytest.fixture
def url(upgraded, fakes, serving, pgherd, monkeypatch):
    with serving(fakes.make_app(upgraded, tokens=(ROOT,))) as server:
        monkeypatch.setenv("PGHERD_TOKEN", "root")
        yield ("--api-url", server.url)


def test_a_token_from_its_making_to_its_end(url, pgherd, monkeypatch):
    """The token alone is on standard output; lists never have it."""
    made = pgherd("token", "create", "--role", "operator", "--name", "ops", "--ttl", "1h", *url)
    assert made.code == 0, made.err
    token = made.out.strip()
    assert token.startswith("pgherd_")
    assert "not shown again" in made.err
    again = pgherd("token", "create", "--role", "viewer", "--name", "ops", *url)
    assert (again.code, "token list" in again.err) == (3, True)
    listed = pgherd("token", "list", *url)
    assert ("ops" in listed.out, "root" in listed.out, token in listed.out) == (True, True, False)
    assert "api.tokens" in listed.err
    monkeypatch.setenv("PGHERD_TOKEN", token)
    assert pgherd("status", *url).code == 0
    assert pgherd("token", "list", *url).code == 6
    monkeypatch.setenv("PGHERD_TOKEN", "root")
    assert pgherd("token", "revoke", "ops", *url).code == 2, "it asks first"
    gone = pgherd("token", "revoke", "ops", "--yes", *url)
    assert (gone.code, gone.out) == (0, "ops (operator) is revoked\n")
    assert pgherd("token", "revoke", "ops", "--yes", *url).code == 2
    monkeypatch.setenv("PGHERD_TOKEN", token)
    assert pgherd("status", *url).code == 6


@pytest.mark.parametrize("words", [(), ("--join", "--role", "admin"), ("--role", "god")])
def test_a_token_is_for_one_thing(url, pgherd, words):
    assert pgherd("token", "create", *words, *url).code == 2


def test_the_audit_record_is_a_table(url, upgraded, pgherd):
    """Or the API's own objects; of one name, where asked."""
    entries = [
        AuditEntry(str(n), "n1", 1000 * n, who, "10.0.0.9", "POST /x", status, code, f"r{n}")
        for n, (who, status, code) in enumerate([("ann", 200, ""), ("bob", 404, "unknown_node")], 1)
    ]
    upgraded.must(RecordAudit(tuple(entries)))
    shown = pgherd("audit", *url).out
    assert shown.index("unknown_node") < shown.index("done"), "the newest first"
    found = json.loads(pgherd("audit", "--who", "ann", "--output", "json", *url).out)
    [one] = found["audit"]
    assert (one["who"], one["result"], one["request_id"]) == ("ann", "done", "r1")


# --- certificates --------------------------------------------------------------------------------


@pytest.fixture
def node(pgherd, tmp_path, monkeypatch) -> Path:
    """A node as `init` makes it."""
    monkeypatch.setattr("pgherd.cli.founding.find_postgres", lambda settings: (None, 15))
    monkeypatch.setattr("pgherd.cli.founding.speaks_tls", lambda settings: True)
    address = ("--address", "127.0.0.1", "--base-port", str(pgherd.free_base()))
    assert pgherd("init", "--dir", tmp_path / "n1", *address).code == 0
    return tmp_path / "n1"


def days_left(path: Path) -> int:
    found = x509.load_pem_x509_certificate(path.read_bytes())
    return (found.not_valid_after_utc - found.not_valid_before_utc).days


def names(path: Path) -> list[str]:
    found = x509.load_pem_x509_certificate(path.read_bytes())
    inner = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(one.value) for one in inner]


def test_a_data_node_renews_by_itself(pgherd, node):
    """Running or not, for the same names, with another key; the pair fits."""
    config, crt, key = node / "pgherd.yaml", node / "pki/node.crt", node / "pki/node.key"
    before = (names(crt), fingerprint(crt.read_bytes()), key.read_bytes())
    done = pgherd("pki", "renew", "--ttl", "20d", "--config", config)
    assert done.code == 0, done.err
    assert "no daemon shows the new certificate yet" in done.err
    assert names(crt) == before[0]
    assert fingerprint(crt.read_bytes()) != before[1]
    assert key.read_bytes() != before[2]
    assert key.stat().st_mode & 0o777 == 0o600
    assert days_left(crt) == 20
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(crt, key)
    shown = json.loads(pgherd("pki", "show", "--output", "json", "--config", config).out)
    assert [(one["name"], one["days"]) for one in shown["certificates"]] == [
        ("node", 19),
        ("authority", 3649),
    ]
    for wrong in ("1h", "20y", "long"):
        assert pgherd("pki", "renew", "--ttl", wrong, "--config", config).code == 2


def test_a_node_without_the_key_asks_the_cluster(pgherd, node, upgraded, url):
    """What comes back has to be of its own authority."""
    ca = Authority((node / "pki/ca.crt").read_bytes(), (node / "pki/ca.key").read_bytes())
    (node / "pki/ca.key").unlink()
    argv = ("pki", "renew", "--ttl", "9d", *url, "--config", node / "pgherd.yaml")
    none = pgherd(*argv)
    assert (none.code, days_left(node / "pki/node.crt")) == (3, 3650)

    def signer(name, csr, days):
        signed = sign_request(ca, csr.encode(), node=name, hosts=["10.0.0.1"], days=days)
        return signed.decode(), ca.certificate_pem.decode()

    upgraded.signer = signer
    done = pgherd(*argv)
    assert done.code == 0, done.err
    assert days_left(node / "pki/node.crt") == 9
    other = (node / "pki/node.crt").read_text()
    upgraded.signer = lambda name, csr, days: (other, other)
    assert pgherd(*argv).code == 2
    assert (node / "pki/node.crt").read_text() == other


def test_a_clients_certificate_is_made_once(pgherd, node, tmp_path):
    """With its role in it, private, and never over another one."""
    out, config = tmp_path / "own", node / "pgherd.yaml"
    words = ("--name", "ann@example.org", "--role", "operator", "--out", str(out))
    made = pgherd("pki", "issue", *words, "--config", config)
    assert made.code == 0, made.err
    found = x509.load_pem_x509_certificate((out / "ann@example.org.crt").read_bytes())
    assert found.subject.rfc4514_string() == "OU=pgherd:operator,CN=ann@example.org"
    assert (out / "ann@example.org.key").stat().st_mode & 0o777 == 0o600
    assert days_left(out / "ann@example.org.crt") == 90
    assert pgherd("pki", "issue", *words, "--config", config).code == 2
    for wrong in (("--name", "a"), ("--name", "a/b", "--role", "admin"), ("--role", "god")):
        assert pgherd("pki", "issue", *wrong, "--config", config).code == 2
    (node / "pki/ca.key").unlink()
    more = ("--name", "bob", "--role", "viewer", "--out", str(out))
    assert "data member" in pgherd("pki", "issue", *more, "--config", config).err


def test_files_that_cannot_be_read_or_written_are_named(pgherd, node, tmp_path):
    """With what to do next: the authority's certificate, and the directory for a client's."""
    config, ca = node / "pgherd.yaml", node / "pki/ca.crt"
    issue = ("pki", "issue", "--name", "ann", "--role", "viewer", "--config", config, "--out")
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below", "/proc/none"):
        refused = pgherd(*issue, out)
        assert (refused.code, str(out) in refused.err, "--out DIR" in refused.err) == (
            2,
            True,
            True,
        )
    for spoil in (lambda: ca.write_text("no certificate"), ca.unlink, ca.mkdir):
        spoil()
        for argv in ((*issue, tmp_path), ("pki", "renew", "--config", config)):
            refused = pgherd(*argv)
            told = (str(ca) in refused.err, "raft.tls.ca" in refused.err)
            assert (refused.code, told) == (2, (True, True)), refused.err


def test_a_clients_certificate_is_shown(node, tmp_path):
    """By PGHERD_CERT and PGHERD_KEY; one that does not fit is a clear error."""
    pki, settings = node / "pki", load(node / "pgherd.yaml")
    assert settings.api.tls is not None
    context = trust(str(pki / "ca.crt"), cert=str(pki / "node.crt"), key=str(pki / "node.key"))
    assert isinstance(context, ssl.SSLContext)
    with pytest.raises(OperatorError, match="client certificate"):
        trust("", cert=str(pki / "node.crt"), key=str(pki / "ca.key"))
    assert trust("") is True
