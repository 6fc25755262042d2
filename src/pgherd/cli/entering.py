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
from pgherd.cli.founding import Made, check_name, lined, prepare, speaks_tls, write_text
from pgherd.cli.output import say
from pgherd.cli.place import File, Place
from pgherd.ledger.levels import LEVEL
from pgherd.model.errors import OperatorError, PeerError
from pgherd.model.facts import Kind
from pgherd.model.ids import NodeId
from pgherd.pki.token import Invitation, decode_token, hash_secret, new_secret

if TYPE_CHECKING:
    from pgherd.config.settings import Settings

TIMEOUT_S = 15.0
TRIES = 3
PAUSE_S = 1.0


class Entering(msgspec.Struct, frozen=True):
    """What was asked for. target: HOST or HOST:PORT, "" for what the token says.

    adopts: the system identifier of the data directory that is there already, and is kept, and
    major its version, tls whether its build speaks TLS · moves: what is in the place of the data
    directory is moved aside.
    """

    token: str
    target: str
    name: str
    address: str
    base_port: int | None = None
    witness: bool = False
    proxy: bool = False
    values: dict[str, Any] = {}
    adopts: str = ""
    major: int = 0
    tls: bool = True
    moves: bool = False

    @property
    def kind(self) -> Kind:
        """What the node is to be; a witness may have listeners too."""
        if self.witness:
            return Kind.WITNESS
        return Kind.PROXY if self.proxy else Kind.DATA


def enter(place: Place, wish: Entering) -> Made:
    """Join and write this node's files, or raise and leave everything as it was."""
    from pgherd.pki.authority import fingerprint, make_request

    invitation = aim(decode_token(wish.token), wish.target)
    check_name(wish.name)
    without = "postgresql" if wish.kind is Kind.PROXY else ""
    values = first_values(place, wish)
    _, settings = write_text(values, without=without)
    known = settings.postgresql.user, wish.major
    user, major = known if wish.adopts else prepare(place, settings, moves=wish.moves)
    address = places.address_of(settings)
    request = make_request(NodeId(wish.name), hosts_of(address))
    body = {
        "token_id": invitation.id,
        "secret": invitation.secret,
        "node": wish.name,
        "kind": wish.kind.value,
        "address": msgspec.to_builtins(address),
        "tags": msgspec.to_builtins(places.tags_of(settings)),
        "csr": request.csr_pem.decode(),
        "major": major,
        "level": LEVEL,
        **({"system_id": wish.adopts} if wish.adopts else {}),
        **({} if speaks(wish, settings) else {"tls": False}),
    }
    answer = ask(invitation, body)
    if fingerprint(answer.ca.encode()) != invitation.ca_sha256:
        raise PeerError("the answer carries another CA than the token", "make a new token")
    secrets = secrets_of(answer.shared)
    completed = final_values(place, wish, answer=answer, secrets=secrets)
    if "proxy.listeners" not in wish.values:
        said = answer.shared.primary_pool
        completed["proxy.listeners"] = places.like_others(values["proxy.listeners"], said)
    if answer.shared.proxy_tls:
        listeners = (values | completed | wish.values)["proxy.listeners"]
        completed |= places.proxy_tls(place, listeners)
    text, settings = write_text(fitting(wish, values | completed | wish.values), without=without)
    files = [
        File(place.ca, answer.ca.encode(), 0o644),
        File(place.cert, answer.certificate.encode(), 0o644),
        File(place.key, request.key_pem),
        *(File(place.secret(name), lined(secret)) for name, secret in secrets.items()),
        File(settings.raft.data_dir / ADMISSION_FILE, msgspec.json.encode(answer.admission)),
    ]
    if answer.shared.ca_key:
        files.append(File(place.ca_key, answer.shared.ca_key.encode()))
    files.append(File(place.config, text.encode(), 0o644))
    if wish.moves and (aside := places.move_aside(settings.postgresql.data_dir)) is not None:
        say(f"what was in {settings.postgresql.data_dir} is kept in {aside}")
    write(files, settings=settings, user=user, adopts=bool(wish.adopts))
    say(f"{wish.name} is admitted to {answer.admission.cluster}; made {place.config}")
    return Made(place=place, settings=settings, user=user)


def speaks(wish: Entering, settings: Settings) -> bool:
    """Whether this node's PostgreSQL, if it has one, can speak TLS."""
    if wish.kind is not Kind.DATA or wish.adopts:
        return wish.tls
    return speaks_tls(settings)


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
    if wish.witness and not wish.proxy:
        values["proxy.listeners"] = []
    return fitting(wish, values | wish.values)


def fitting(wish: Entering, values: dict[str, Any]) -> dict[str, Any]:
    """The keys that a node of this kind has: a proxy node is one without `postgresql`."""
    if wish.kind is not Kind.PROXY:
        return values
    return {key: value for key, value in values.items() if not key.startswith("postgresql.")}


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


def secrets_of(shared: Shared) -> dict[str, str]:
    """File name -> secret, as far as this node was given them.

    A node that was given no token of the cluster makes one for its own API, for reading only.
    """
    found = {
        "superuser": shared.superuser_password,
        "replication": shared.replication_password,
        "rewind": shared.rewind_password,
        "admin.token": shared.admin_token,
        "local.token": "" if shared.admin_token or not shared.tokens else new_secret(),
    }
    return {name: secret for name, secret in found.items() if secret}


def final_values(
    place: Place, wish: Entering, *, answer: JoinAnswer, secrets: dict[str, str]
) -> dict[str, Any]:
    """The keys that follow from the cluster's answer."""
    shared = answer.shared
    tokens = [msgspec.to_builtins(one) for one in shared.tokens]
    if "local.token" in secrets:
        digest = hash_secret(secrets["local.token"])
        tokens.append({"name": f"{wish.name}-local", "role": "viewer", "sha256": digest})
    found: dict[str, Any] = {"cluster.name": answer.admission.cluster, "api.tokens": tokens}
    for role in ("superuser", "replication", "rewind"):
        name = getattr(shared, role)
        if name:
            found[f"postgresql.{role}.username"] = name
        file = f"file:{place.secret(role)}" if role in secrets else None
        found[f"postgresql.{role}.password"] = file
    if wish.kind is Kind.DATA:
        found["postgresql.database"] = shared.database
        found["postgresql.hba"] = list(shared.hba)
        found["postgresql.parameters"] = dict(shared.parameters)
        if shared.postgres_tls:
            found["postgresql.tls"] = places.postgres_tls(place)
        found |= shared.archive
    return found


def write(files: list[File], *, settings: Settings, user: str | None, adopts: bool) -> None:
    """All files of the admitted node."""
    try:
        places.write_all(files, settings=settings, user=user, adopts=adopts)
    except OperatorError as error:
        name = settings.node.name
        raise OperatorError(
            f"{name} was admitted, but its files could not be written: {error.message}",
            error.hint,
        ) from error
