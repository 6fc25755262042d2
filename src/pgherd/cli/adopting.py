"""`pgherd adopt`: take over a PostgreSQL server that is there already, with all that is in it.

Owns the checks of what will be, what is shown before it is asked, and the order of the steps; what
there is, is looked at in `appraising`, and the server's own side is in `postgres.takeover`. Nothing
is written before everything that can be refused was. Every step may be the last one that was done:
the same command then goes on.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pgherd.api.adoption import ADOPTION_FILE, Adoption, read_adoption
from pgherd.api.joining import ADMISSION_FILE
from pgherd.cli import founding
from pgherd.cli import place as places
from pgherd.cli.appraising import Found, Wish, look
from pgherd.cli.entering import Entering, enter
from pgherd.cli.output import line, say
from pgherd.cli.place import Place
from pgherd.model.errors import OperatorError

if TYPE_CHECKING:
    from pgherd.config.settings import Settings

KEPT = "before-pgherd"
"""Below the node's directory: the files of the server that were changed, as they were."""

WAL_SENDERS_LEAST = 5
SLOTS_LEAST = 4
ROOM_LEAST = 64 << 20
DEFAULT_PORT = 5432


def archiving(wish: Wish, found: Found) -> dict[str, str]:
    """How it archives its WAL, which goes on so under pgherd; none where it does not."""
    command = found.setting("archive_command")
    archives = found.setting("archive_mode") in ("on", "always")
    if not archives or wish.no_archiving or command in ("", "true", "(disabled)"):
        return {}
    return {"archive_command": command}


def own_parameters(wish: Wish, found: Found) -> dict[str, str]:
    """The parameters that are carried over into the configuration."""
    from pgherd.postgres import foreignconf

    carried = foreignconf.carried(found.explicit)
    carried.pop("archive_command", None)
    return carried | archiving(wish, found)


def check_room(settings: Settings) -> None:
    """Nobody writes WAL on a full disk."""
    least = max(settings.failover.min_free_disk_bytes, ROOM_LEAST)
    for path in (settings.postgresql.data_dir, settings.postgresql.data_dir / "pg_wal"):
        room = shutil.disk_usage(path).free
        if room < least:
            raise OperatorError(
                f"{path} has {room >> 20} MB of room, {least >> 20} MB are needed",
                f"df -h {path}",
            )


def restarts(wish: Wish, found: Found, settings: Settings) -> list[str]:
    """Why the running server has to be restarted; none where it need not."""
    if found.answers is None:
        return []
    now, stranger = found.answers.settings, found.stranger
    reasons = ["you asked for it"] if wish.restart else []
    if now["wal_level"] == "minimal":
        reasons.append("wal_level is minimal")
    for name, least in (
        ("max_wal_senders", WAL_SENDERS_LEAST),
        ("max_replication_slots", SLOTS_LEAST),
    ):
        if int(now[name]) < least:
            reasons.append(f"{name} is {now[name]}, fewer than {least}")
    if now["hot_standby"] == "off":
        reasons.append("hot_standby is off")
    if settings.postgresql.port != stranger.port:
        reasons.append(f"its port {stranger.port} becomes {settings.postgresql.port}")
    bound = settings.node.address.bound("postgresql")
    if not listens(now["listen_addresses"], bound):
        reasons.append(f"it listens on {now['listen_addresses'] or 'no address'}, not on {bound}")
    if not stranger.socket_dir:
        reasons.append("it has no Unix socket")
    if stranger.unit:
        reasons.append(f"it is a process of {stranger.unit}, which would end it with itself")
    return reasons


def listens(addresses: str, wanted: str) -> bool:
    """Whether a server that listens on these addresses is reached at the wanted one."""
    given = {address.strip() for address in addresses.split(",")}
    everywhere = {"*", "::" if ":" in wanted else "0.0.0.0"}
    local = {"localhost"} if wanted in ("127.0.0.1", "::1") else set()
    return bool(given & (everywhere | local | {wanted}))


def own_values(wish: Wish, found: Found) -> dict[str, Any]:
    """The keys of the configuration that follow from what is there."""
    from pgherd.postgres import foreignconf

    stranger = found.stranger
    port = stranger.port or int(found.setting("port") or DEFAULT_PORT)
    values: dict[str, Any] = {
        "postgresql.data_dir": stranger.data_dir,
        "postgresql.bin_dir": str(found.binaries.bin_dir),
        "postgresql.port": wish.port or port,
        "postgresql.user": stranger.owner,
    }
    sockets = stranger.socket_dir or found.setting("unix_socket_directories").partition(",")[0]
    if sockets.startswith("/"):
        values["postgresql.socket_dir"] = sockets.strip()
    if wish.founds:
        hba = stranger.files()[0]
        values |= {
            "postgresql.superuser.username": wish.superuser,
            "postgresql.superuser.password": None,
            "postgresql.hba": foreignconf.hba_lines(foreignconf.read(hba), file=hba),
            "postgresql.parameters": own_parameters(wish, found),
        }
    return values | wish.values


