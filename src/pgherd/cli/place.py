"""Where the files of one node are, and writing them: all or none, nothing ever overwritten.

Owns the layout that `init` and `join` make: keys and secrets beside the configuration, data below
one directory. Never deletes or changes what was there before.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pgherd.cli.output import say
from pgherd.cli.start import CONFIG_DEFAULT, CONFIG_HOME
from pgherd.model.errors import OperatorError
from pgherd.model.facts import Address, Tags

if TYPE_CHECKING:
    from pgherd.config.settings import Settings

DIRECTORY_ROOT = Path("/var/lib/pgherd")
ANY_PORT_OFFSETS = {
    "proxy_primary": 0,
    "proxy_replica": 1,
    "postgres": 2,
    "api": 3,
    "raft": 4,
}
"""With --base-port P: clients at P and P+1, PostgreSQL at P+2, the API at P+3, Raft at P+4."""

POOLS = {"primary": "session", "replica": "none"}
"""What new files say. A file that says nothing means none, so that no upgrade changes a port."""


class Place(msgspec.Struct, frozen=True):
    """The files of one node."""

    config: Path
    directory: Path

    @property
    def ca(self) -> Path:
        return self.config.parent / "pki" / "ca.crt"

    @property
    def ca_key(self) -> Path:
        """Beside the certificate, under the same name: `joining.ca_key_of` finds it there."""
        return self.ca.with_suffix(".key")

    @property
    def cert(self) -> Path:
        return self.config.parent / "pki" / "node.crt"

    @property
    def key(self) -> Path:
        return self.config.parent / "pki" / "node.key"

    def secret(self, name: str) -> Path:
        """The file of a password or token."""
        return self.config.parent / "secrets" / name

    @property
    def log(self) -> Path:
        return self.directory / "pgherd.log"


class File(msgspec.Struct, frozen=True):
    """A file to be written."""

    path: Path
    data: bytes
    mode: int = 0o600


def choose_place(*, directory: str | None, config: str | None) -> Place:
    """Below --dir; else where a service has its files, or in the home of an ordinary user.

    A package gives the service's directories to the user that pgherd runs as: that user has the
    service's place, and root is told to become it, for the daemon could not read files of root's.
    """
    if directory is not None:
        where = Path(directory).absolute()
        return Place(Path(config).absolute() if config else where / "pgherd.yaml", where)
    service = Place(Path(config or CONFIG_DEFAULT).absolute(), DIRECTORY_ROOT)
    if os.geteuid() == 0:
        check_owner(DIRECTORY_ROOT)
        return service
    if all(os.access(path, os.W_OK) for path in (Path(CONFIG_DEFAULT).parent, DIRECTORY_ROOT)):
        return service
    own = Path.home() / CONFIG_HOME
    return Place(Path(config).absolute() if config else own, own.parent)


def check_owner(directory: Path) -> None:
    """Refuse, as root, to make files in what belongs to the user that the service runs as."""
    import pwd  # not on every system that the command line runs on

    if not directory.exists() or not (uid := directory.stat().st_uid):
        return
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = f"'#{uid}'"
    raise OperatorError(
        f"{directory} belongs to {name}, whom the service runs as: root's files would be closed to"
        " it",
        f"sudo -u {name} pgherd ..., as this command; or another place with --dir DIR",
    )


def own_address() -> str:
    """The address this machine talks to others from; no packet is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def chosen_address(given: str | None) -> str:
    """The address that was given, or this machine's own, and then said aloud."""
    if given is not None:
        return given
    found = own_address()
    say(f"the other nodes will reach this one at {found}; another: --address ADDR")
    return found


