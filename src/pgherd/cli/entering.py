"""`pgherd join`: make this machine a node of an existing cluster, with nothing but a token.

Owns the conversation with the member that the token names: its CA's certificate is believed only
if its hash is the token's, the secret is sent only over TLS that this CA vouches for. Nothing is
written until the cluster has said yes.
"""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING, Any

import msgspec

from pgherd.api.herd import JoinAnswer, Shared
from pgherd.api.joining import ADMISSION_FILE, hosts_of
from pgherd.cli import place as places
from pgherd.cli.client import read_answer, unreachable
from pgherd.cli.founding import Made, check_name, find_postgres, lined, prepare, write_text
from pgherd.cli.output import say
from pgherd.cli.place import File, Place
from pgherd.model.errors import OperatorError, PeerError
from pgherd.model.ids import NodeId
from pgherd.pki.token import Invitation, decode_token

if TYPE_CHECKING:
    from pgherd.config.settings import Settings
    from pgherd.pki.authority import Request

TIMEOUT_S = 15.0
TRIES = 3
PAUSE_S = 1.0


class Entering(msgspec.Struct, frozen=True):
    """What was asked for. target: HOST or HOST:PORT, "" for what the token says."""

    token: str
    target: str
    name: str
    address: str
    base_port: int | None = None
    witness: bool = False
    values: dict[str, Any] = {}


def enter(place: Place, wish: Entering) -> Made:
    """Join and write this node's files, or raise and leave everything as it was."""
    from pgherd.pki.authority import fingerprint, make_request

    invitation = aim(decode_token(wish.token), wish.target)
    check_name(wish.name)
    values = first_values(place, wish)
    _, settings = write_text(values)
    user = prepare(place, settings)
    major = 0 if wish.witness else find_postgres(settings)[1]
    address = places.address_of(settings)
    request = make_request(NodeId(wish.name), hosts_of(address))
    body = {
        "token_id": invitation.id,
        "secret": invitation.secret,
        "node": wish.name,
        "kind": "witness" if wish.witness else "data",
        "address": msgspec.to_builtins(address),
        "tags": msgspec.to_builtins(places.tags_of(settings)),
        "csr": request.csr_pem.decode(),
        "major": major,
    }
    answer = ask(invitation, body)
    if fingerprint(answer.ca.encode()) != invitation.ca_sha256:
        raise PeerError("the answer carries another CA than the token", "make a new token")
    write(place, wish, answer=answer, request=request, values=values, user=user)
    say(f"{wish.name} is admitted to {answer.admission.cluster}; made {place.config}")
    _, settings = write_text(final_values(values, wish, answer=answer))
    return Made(place=place, settings=settings, user=user)


def aim(invitation: Invitation, target: str) -> Invitation:
    """The token's address, or the one that was typed."""
    if not target:
        return invitation
    host, colon, port = target.rpartition(":")
    if not colon or (target.count(":") > 1 and not target.startswith("[")):
        host, port = target, str(invitation.port)
    if not port.isdigit() or not 1 <= int(port) <= 65535:
        raise OperatorError(f"{target} is not HOST or HOST:PORT", "as in pgherd join 10.0.1.1:8008")
    return msgspec.structs.replace(invitation, host=host.strip("[]"), port=int(port))


def first_values(place: Place, wish: Entering) -> dict[str, Any]:
    values = places.base_values(
        place, name=wish.name, address=wish.address, cluster="main", base_port=wish.base_port
    )
    values["node.witness"] = wish.witness
    return values | wish.values


def ask(invitation: Invitation, body: dict[str, Any]) -> JoinAnswer:
    """Prove who the other side is, then send the secret; the same request may be repeated."""
    from pgherd.pki.contexts import context_pinned

    context = context_pinned(
        host=invitation.host,
        port=invitation.port,
        ca_sha256=invitation.ca_sha256,
        timeout_s=TIMEOUT_S,
    )
    for left in reversed(range(TRIES)):
        try:
            return post(invitation, body, context=context)
        except PeerError:
            if not left:
                raise
            time.sleep(PAUSE_S)
    raise AssertionError("the last try returns or raises")


class Dropped(PeerError):
    """The connection ended before the answer: the same request may be sent again."""


def post(invitation: Invitation, body: dict[str, Any], *, context: ssl.SSLContext) -> JoinAnswer:
    import httpx2

    host = f"[{invitation.host}]" if ":" in invitation.host else invitation.host
    url = f"https://{host}:{invitation.port}"
    try:
        with httpx2.Client(verify=context, timeout=TIMEOUT_S, trust_env=False) as client:
            response = client.post(f"{url}/api/v1/join", json=body)
    except httpx2.ConnectError as error:
        raise unreachable((url,), error) from error
    except httpx2.HTTPError as error:
        raise Dropped(f"{url} broke off: {error}", "try the same command again") from error
    read_answer(response)
    try:
        return msgspec.json.decode(response.content, type=JoinAnswer)
    except msgspec.MsgspecError as error:
        raise PeerError(
            f"the answer of {url} cannot be read: {error}", "use the same version of pgherd"
        ) from error


def final_values(values: dict[str, Any], wish: Entering, *, answer: JoinAnswer) -> dict[str, Any]:
    """The first values, completed by what all nodes share; what was asked for comes last."""
    shared = answer.shared
    tokens = [msgspec.to_builtins(one) for one in shared.tokens]
    found = values | {"cluster.name": answer.admission.cluster, "api.tokens": tokens}
    if not wish.witness:
        found |= {
            "postgresql.superuser.username": shared.superuser,
            "postgresql.replication.username": shared.replication,
            "postgresql.database": shared.database,
            "postgresql.hba": list(shared.hba),
            "postgresql.parameters": dict(shared.parameters),
        }
    else:
        found["postgresql.superuser.password"] = None
        found["postgresql.replication.password"] = None
    return found | wish.values


def write(
    place: Place,
    wish: Entering,
    *,
    answer: JoinAnswer,
    request: Request,
    values: dict[str, Any],
    user: str | None,
) -> None:
    """All files of the admitted node."""
    text, settings = write_text(final_values(values, wish, answer=answer))
    files = [
        File(place.ca, answer.ca.encode(), 0o644),
        File(place.cert, answer.certificate.encode(), 0o644),
        File(place.key, request.key_pem),
        *secret_files(place, answer.shared),
        File(settings.raft.data_dir / ADMISSION_FILE, msgspec.json.encode(answer.admission)),
        File(place.config, text.encode(), 0o644),
    ]
    try:
        places.write_all(files, settings=settings, user=user)
    except OperatorError as error:
        raise OperatorError(
            f"{wish.name} was admitted, but its files could not be written: {error.message}",
            error.hint,
        ) from error


def secret_files(place: Place, shared: Shared) -> list[File]:
    """What a data member keeps secret; a witness has nothing of it."""
    pairs = (
        (place.ca_key, shared.ca_key),
        (place.secret("superuser"), shared.superuser_password),
        (place.secret("replication"), shared.replication_password),
        (place.secret("admin.token"), shared.admin_token),
    )
    return [
        File(path, text.encode() if path == place.ca_key else lined(text))
        for path, text in pairs
        if text
    ]


def describe(settings: Settings) -> str:
    return f"node {settings.node.name} of cluster {settings.cluster.name}"
