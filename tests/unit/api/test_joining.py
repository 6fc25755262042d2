"""Proves how a node is admitted: with the real ledger, real certificates, and the real routes."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import msgspec
import pytest
from cryptography import x509

from pgherd.api.herd import JoinAnswer, JoinRefused, JoinRequest, NoQuorum, Shared, SharedToken
from pgherd.api.joining import Joiner, ca_key_of
from pgherd.ledger import commands as cmd
from pgherd.model.facts import Address, Kind
from pgherd.model.ids import NodeId
from pgherd.pki.authority import fingerprint, make_ca, make_request
from pgherd.pki.token import decode_token, hash_secret

N4 = NodeId("n4")
SECRET = "a-secret-of-the-token"
ADDRESS = Address(host="10.0.0.4", raft_port=8300, postgres_port=5442, api_port=8008)


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    """An authority's files in the layout of `pgherd init`."""
    made = make_ca("main")
    path = tmp_path / "pki" / "ca.crt"
    path.parent.mkdir()
    path.write_bytes(made.certificate_pem)
    ca_key_of(path).write_bytes(made.key_pem)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "admin.token").write_text("the-admin\n")
    return path


@pytest.fixture
def joiner(herd, ca: Path) -> Joiner:
    """What the agent wires; the token t1 is good for an hour."""
    issue_token(herd)
    shared = Shared(
        superuser="postgres",
        superuser_password="s",
        replication="r",
        replication_password="p",
        tokens=(SharedToken(name="admin", role="admin", sha256="0" * 64),),
        primary_pool="session",
    )
    made = Joiner(
        facts=herd.facts,
        submit=herd.submit,
        ca_certificate=ca,
        ca_key=ca_key_of(ca),
        shared=lambda: shared,
        unix_s=lambda: herd.unix_ms / 1000,
    )
    herd.joiner = made.admit
    return made


def issue_token(herd, *, seconds: int = 3600) -> None:
    expires = herd.unix_ms // 1000 + seconds
    herd.must(cmd.IssueToken(id="t1", secret_sha256=hash_secret(SECRET), expires_at_unix=expires))


def request_of(**changes: object) -> JoinRequest:
    csr = make_request(N4, ["10.0.0.4"]).csr_pem.decode()
    made = JoinRequest(
        token_id="t1",
        secret=SECRET,
        node=N4,
        kind=Kind.DATA,
        address=ADDRESS,
        csr=csr,
        major=15,
    )
    return msgspec.structs.replace(made, **changes)


def admit(joiner: Joiner, request: JoinRequest) -> JoinAnswer:
    return asyncio.run(joiner.admit(request))


def test_a_node_is_admitted(herd, joiner, ca):
    """Its key is signed under its name, it is a member, the token is used, and it learns all."""
    answer = admit(joiner, request_of())
    certificate = x509.load_pem_x509_certificate(answer.certificate.encode())
    authority = x509.load_pem_x509_certificate(ca.read_bytes())
    certificate.verify_directly_issued_by(authority)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = [str(one) for one in names.get_values_for_type(x509.IPAddress)]
    assert certificate.subject.rfc4514_string() == "CN=n4"
    assert {"10.0.0.4", "127.0.0.1"} <= set(addresses)
    member = herd.current.members[N4]
    assert (member.address, answer.admission.raft_id) == (ADDRESS, member.raft_id)
    assert herd.current.tokens["t1"].used_by == N4
    assert [seat.node for seat in answer.admission.members] == ["n1", "n2", "n3"]
    assert answer.admission.system_id == herd.current.system_id
    assert answer.shared.superuser_password == "s"
    assert answer.shared.admin_token == "the-admin"
    assert answer.shared.ca_key == ca_key_of(ca).read_text()


def test_a_witness_gets_no_secret(joiner):
    """What it does not need it is not given."""
    answer = admit(joiner, request_of(kind=Kind.WITNESS, major=0))
    assert answer.shared == Shared(tokens=answer.shared.tokens, primary_pool="session")
    assert "PRIVATE" not in msgspec.json.encode(answer).decode()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"token_id": "t2"}, "token_unknown"),
        ({"secret": "wrong"}, "token_unknown"),
        ({"node": "N4"}, "invalid_name"),
        ({"node": "n2"}, "name_taken"),
        ({"major": 18}, "wrong_major"),
        ({"system_id": "4711"}, "other_cluster"),
        ({"address": Address(host="127.0.0.1", raft_port=8302)}, "address_taken"),
        ({"address": Address(host="10.0.0.4", raft_port=8300)}, "invalid_address"),
        ({"csr": "nonsense"}, "invalid_request"),
    ],
)
def test_refusals_change_nothing(herd, joiner, changes, code):
    """Whatever is wrong, no member is added and the token stays good."""
    before = herd.current
    with pytest.raises(JoinRefused) as refused:
        admit(joiner, request_of(**changes))
    assert refused.value.code == code
    assert herd.current == before


