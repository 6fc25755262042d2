"""What an agent does when a node asks to join: check the token, sign the key, add the member.

Owns the order that makes it safe: everything that can be refused is refused first, the signature
is made next, and only then the committed command uses the token up. Leaves the route to `joins` and
the ledger's own refusals to `ledger`. Keeps `cryptography` out of the agent: a child process signs.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import msgspec

from pgherd.api.herd import (
    Admission,
    JoinAnswer,
    JoinRefused,
    JoinRequest,
    Seat,
    Shared,
    TimedOut,
)
from pgherd.ledger.commands import AddMember, AnyCommand, Outcome, Refused
from pgherd.model.errors import PgherdError
from pgherd.model.facts import Address, Facts, Kind
from pgherd.model.ids import NodeId, RaftId, name_is_valid
from pgherd.pki.authority import NODE_DAYS
from pgherd.pki.token import secret_matches

ADMISSION_FILE = "joined.json"
"""In raft.data_dir of a joined node: its Admission."""

SIGN_TIMEOUT_S = 10.0
SUBMIT_TIMEOUT_S = 10.0
ANSWERS_MAX = 16
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
NEW_TOKEN = "make a new one on a member: pgherd token create --join"


class Submit(Protocol):
    """The port's way through consensus."""

    def __call__(self, command: AnyCommand, *, timeout_s: float) -> Awaitable[Outcome]:
        """Submit a command."""
        ...


def ca_key_of(ca: Path) -> Path:
    """Where the authority's key lies if this node has it: beside its certificate."""
    return ca.with_suffix(".key")


def read_admission(raft_data_dir: Path) -> Admission | None:
    """What `pgherd join` left for the agent; None on a node that did not join."""
    try:
        data = (raft_data_dir / ADMISSION_FILE).read_bytes()
    except FileNotFoundError:
        return None
    return msgspec.json.decode(data, type=Admission)


def read_admin_token(ca: Path) -> str:
    """The token that `init` made, from its place in the layout; "" where it is not kept."""
    try:
        return (ca.parent.parent / "secrets" / "admin.token").read_text().strip()
    except OSError:
        return ""


class SignOrder(msgspec.Struct, frozen=True):
    """What the signing child reads on its standard input."""

    ca: str
    key: str
    csr: str
    node: NodeId
    hosts: tuple[str, ...]
    days: int = NODE_DAYS


class Joiner:
    """Admits nodes. Nothing of it is kept but the last few answers, for a repeated request."""

    def __init__(
        self,
        *,
        facts: Callable[[], Facts],
        submit: Submit,
        ca_certificate: Path,
        ca_key: Path,
        shared: Callable[[], Shared],
        unix_s: Callable[[], float],
    ) -> None:
        self._facts = facts
        self._submit = submit
        self._ca_certificate = ca_certificate
        self._ca_key = ca_key
        self._shared = shared
        self._unix_s = unix_s
        self._answers: OrderedDict[str, tuple[str, JoinAnswer]] = OrderedDict()
        self._one_at_a_time = asyncio.Lock()

    def ca_pem(self) -> bytes | None:
        """The authority's certificate, None where this node has none."""
        try:
            return self._ca_certificate.read_bytes()
        except OSError:
            return None

    async def admit(self, request: JoinRequest) -> JoinAnswer:
        """Admit a node. Raises JoinRefused, or what the port raises."""
        async with self._one_at_a_time:
            facts = self._facts()
            check_token(facts, request, unix_s=self._unix_s())
            given = self._given_before(request)
            if given is not None:
                return given
            check_request(facts, request)
            check_tls(self._shared(), request)
            ca, key = self._authority()
            certificate = await sign(
                SignOrder(
                    ca=ca,
                    key=key,
                    csr=request.csr,
                    node=request.node,
                    hosts=hosts_of(request.address),
                )
            )
            raft_id = await self._add(request)
            answer = JoinAnswer(
                certificate=certificate,
                ca=ca,
                admission=admission(self._facts(), request.node, raft_id),
                shared=self._shared_for(request, key),
            )
            self._remember(request, answer)
            return answer

    def _authority(self) -> tuple[str, str]:
        try:
            return self._ca_certificate.read_text(), self._ca_key.read_text()
        except OSError as error:
            raise JoinRefused(
                "no_authority",
                f"this node cannot sign certificates: {error.strerror}: {error.filename}",
                "use a token made on a data member that has the authority's key",
            ) from error

    async def _add(self, request: JoinRequest) -> RaftId:
        command = AddMember(
            node=request.node,
            kind=request.kind,
            address=request.address,
            tags=request.tags,
            token=request.token_id,
            level=request.level,
        )
        outcome = await self._submit(command, timeout_s=SUBMIT_TIMEOUT_S)
        if isinstance(outcome, Refused):
            raise JoinRefused(outcome.code, outcome.reason, HINTS.get(outcome.code, ""))
        return RaftId(int(outcome.text))

    def _shared_for(self, request: JoinRequest, key: str) -> Shared:
        shared = self._shared()
        if request.kind is not Kind.DATA:
            return shared.for_witness()
        token = shared.admin_token or read_admin_token(self._ca_certificate)
        return msgspec.structs.replace(shared, ca_key=key, admin_token=token)

    def _given_before(self, request: JoinRequest) -> JoinAnswer | None:
        """The same answer for the same request whose answer was lost on the way; else refuse."""
        known = self._answers.get(request.token_id)
        if known is not None and known[0] == digest_of(request):
            return known[1]
        token = self._facts().tokens[request.token_id]
        if token.used_by is not None:
            raise JoinRefused(
                "token_used", f"this join token was used by {token.used_by}", NEW_TOKEN
            )
        return None

    def _remember(self, request: JoinRequest, answer: JoinAnswer) -> None:
        self._answers[request.token_id] = (digest_of(request), answer)
        while len(self._answers) > ANSWERS_MAX:
            self._answers.popitem(last=False)