def adopt(place: Place, wish: Wish, *, agreed: Any) -> Settings:
    """Take it over, up to the point where its node can be started.

    agreed: called once everything was checked and shown; it raises where nobody agrees.
    """
    founding.check_name(wish.name)
    found = look(wish)
    values = own_values(wish, found)
    settings = settings_of(place, wish, values)
    adoption = check(place, wish, found, settings)
    places.check_ports(settings, used=found.stranger.port)
    reasons = restarts(wish, found, settings)
    show(place, wish, found, settings=settings, reasons=reasons)
    agreed()
    write_adoption(settings, adoption)
    if not place.config.exists():
        forget_half(place)
        make(place, wish, found, values)
    hand_over(place, found, settings_at(place), adoption=adoption, restart=bool(reasons))
    return settings_at(place)


def settings_of(place: Place, wish: Wish, values: dict[str, Any]) -> Settings:
    """What the new configuration will say, or the one that an earlier try has written says."""
    if place.config.exists():
        return settings_at(place)
    known = places.base_values(
        place,
        name=wish.name,
        address=wish.address,
        cluster=wish.cluster,
        base_port=wish.base_port,
    )
    check_port(values["postgresql.port"], known | values)
    return founding.read(known | values)


def check_port(port: int, values: dict[str, Any]) -> None:
    """The server and the proxy in front of it cannot listen on one port."""
    from pgherd.config.proxy import Proxy

    listeners = values.get("proxy.listeners") or [{"port": one.port} for one in Proxy().listeners]
    if any(str(one["port"]) == str(port) for one in listeners):
        raise OperatorError(
            f"port {port} is the server's and the proxy's, which leads clients to the primary",
            "--port 5442 moves the server by a restart, and clients stay where they are; or keep"
            " the server there, and move the proxy: --base-port PORT, or --set proxy.listeners=...",
        )


def settings_at(place: Place) -> Settings:
    from pgherd.config.load import load

    return load(str(place.config), os.environ)


def check(place: Place, wish: Wish, found: Found, settings: Settings) -> Adoption:
    """Refuse what is known to fail; what an earlier try has begun is gone on with."""
    raft = settings.raft.data_dir
    known = read_adoption(raft)
    begun = {path.name for path in raft.iterdir()} if raft.is_dir() else set()
    if begun - {ADOPTION_FILE, ADMISSION_FILE}:
        raise OperatorError(
            f"{raft} shows that this node has run already: the server is adopted",
            f"pgherd start --config {place.config}, or pgherd status --config {place.config}",
        )
    same = known is not None and (known.data_dir, known.system_id, known.founds) == (
        str(wish.data_dir),
        found.control.system_id,
        wish.founds,
    )
    if known is not None and not same:
        raise OperatorError(
            f"{raft} is of an adoption of {known.data_dir}", "name another place with --dir DIR"
        )
    if known is None:
        places.check_unused(place, settings, adopts=True)
    places.check_writable(place)
    check_parent(wish.data_dir)
    check_room(settings)
    return known or Adoption(
        data_dir=str(wish.data_dir),
        system_id=found.control.system_id,
        major=found.stranger.major,
        incarnation=secrets.token_hex(3),
        founds=wish.founds,
    )


def check_parent(data_dir: Path) -> None:
    """New copies are made beside a data directory, and renamed into its place."""
    if data_dir.is_symlink() or data_dir.is_mount():
        raise OperatorError(
            f"{data_dir} is a mount point or a link, so no new copy could take its place",
            "move it into a folder of that file system, have its own server start there, then"
            " adopt it",
        )
    others = [
        path
        for path in data_dir.parent.glob("*/pgherd.incarnation")
        if path.parent != data_dir and not path.parent.name.startswith(f"{data_dir.name}.")
    ]
    if others:
        raise OperatorError(
            f"pgherd keeps {others[0].parent} beside it, and both would write one password file",
            f"move {data_dir} into a folder of its own, have its own server start there, then"
            " adopt it",
        )
    if not os.access(data_dir.parent, os.W_OK | os.X_OK):
        raise OperatorError(f"{data_dir.parent} cannot be written to", "use sudo")


def show(place: Place, wish: Wish, found: Found, *, settings: Settings, reasons: list[str]) -> None:
    """The plan, for people."""

    stranger = found.stranger
    runs = f"runs as process {stranger.pid}" if stranger.pid else "is stopped"
    kind = "standby" if found.standby else "primary"
    say(
        f"plan: adopt the {kind} in {stranger.data_dir}, PostgreSQL {stranger.major}, system "
        f"identifier {found.control.system_id}; it {runs}"
    )
    if reasons:
        say(f"      it is RESTARTED: {'; '.join(reasons)}")
    elif stranger.pid:
        say("      it is not restarted; its sessions are cut once, when its first term begins")
    say(f"      its files are kept as they are now in {place.directory / KEPT}")
    for name, value in overruled(found, settings):
        say(f"      {name} = {value!r} will not count: pgherd sets it")
    for text in notes(found, settings):
        say(f"      {text}")