def test_an_expired_token_is_refused(herd, joiner):
    """One second after its time."""
    herd.unix_ms += 3600 * 1000
    with pytest.raises(JoinRefused) as refused:
        admit(joiner, request_of())
    assert refused.value.code == "token_expired"


def test_a_used_token_is_refused_and_a_repeated_request_is_not(herd, joiner):
    """The same bytes get the same answer; another node with the same token gets nothing."""
    request = request_of()
    first = admit(joiner, request)
    assert admit(joiner, request) == first
    other = request_of(node=NodeId("n5"), address=Address(host="h", raft_port=1, api_port=2))
    with pytest.raises(JoinRefused) as refused:
        admit(joiner, other)
    assert refused.value.code == "token_used"
    assert len(herd.current.members) == 4


def test_without_a_quorum_the_token_stays_good(herd, joiner):
    """The member is added by a committed command or not at all."""
    herd.has_quorum = False
    with pytest.raises(NoQuorum):
        admit(joiner, request_of())
    assert herd.current.tokens["t1"].used_by is None


def test_a_node_without_the_key_refuses(herd, joiner, ca):
    """It says where to go instead."""
    ca_key_of(ca).unlink()
    with pytest.raises(JoinRefused) as refused:
        admit(joiner, request_of())
    assert refused.value.code == "no_authority"


# --- the routes ----------------------------------------------------------------------------------


def body_of(request: JoinRequest) -> dict:
    return msgspec.to_builtins(request)


def test_join_over_http(herd, joiner, make_client):
    """The open route admits; the answer is not to be stored."""
    client = make_client(herd, ca_pem=joiner.ca_pem)
    answer = client.post("/api/v1/join", json=body_of(request_of()))
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    found = msgspec.json.decode(answer.content, type=JoinAnswer)
    assert found.admission.node == N4


def test_join_refusals_over_http(herd, joiner, make_client):
    """403 for the token, 409 for a taken name, 422 for a body of the wrong form."""
    client = make_client(herd, ca_pem=joiner.ca_pem)
    wrong = client.post("/join", json=body_of(request_of(secret="wrong")))
    assert (wrong.status_code, wrong.json()["code"]) == (403, "token_unknown")
    assert "token create --join" in wrong.json()["hint"]
    taken = client.post("/join", json=body_of(request_of(node="n2")))
    assert (taken.status_code, taken.json()["code"]) == (409, "name_taken")
    body = body_of(request_of())
    assert client.post("/join", json=body | {"address": {"host": 5}}).status_code == 422
    assert client.post("/join", json=body | {"more": 1}).status_code == 422


def test_joins_are_limited_to_five_a_minute(herd, joiner, make_client):
    """Guessing a secret is slow; the sixth try is not even looked at."""
    now = [0.0]
    client = make_client(herd, ca_pem=joiner.ca_pem, clock=lambda: now[0])
    body = body_of(request_of(secret="wrong"))
    codes = [client.post("/api/v1/join", json=body).status_code for _ in range(6)]
    assert codes == [403] * 5 + [429]
    now[0] = 61.0
    assert client.post("/api/v1/join", json=body_of(request_of())).status_code == 200


def test_a_token_is_issued_and_leads_here(herd, joiner, make_client, ca):
    """The token carries this node's API and the CA's hash; the ledger has only its secret's."""
    client = make_client(herd, ca_pem=joiner.ca_pem)
    answer = client.post("/api/v1/tokens/join", json={"ttl_seconds": 600})
    assert answer.status_code == 201
    invitation = decode_token(answer.json()["token"])
    assert (invitation.host, invitation.port) == ("127.0.0.1", 8009)
    assert invitation.ca_sha256 == fingerprint(ca.read_bytes())
    kept = herd.current.tokens[invitation.id]
    assert kept.secret_sha256 == hash_secret(invitation.secret)
    assert kept.expires_at_unix == herd.unix_ms // 1000 + 600
    assert client.post("/api/v1/tokens/join", json={"ttl_seconds": 1}).status_code == 422


def test_the_ca_is_public(herd, joiner, make_client, client, ca):
    """It is served to everybody; a node without one says so and issues no token."""
    with_ca = make_client(herd, ca_pem=joiner.ca_pem)
    for path in ("/join/ca", "/api/v1/join/ca"):
        assert ssl.PEM_cert_to_DER_cert(with_ca.get(path).text)
    assert client.get("/join/ca").status_code == 404
    assert client.post("/api/v1/tokens/join").json()["code"] == "no_authority"
