"""What a local node is on disk: directories, certificates, secrets, one YAML file.

Owns the choice of a directory that PostgreSQL's user can enter and of that user when we are root,
and writes each node's configuration. Leaves starting anything to `herd`, free ports to `ports`.
"""

from __future__ import annotations

import getpass
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Collection
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import yaml

from pgherd.model.errors import OperatorError
from pgherd.model.ids import NodeId
from pgherd.pki.authority import make_ca, make_node_certificate
from pgherd.pki.files import write_private
from pgherd.proof.ports import HOST, Ports

SOCKET_PATH_BYTES_MAX = 90
"""A socket's path has at most 107 bytes, with PostgreSQL's own file name in it."""

POSTGRES_USERS = ("postgres", "pgherd")
NODES_MAX = 9


class Place(msgspec.Struct, frozen=True):
    """One node's name, directory, ports and address."""

    name: str
    directory: Path
    ports: Ports
    socket_directory: Path
    host: str = HOST

    @property
    def config(self) -> Path:
        return self.directory / "pgherd.yaml"

    @property
    def data(self) -> Path:
        return self.directory / "pg" / "data"

    @property
    def log(self) -> Path:
        return self.directory / "pgherd.log"


class Secrets(msgspec.Struct, frozen=True):
    """The passwords of one herd; they are written to files that only the owner reads."""

    superuser: str
    replication: str
    token: str


def make_secrets(directory: Path) -> Secrets:
    """Read the herd's secrets, or make new ones."""
    values = {}
    for name in Secrets.__struct_fields__:
        file = directory / f"{name}.secret"
        if not file.exists():
            write_private(file, f"{secrets.token_urlsafe(24)}\n".encode())
        values[name] = file.read_text().strip()
    return Secrets(**values)


def make_directory(wanted: Path | None) -> Path:
    """A directory for a herd, open enough for PostgreSQL's user when we are root."""
    if wanted is None:
        directory = Path(tempfile.mkdtemp(prefix="pgherd-", dir="/var/tmp"))
    else:
        directory = wanted.absolute()
        directory.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        directory.chmod(0o755)
        closed = [up for up in directory.parents if not up.stat().st_mode & 0o001]
        if closed:
            raise OperatorError(
                f"{closed[-1]} is closed to the PostgreSQL user, so no data can live below it",
                "choose another place, as in --keep /var/tmp/herd",
            )
    return directory


def postgres_user() -> str:
    """The user that PostgreSQL runs as: ourselves, or an unprivileged one when we are root."""
    if os.geteuid() != 0:
        return getpass.getuser()
    known = {entry.pw_name for entry in pwd.getpwall()}
    for name in POSTGRES_USERS:
        if name in known:
            return name
    name = POSTGRES_USERS[-1]
    if shutil.which("useradd") is None:
        raise OperatorError(
            "PostgreSQL does not run as root, and there is neither a user postgres nor useradd",
            "make an unprivileged user named postgres, or start as an ordinary user",
        )
    shell = shutil.which("nologin") or "/bin/false"
    subprocess.run(
        ["useradd", "--system", "--no-create-home", "--shell", shell, name],
        check=True,
        capture_output=True,
    )
    return name


def make_place(root: Path, *, number: int, ports: Ports, user: str, host: str = HOST) -> Place:
    """Make one node's directories, with those of PostgreSQL in its user's hands."""
    directory = root / f"n{number}"
    sockets = directory / "run"
    if len(os.fsencode(sockets)) > SOCKET_PATH_BYTES_MAX:
        sockets = Path("/tmp") / f"pgherd-{ports.base}"
    place = Place(f"n{number}", directory, ports, sockets, host)
    directory.mkdir(exist_ok=True)
    directory.chmod(0o755)
    for owned in (place.data.parent, sockets):
        owned.mkdir(exist_ok=True)
        owned.chmod(0o755)
        if os.geteuid() == 0:
            shutil.chown(owned, user=user)
    return place


def make_certificates(root: Path, herd: list[Place]) -> None:
    """An authority for the herd and a certificate for every node; an earlier herd keeps its own."""
    if (root / "ca.crt").exists():
        return
    authority = make_ca("local")
    for place in herd:
        issued = make_node_certificate(authority, NodeId(place.name), [place.host])
        write_private(place.directory / "node.crt", issued.certificate_pem)
        write_private(place.directory / "node.key", issued.key_pem)
    write_private(root / "ca.key", authority.key_pem)
    write_private(root / "ca.crt", authority.certificate_pem)


def settings(
    place: Place, herd: list[Place], *, root: Path, user: str, bin_dir: str, token: str
) -> dict[str, Any]:
    """One node's configuration as data."""
    ports = place.ports
    clients = f"{HOST}/32" if place.host == HOST else "all"
    admin = {"name": "local", "role": "admin", "sha256": sha256(token.encode()).hexdigest()}
    return {
        "version": 1,
        "cluster": {"name": "local"},
        "node": {"name": place.name, "address": place.host},
        "raft": {
            "port": ports.raft,
            "data_dir": str(place.directory / "raft"),
            "members": [f"{one.name}={one.host}:{one.ports.raft}" for one in herd],
            "tls": {
                "ca": str(root / "ca.crt"),
                "cert": str(place.directory / "node.crt"),
                "key": str(place.directory / "node.key"),
            },
        },
        "postgresql": {
            "bin_dir": bin_dir,
            "data_dir": str(place.data),
            "port": ports.postgres,
            "socket_dir": str(place.socket_directory),
            "user": user,
            "ballast": "0B",
            "hba": [f"host all all {clients} scram-sha-256"],
            "superuser": {"username": "postgres", "password": f"file:{root}/superuser.secret"},
            "replication": {
                "username": "pgherd_replication",
                "password": f"file:{root}/replication.secret",
            },
        },
        "proxy": {
            "listeners": [
                {"port": ports.proxy_primary, "route": "primary"},
                {"port": ports.proxy_replica, "route": "replica"},
            ],
            "drain_timeout": 0,
        },
        "api": {"port": ports.api, "bind": place.host, "tokens": [admin]},
    }


def witness(values: dict[str, Any]) -> dict[str, Any]:
    """The same node without PostgreSQL and without a way in for clients."""
    kept = {key: value for key, value in values.items() if key != "postgresql"}
    return merge(kept, {"node": {"witness": True}, "proxy": {"listeners": []}})


def proxy(values: dict[str, Any]) -> dict[str, Any]:
    """The same node without PostgreSQL: a way in for clients, and nothing else."""
    return {key: value for key, value in values.items() if key != "postgresql"}


def merge(base: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Lay one tree of settings over another."""
    merged = dict(base)
    for key, value in more.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


def write_settings(place: Place, values: dict[str, Any]) -> None:
    """Write one node's YAML file."""
    place.config.write_text(yaml.safe_dump(values, sort_keys=False))


def read_settings(place: Place) -> dict[str, Any]:
    """Read one node's YAML file back."""
    values: dict[str, Any] = yaml.safe_load(place.config.read_text())
    return values


def end_sessions_at_proxy(
    place: Place,
    *,
    routes: Collection[str] = ("primary", "replica"),
    pool: str = "session",
    **more: Any,
) -> None:
    """Give a node's listeners, a witness's too, this `pool`, or only those of some routes.

    more: of the section proxy.
    """
    ports = {"primary": place.ports.proxy_primary, "replica": place.ports.proxy_replica}
    listeners = [
        {"port": port, "route": route, "pool": pool if route in routes else "none"}
        for route, port in ports.items()
    ]
    changes = {"proxy": {"listeners": listeners, **more}}
    write_settings(place, merge(read_settings(place), changes))