def base_values(
    place: Place, *, name: str, address: str, cluster: str, base_port: int | None
) -> dict[str, Any]:
    """The keys that `init` and `join` both write, as `config.generate` takes them."""
    values: dict[str, Any] = {
        "cluster.name": cluster,
        "node.name": name,
        "node.address": address,
        "raft.data_dir": place.directory / "raft",
        "raft.tls": {"ca": str(place.ca), "cert": str(place.cert), "key": str(place.key)},
        "postgresql.data_dir": place.directory / "postgresql" / "data",
        "postgresql.superuser.password": f"file:{place.secret('superuser')}",
        "postgresql.replication.password": f"file:{place.secret('replication')}",
        "api.tls": {"cert": str(place.cert), "key": str(place.key), "ca": str(place.ca)},
    }
    listening = {"primary": 5432, "replica": 5433}
    if base_port is not None:
        ports = {channel: base_port + more for channel, more in ANY_PORT_OFFSETS.items()}
        values["raft.port"] = ports["raft"]
        values["api.port"] = ports["api"]
        values["postgresql.port"] = ports["postgres"]
        listening = {"primary": ports["proxy_primary"], "replica": ports["proxy_replica"]}
    values["proxy.listeners"] = [
        {"port": port, "route": route, "pool": POOLS[route]} for route, port in listening.items()
    ]
    return values


def postgres_tls(place: Place) -> dict[str, Any]:
    """The key `postgresql.tls`, with the node's own files."""
    return {"ca": str(place.ca), "cert": str(place.cert), "key": str(place.key), "required": True}


def proxy_tls(place: Place, listeners: Iterable[Any]) -> dict[str, Any]:
    """The key `proxy.tls` as a part of others, where a listener ends TLS; else nothing."""
    pools = [one.get("pool", "none") if isinstance(one, dict) else one.pool for one in listeners]
    files = {"cert": str(place.cert), "key": str(place.key)}
    return {"proxy.tls": files} if any(pool != "none" for pool in pools) else {}


def like_others(listeners: list[dict[str, Any]], primary_pool: str) -> list[dict[str, Any]]:
    """A new node's listeners, its primary port as those of the members that are there already."""
    pools = {**POOLS, "primary": primary_pool}
    return [{**one, "pool": pools[one["route"]]} for one in listeners]


def address_of(settings: Settings) -> Address:
    """The addresses that the other nodes reach this one at."""
    address = settings.node.address
    ports = {one.route: one.port for one in reversed(settings.proxy.listeners)}
    is_data = settings.has_server
    return Address(
        host=address.advertised("raft"),
        raft_port=settings.raft.port,
        postgres_port=settings.postgresql.port if is_data else 0,
        api_port=settings.api.port,
        proxy_primary_port=ports.get("primary", 0),
        proxy_replica_port=ports.get("replica", 0),
        postgres_host=address.advertised("postgresql"),
        api_host=address.advertised("api"),
        proxy_host=address.advertised("proxy"),
    )


def tags_of(settings: Settings) -> Tags:
    """The wishes about this node."""
    tags = settings.node.tags
    return Tags(
        failover_priority=tags.failover_priority,
        nofailover=tags.nofailover,
        nosync=tags.nosync,
        zone=settings.node.zone,
    )


def check_unused(
    place: Place, settings: Settings, *, adopts: bool = False, moves: bool = False
) -> None:
    """Refuse where a node was set up before: nothing of it may be lost.

    adopts: the data directory is there, and is what the node is made for · moves: what is in the
    place of the data directory will be moved aside.
    """
    start = f"start it: pgherd start --config {place.config}; or make another node with --dir DIR"
    if place.config.exists():
        raise OperatorError(f"{place.config} exists: this node was set up already", start)
    for what, path in (
        ("data directory", settings.postgresql.data_dir),
        ("consensus store", settings.raft.data_dir),
    ):
        if adopts or (moves and path == settings.postgresql.data_dir):
            continue
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise OperatorError(
                f"the {what} {path} is not empty",
                "another place: --dir DIR; to make a node of it: pgherd adopt; to have it out of"
                " the way and kept: pgherd join --move-aside",
            )
    for path in (place.ca, place.ca_key, place.cert, place.key):
        if path.exists():
            raise OperatorError(f"{path} exists already", "name another place with --dir DIR")


def check_movable(data_dir: Path) -> None:
    """Whether a directory that is not the cluster's can be renamed, and nobody works in it."""
    from pgherd.postgres import tree

    if not data_dir.exists():
        return
    users = tree.of_directory(data_dir) if data_dir.is_dir() else ()
    if users:
        raise OperatorError(
            f"PostgreSQL runs in {data_dir} (process {min(users)})",
            f"stop it first: pg_ctl stop -D {data_dir}; to keep it as a node: pgherd adopt",
        )
    if data_dir.is_mount() or not os.access(data_dir.parent, os.W_OK | os.X_OK):
        raise OperatorError(
            f"{data_dir} cannot be renamed where it is",
            f"set postgresql.data_dir to a folder below it, e.g. {data_dir}/data",
        )


