"""A node knows when its certificates end, says so in time, and what is wrong with them."""

from __future__ import annotations

import asyncio
import datetime
import time

import msgspec
import pytest

from pgherd.api.joining import ca_key_of, hosts_of
from pgherd.config.generate import generate
from pgherd.config.load import load_text
from pgherd.daemon.certificates import DAY_S, CertificateWatch
from pgherd.daemon.checkup import certificates_of
from pgherd.daemon.signing import SIGN, Signing
from pgherd.model.checkup import NodeFacts
from pgherd.model.errors import OperatorError, PeerError
from pgherd.model.facts import Address, Facts, Kind, Member
from pgherd.model.ids import NodeId, RaftId
from pgherd.pki.authority import make_ca, make_node_certificate, make_request
from pgherd.pki.files import write_private
from pgherd.plan.doctor import checks

N1, N2, W1 = NodeId("n1"), NodeId("n2"), NodeId("w1")
NOW = datetime.datetime.now(datetime.UTC)


class Place:
    """One node's files and the settings that name them."""

    def __init__(self, directory):
        self.ca = make_ca("test")
        self.files = {name: directory / f"{name}.pem" for name in ("ca", "cert", "key")}
        self.issue()
        tls = {name: str(path) for name, path in self.files.items()}
        values = {
            "node.name": "n1",
            "raft.tls": tls,
            "api.tls": {"cert": tls["cert"], "key": tls["key"]},
        }
        self.settings = load_text(generate(values))
        self.renewed = 0

    def issue(self, *, ca=None, **options):
        issued = make_node_certificate(ca or self.ca, N1, ["127.0.0.1"], **options)
        write_private(self.files["ca"], self.ca.certificate_pem)
        write_private(self.files["cert"], issued.certificate_pem)
        write_private(self.files["key"], issued.key_pem)

    def watch(self):
        return CertificateWatch(self.settings, renewed=self.count)

    async def count(self):
        self.renewed += 1

    def said(self):
        watch = self.watch()
        asyncio.run(watch.look())
        return watch.warnings()


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_a_good_certificate_is_not_worth_a_word(place):
    """But a number: of each file once, under its first name."""
    watch = place.watch()
    asyncio.run(watch.look())
    assert watch.warnings() == []
    left = watch.seconds_left()
    assert set(left) == {"node", "authority"}
    assert 3649 * DAY_S < left["node"] < 3651 * DAY_S


def test_the_end_is_told_a_month_before(place):
    """And from the end on that it has come, with what to type."""
    place.issue(days=31)
    assert place.said() == []
    place.issue(days=29)
    [soon] = place.said()
    assert "ends in 28 days" in soon
    assert "pgherd pki renew" in soon
    place.issue(days=1, now=NOW - datetime.timedelta(days=3))
    [over] = place.said()
    assert "has expired on" in over


def test_a_check_up_is_red_before_the_end_and_after_it(place):
    """Of the files as they are, read by the check-up itself."""

    def red():
        facts = NodeFacts(
            node=N1, kind=Kind.DATA, version="1", certificates=certificates_of(place.settings)
        )
        found = {one.check for one in checks.of_node(facts) if one.status.is_red}
        return found & {"certificate.expiry", "certificate.use"}

    assert red() == set()
    place.issue(days=29)
    assert red() == {"certificate.expiry"}
    place.issue(days=1, now=NOW - datetime.timedelta(days=3))
    assert red() == {"certificate.use"}
    place.issue(ca=make_ca("test"))
    assert red() == {"certificate.use"}


def test_what_peers_would_refuse_is_told_at_once(place):
    """Not valid yet, of another authority or key, unreadable, no certificate at all."""
    place.issue(now=NOW + datetime.timedelta(days=3))
    assert "look at this machine's clock" in place.said()[0]
    place.issue(ca=make_ca("test"))
    assert "is refused" in place.said()[0]
    kept = place.files["key"].read_bytes()
    place.issue()
    place.files["key"].write_bytes(kept)
    assert "its key does not fit" in place.said()[0]
    place.files["cert"].write_text("nonsense")
    assert "cannot be used" in place.said()[0]
    place.files["cert"].unlink()
    assert "No such file" in place.said()[0]


def test_a_change_is_noticed_and_passed_on(place):
    """At the next look, and once."""

    async def story():
        watch = place.watch()
        await watch.look()
        await watch.look()
        assert place.renewed == 0
        place.issue(days=10)
        await watch.look()
        await watch.look()
        assert place.renewed == 1
        assert watch.seconds_left()["node"] < 11 * DAY_S
        assert watch.warnings()

    asyncio.run(story())


def member(node, kind, number):
    return Member(node, RaftId(number), kind, Address(f"{node}.example.org", 1))


FACTS = Facts(
    "test",
    members={
        N1: member(N1, Kind.DATA, 1),
        N2: member(N2, Kind.DATA, 2),
        W1: member(W1, Kind.WITNESS, 3),
    },
)


class Signers:
    """Members that ask each other by calls; n1 is away, n2 has the authority's key."""

    def __init__(self, directory):
        self.ca = make_ca("test")
        for name in ("n2", "w1"):
            (directory / name).mkdir()
            write_private(directory / name / "ca.crt", self.ca.certificate_pem)
        write_private(ca_key_of(directory / "n2" / "ca.crt"), self.ca.key_pem)
        self.n2, self.w1 = (
            Signing(me=node, facts=lambda: FACTS, ca=directory / node / "ca.crt", ask=self.ask)
            for node in (N2, W1)
        )
        self.asker = W1

    async def ask(self, to, kind, body, *, timeout_s):
        assert kind == SIGN
        if to != N2:
            raise PeerError(f"{to} is away")
        return await self.n2.answer(self.asker, body)


def test_who_has_no_key_has_its_certificate_signed_elsewhere(tmp_path):
    """For itself and nobody else, under the names that the ledger has."""
    signers = Signers(tmp_path)
    request = make_request(W1, ["evil.example.org"]).csr_pem.decode()
    certificate, ca = asyncio.run(signers.w1.certificate(W1, request, 5))
    assert ca.encode() == signers.ca.certificate_pem
    from cryptography import x509

    found = x509.load_pem_x509_certificate(certificate.encode())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(one.value) for one in names] == ["w1", *hosts_of(FACTS.members[W1].address)]
    assert found.not_valid_after_utc.timestamp() - time.time() < 6 * DAY_S
    with pytest.raises(OperatorError, match="cannot sign for n2"):
        asyncio.run(signers.w1.certificate(N2, request, 5))
    with pytest.raises(OperatorError, match="cannot be read"):
        asyncio.run(signers.n2.certificate(W1, "nonsense", 5))
    signers.asker = NodeId("stranger")
    with pytest.raises(OperatorError, match="no member"):
        asyncio.run(signers.w1.certificate(W1, request, 5))


def test_without_anybody_who_could_sign_that_is_said(tmp_path):
    signers = Signers(tmp_path)
    ca_key_of(tmp_path / "n2" / "ca.crt").unlink()

    async def ask(to, kind, body, *, timeout_s):
        raise PeerError(f"{to} is away")

    signers.w1._ask = ask
    request = make_request(W1, []).csr_pem.decode()
    with pytest.raises(OperatorError, match="n2 is away"):
        asyncio.run(signers.w1.certificate(W1, request, 5))
    body = msgspec.msgpack.encode({"csr": request, "days": 5})
    with pytest.raises(OperatorError, match="no key"):
        asyncio.run(signers.n2.answer(W1, body))