HINTS = {
    "name_taken": "choose another with --name, every node has its own",
    "address_taken": "choose another address or port, see: pgherd nodes",
    "token_used": NEW_TOKEN,
    "too_new": "upgrade pgherd on all nodes first; pgherd raft state shows the ledger's level",
    "too_old": "install the pgherd of the other nodes on this one first",
}


def check_token(facts: Facts, request: JoinRequest, *, unix_s: float) -> None:
    """The token exists, is this one, and has not ended; the order tells a guesser nothing."""
    token = facts.tokens.get(request.token_id)
    stored = token.secret_sha256 if token is not None else "0" * 64
    if not secret_matches(request.secret, stored) or token is None:
        raise JoinRefused("token_unknown", "this cluster did not make this join token", NEW_TOKEN)
    if unix_s >= token.expires_at_unix:
        raise JoinRefused("token_expired", "this join token has expired", NEW_TOKEN)


def check_request(facts: Facts, request: JoinRequest) -> None:
    """All else that can be refused before anything is done."""
    node, address = request.node, request.address
    if not name_is_valid(node):
        raise JoinRefused("invalid_name", f"{node!r} is not a node name", "as in --name n2")
    if not facts.system_id:
        raise JoinRefused(
            "not_ready",
            "the first node has not made its database yet",
            "try again when pgherd status says operational",
        )
    if node in facts.members:
        raise JoinRefused("name_taken", f"{node} is a member already", HINTS["name_taken"])
    if any(member.address.raft() == address.raft() for member in facts.members.values()):
        host, port = address.raft()
        text = f"another member is at {host}:{port}"
        raise JoinRefused("address_taken", text, HINTS["address_taken"])
    ports = [address.raft_port, address.api_port]
    if request.kind is Kind.DATA:
        ports.append(address.postgres_port)
    if not address.host or any(not 1 <= port <= 65535 for port in ports):
        raise JoinRefused("invalid_address", "the address is not complete", "see node.address")
    if request.kind is Kind.DATA and request.major != facts.major:
        raise JoinRefused(
            "wrong_major",
            f"{node} has PostgreSQL {request.major}, the cluster runs {facts.major}",
            f"install PostgreSQL {facts.major}, or name it with --set postgresql.bin_dir=DIR",
        )
    if request.system_id and request.system_id != facts.system_id:
        raise JoinRefused(
            "other_cluster",
            f"{node} has a data directory of system identifier {request.system_id}, "
            f"the cluster's is {facts.system_id}",
            "join it with an empty directory: pgherd join (--move-aside keeps what is there)",
        )


def check_tls(shared: Shared, request: JoinRequest) -> None:
    """Members that stream by TLS only could not follow one that has none."""
    if request.kind is Kind.DATA and shared.postgres_tls and not request.tls:
        raise JoinRefused(
            "no_tls",
            f"members stream by TLS only, and PostgreSQL on {request.node} was built without it",
            "install one with OpenSSL, or name it with --set postgresql.bin_dir=DIR",
        )


def admission(facts: Facts, node: NodeId, raft_id: RaftId) -> Admission:
    """What the newcomer must know, of the other members."""
    seats = [
        Seat(node=one.node, raft_id=one.raft_id, address=one.address, voter=one.voter)
        for _, one in sorted(facts.members.items())
        if one.node != node
    ]
    return Admission(
        cluster=facts.cluster,
        node=node,
        raft_id=raft_id,
        members=tuple(seats),
        system_id=facts.system_id,
        major=facts.major,
    )


def hosts_of(address: Address) -> tuple[str, ...]:
    """Every name and address that the node's certificate is for."""
    named = (address.host, address.raft_host, address.postgres_host, address.api_host)
    own = [host for host in (*named, address.proxy_host) if host]
    return tuple(dict.fromkeys((*own, *LOCAL_HOSTS)))


def digest_of(request: JoinRequest) -> str:
    return hashlib.sha256(msgspec.json.encode(request)).hexdigest()


async def sign(order: SignOrder) -> str:
    """Have a child process sign; the key goes through a pipe, never through arguments."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "pgherd.api.signing",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(SIGN_TIMEOUT_S):
            out, err = await child.communicate(msgspec.json.encode(order))
    except TimeoutError:
        raise TimedOut("signing the certificate took too long", "try again") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode == SIGN_REFUSED:
        raise JoinRefused("invalid_request", err.decode(errors="replace").strip())
    if child.returncode != 0:
        said = err.decode(errors="replace").strip().splitlines()
        raise PgherdError(f"signing the certificate failed: {said[-1] if said else 'no reason'}")
    return out.decode()


SIGN_REFUSED = 2
