"""What a node's own files say in a check-up: its configuration, and its certificates.

Real files, with the faults that people make in them; the checks are red by what was read.
"""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from pgherd.config.load import load
from pgherd.daemon import checkup
from pgherd.model.checkup import Agent, Finding, NodeFacts, Status
from pgherd.model.facts import Kind
from pgherd.model.ids import NodeId
from pgherd.pki.authority import make_ca, make_node_certificate
from pgherd.pki.files import write_private
from pgherd.plan.doctor import checks

N1 = NodeId("n1")
NOW = datetime.datetime.now(datetime.UTC)


class Place:
    """One node's directory."""

    def __init__(self, directory: Path) -> None:
        self.config = directory / "pgherd.yaml"
        self.files = {name: directory / f"{name}.pem" for name in ("ca", "cert", "key")}
        self.authority = make_ca("test")
        self.issue()

    def issue(self, **options: object) -> None:
        """A new certificate."""
        issued = make_node_certificate(self.authority, N1, ["127.0.0.1"], **options)  # type: ignore[arg-type] # a test's own
        write_private(self.files["ca"], self.authority.certificate_pem)
        write_private(self.files["cert"], issued.certificate_pem)
        write_private(self.files["key"], issued.key_pem)

    def write(self, text: str) -> None:
        tls = ", ".join(f"{name}: {path}" for name, path in self.files.items())
        self.config.write_text(f"version: 1\nraft: {{tls: {{{tls}}}}}\n{text}\n")

    def judged(self) -> dict[str, Finding]:
        """Of what stands there now; the daemon works with what `load` made of it before."""
        settings = load(str(self.config), {}, check_files=False)
        return judged(
            told=checkup.told(settings, self.config, in_force=settings),
            certificates=checkup.certificates_of(settings),
        )


def judged(**parts: object) -> dict[str, Finding]:
    facts = NodeFacts(node=N1, kind=Kind.DATA, version="1", agent=Agent(), **parts)  # type: ignore[arg-type] # a test's own
    return {one.check: one for one in checks.of_node(facts)}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


FINE = """
node: {name: n1, address: 10.0.0.1}
api: {tokens: [{name: ci, role: admin, sha256: "%s"}]}
""" % ("ab" * 32)
CARELESS = """
node: {name: n1, address: 10.0.0.1}
api: {rate_limit: 0, protect_reads: false}
log: {level: debug}
failover: {enabled: false}
"""


def test_a_careless_configuration_is_red(place: Place) -> None:
    names = ("security.api_guard", "security.rate_limit", "security.reads", "agent.log_level")
    place.write(FINE)
    fine = place.judged()
    assert not [name for name in names if fine[name].status.is_red]
    assert fine["security.api_tls"].status.is_red, "none is set, beyond loopback"
    place.write(CARELESS)
    careless = place.judged()
    assert [name for name in names if not careless[name].status.is_red] == []
    place.config.write_text("version: 1\nnode: {name: n1, address: 127.0.0.1}\n")
    assert "security.api_tls" not in place.judged(), "nobody else reaches loopback"


def test_a_file_that_was_changed_or_broken_since(place: Place) -> None:
    place.write(FINE)
    settings = load(str(place.config), {}, check_files=False)

    def now() -> dict[str, Finding]:
        return judged(told=checkup.told(settings, place.config, in_force=settings))

    assert not now()["config.file"].status.is_red
    assert not now()["config.in_force"].status.is_red
    place.write(FINE + "log: {level: warning}\n")
    assert "log.level" in now()["config.in_force"].text
    assert now()["config.in_force"].status.is_red
    place.write(FINE + "ttl: 30\n")
    assert "ttl" in now()["config.file"].text
    assert now()["config.file"].status.is_red
    assert now()["config.in_force"].status is Status.UNKNOWN
    place.config.unlink()
    assert now()["config.file"].status.is_red


def test_certificates_that_end_or_do_not_fit(place: Place) -> None:
    place.write(FINE)
    fine = place.judged()
    assert not fine["certificate.use"].status.is_red
    assert not fine["certificate.expiry"].status.is_red
    place.issue(days=9)
    assert "node ends in" in place.judged()["certificate.expiry"].text
    place.issue(days=1, now=NOW - datetime.timedelta(days=3))
    assert "has expired" in place.judged()["certificate.use"].text
    place.issue(now=NOW + datetime.timedelta(days=3))
    assert place.judged()["certificate.use"].status.is_red
    kept = place.files["key"].read_bytes()
    place.issue()
    place.files["key"].write_bytes(kept)
    assert "its key does not fit" in place.judged()["certificate.use"].text
    place.files["cert"].unlink()
    assert "No such file" in place.judged()["certificate.use"].text