def move_aside(data_dir: Path) -> Path | None:
    """Rename what is in the place of a data directory; nothing of pgherd's ever removes it.

    The new name; None where nothing was there.
    """
    from pgherd.postgres.files import sync_directory

    if not data_dir.exists():
        return None
    number = 1
    while (aside := data_dir.with_name(f"{data_dir.name}.aside-{number}")).exists():
        number += 1
    data_dir.rename(aside)
    sync_directory(data_dir.parent)
    return aside


def check_writable(place: Place) -> None:
    """Whether we may make our files, asked before anything depends on it."""
    for path in (place.config.parent, place.directory):
        there = next(up for up in (path, *path.parents) if up.exists())
        if not os.access(there, os.W_OK | os.X_OK):
            raise OperatorError(
                f"{there} cannot be written to", "name a place of yours with --dir DIR, or use sudo"
            )


def check_ports(settings: Settings, *, used: int = 0) -> None:
    """Every port that the node will listen on is free.

    used: the port of the server that becomes its own, which keeps it or is stopped before.
    """
    address = settings.node.address
    wanted = [
        ("raft.port", address.bound("raft"), settings.raft.port),
        ("api.port", settings.api_bind(), settings.api.port),
        *(
            ("proxy.listeners", address.bound("proxy"), one.port)
            for one in settings.proxy.listeners
        ),
    ]
    if settings.has_server:
        wanted.append(("postgresql.port", address.bound("postgresql"), settings.postgresql.port))
    for key, host, port in wanted:
        why = _cannot_bind(host, port) if port != used else ""
        if why:
            raise OperatorError(
                f"{key}: cannot listen on {host}:{port}: {why}",
                "stop what uses it, or choose others with --base-port PORT or --address ADDR",
            )


def _cannot_bind(host: str, port: int) -> str:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        return error.strerror or str(error)
    return ""


def check_enterable(settings: Settings, *, user: str | None) -> None:
    """As root, PostgreSQL's user must be able to reach its directory."""
    if user is None:
        return
    for up in settings.postgresql.data_dir.parents:
        if up.exists() and not up.stat().st_mode & 0o001:
            raise OperatorError(
                f"{up} is closed to the user {user}, so PostgreSQL cannot live below it",
                "choose another place, as in --dir /var/lib/pgherd",
            )


def write_all(
    files: list[File], *, settings: Settings, user: str | None, adopts: bool = False
) -> None:
    """Make directories and files. On failure the files that were made are taken back.

    adopts: the directories around the data directory are somebody's, and stay as they are.
    """
    from pgherd.pki.files import write_private

    made: list[Path] = []
    try:
        for file in files:
            private = file.mode & 0o077 == 0
            make_directory(file.path.parent, mode=0o700 if private else 0o755)
            if file.path.exists():
                raise OperatorError(f"{file.path} exists", "name another place with --dir DIR")
            made.append(file.path)
            write_private(file.path, file.data, mode=file.mode)
        if settings.has_server and not adopts:
            make_postgres_directory(settings, user=user)
    except OSError as error:
        take_back(made)
        raise OperatorError(
            f"cannot write {error.filename}: {error.strerror}", "see space and rights there"
        ) from error
    except OperatorError:
        take_back(made[:-1])
        raise


def take_back(made: list[Path]) -> None:
    for path in made:
        path.unlink(missing_ok=True)


def make_directory(path: Path, *, mode: int) -> None:
    """A directory with this mode; parents stay open for PostgreSQL's user."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    path.mkdir(mode=mode, exist_ok=True)
    path.chmod(mode)


def make_postgres_directory(settings: Settings, *, user: str | None) -> None:
    """The directories around the data directory, in PostgreSQL's user's hands."""
    for path in (settings.postgresql.data_dir.parent, settings.postgresql.socket_directory()):
        make_directory(path, mode=0o755)
        if user is not None:
            shutil.chown(path, user=user)