def overruled(found: Found, settings: Settings) -> list[tuple[str, str]]:
    """The parameters of its files for which pgherd has other values, and no choice."""
    from pgherd.postgres import foreignconf
    from pgherd.postgres import settings as parameters

    bound = settings.node.address.bound("postgresql")
    asked = parameters.ServerSettings(passfile="", listen=(bound,))
    ours = parameters.derive(asked, server_place(settings))
    kept = {*foreignconf.carried(found.explicit), *foreignconf.PLACES, "port"}
    return [
        (name, value)
        for name, value in sorted(found.explicit.items())
        if name not in kept and ours.get(name, value) != value
    ]


def server_place(settings: Settings) -> Any:
    """Where its server lives, as the room of servers takes it."""
    from pgherd.postgres.settings import Place as ServerPlace

    pg = settings.postgresql
    return ServerPlace(str(pg.data_dir), pg.port, str(pg.socket_directory()))


def notes(found: Found, settings: Settings) -> list[str]:
    """What else a person has to know, or to do."""
    stranger, answers = found.stranger, found.answers
    told = []
    command = settings.postgresql.parameters.get("archive_command")
    if command:
        told.append(f"it goes on to archive its WAL with {command!r}")
    if stranger.start_conf is not None:
        told.append(
            f"{stranger.start_conf} will say `disabled`: Debian's tools start "
            f"{stranger.debian} no more"
        )
    if stranger.unit and stranger.start_conf is None:
        told.append(f"have it started no more at boot: systemctl disable {stranger.unit}")
    if not found.control.checksums and not found.control.wal_log_hints:
        told.append(
            "no checksums, no wal_log_hints: until its next restart this node, once it has lost"
            " the lead, can only be copied anew, not rewound"
        )
    if found.standby and stranger.pid:
        told.append("it stops following its present primary, until its node runs")
    physical = [name for name, kind in answers.slots if kind == "physical"] if answers else []
    if physical:
        told.append(f"slots that keep WAL until somebody drops them: {', '.join(physical)}")
    logical = [name for name, kind in answers.slots if kind == "logical"] if answers else []
    if logical:
        told.append(f"logical slots stay, and do not survive a failover: {', '.join(logical)}")
    if answers is not None and answers.followers:
        told.append(f"adopt its standbys next: {', '.join(answers.followers)}")
    if found.setting("synchronous_standby_names"):
        told.append("commits wait for no standby from its first term on until one is adopted")
    if answers is not None and answers.tablespaces:
        told.append(f"every node needs room at {', '.join(answers.tablespaces)}")
    maps = [one for one in settings.postgresql.hba if " map=" in one and " map=pgherd" not in one]
    if maps:
        told.append(f"its pg_ident.conf is not carried over; see to: {'; '.join(maps)}")
    return told


def write_adoption(settings: Settings, adoption: Adoption) -> None:
    """The first word that is written: what follows is ours, and an agent knows what it finds."""
    from pgherd.postgres.files import write_atomic

    raft = settings.raft.data_dir
    places.make_directory(raft, mode=0o700)
    write_atomic(raft / ADOPTION_FILE, msgspec.json.encode(adoption).decode(), user=None)


def forget_half(place: Place) -> None:
    """Files of a try that ended before the configuration was there; nobody has used them."""
    for path in (place.ca, place.ca_key, place.cert, place.key):
        path.unlink(missing_ok=True)
    for name in ("superuser", "replication", "rewind", "admin.token", "local.token"):
        place.secret(name).unlink(missing_ok=True)


def make(place: Place, wish: Wish, found: Found, values: dict[str, Any]) -> None:
    """The node's own files: as init writes them, or as join does."""
    if wish.founds:
        founding.found(
            place,
            founding.Founding(
                name=wish.name,
                address=wish.address,
                cluster=wish.cluster,
                base_port=wish.base_port,
                values=values,
                adopts=True,
            ),
        )
        return
    enter(
        place,
        Entering(
            token=wish.token,
            target=wish.target,
            name=wish.name,
            address=wish.address,
            base_port=wish.base_port,
            values=values,
            adopts=found.control.system_id,
            major=found.stranger.major,
            tls=found.binaries.has_tls,
        ),
    )


def hand_over(
    place: Place, found: Found, settings: Settings, *, adoption: Adoption, restart: bool
) -> None:
    """Leave the server as an agent takes it over: entered and reloaded, or stopped in order."""
    from pgherd.daemon.translate import server_settings
    from pgherd.postgres import conf, identity, takeover

    stranger = found.stranger
    user = identity.resolve(stranger.owner)
    takeover.keep(stranger, place.directory / KEPT)
    takeover.bring_home(stranger, user)
    conf.write_incarnation(stranger.data_dir, adoption.incarnation, user=user)
    takeover.never_start(stranger)
    if stranger.pid and restart:
        line(f"stopping process {stranger.pid} in order")
        takeover.stop(stranger)
    elif stranger.pid:
        names = None if found.standby else found.setting("synchronous_standby_names")
        asyncio.run(
            takeover.in_place(
                stranger,
                server_settings(settings),
                server_place(settings),
                names=names,
                user=user,
            )
        )
    say(f"{stranger.data_dir} is ready to be taken over")
