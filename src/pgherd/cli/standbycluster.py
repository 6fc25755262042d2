"""`pgherd cluster promote|demote`: whether this cluster takes writes, or follows another site's.

Owns the plan's wording. The daemons refuse what would lose or split writes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pgherd.cli.app import Command, Common, asking
from pgherd.cli.changing import CHANGE_TIMEOUT_S, YesOption, agree, tell
from pgherd.cli.output import Format, say
from pgherd.model.errors import OperatorError

ToOption = Annotated[
    str, typer.Option("--to", help="The remote primary: host=A,B port=5432, or A:5432,B:5432.")
]
SlotOption = Annotated[
    str, typer.Option("--slot", help="Physical slot there for the standby leader.")
]
SslOption = Annotated[str, typer.Option("--sslmode", help="disable, prefer or require.")]


FollowOption = Annotated[
    str | None,
    typer.Option("--follow", help="Follow this primary of another site: A:5432,B:5432."),
]
FollowSlotOption = Annotated[
    str, typer.Option("--follow-slot", help="Physical slot there for the standby leader.")
]
FollowUserOption = Annotated[
    str, typer.Option("--follow-user", help="Its replication role; default pgherd_replication.")
]
FollowPasswordOption = Annotated[
    str | None, typer.Option("--follow-password-file", help="A file with that role's password.")
]


def wished(
    follow: str | None, *, slot: str, user: str, password_file: str | None
) -> tuple[str, dict[str, Any]]:
    """The login's password, and the keys of a standby cluster's configuration."""
    if follow is None:
        if slot or user or password_file:
            raise OperatorError("there is nothing to follow", "add --follow HOST:PORT")
        return "", {}
    if password_file is None:
        raise OperatorError(
            "a standby cluster logs in at the remote primary as its replication role",
            "add --follow-password-file FILE",
        )
    try:
        password = Path(password_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorError(f"cannot read {password_file}: {error}", "check the file") from error
    if not password:
        raise OperatorError(f"{password_file} is empty", "write the password into it")
    values: dict[str, Any] = {
        "standby_cluster.hosts": hosts_of(follow),
        "standby_cluster.primary_slot_name": slot,
        "postgresql.superuser.password": None,
    }
    if user:
        values["postgresql.replication.username"] = user
    return password, values


@asking
def promote(
    common: Common,
    force: Annotated[
        bool, typer.Option("--force", help="Though the remote lives, or what came is less.")
    ] = False,
    yes: YesOption = False,
) -> None:
    """Make a standby cluster writable: one of its nodes becomes primary."""
    found = common.api().get("/api/v1/cluster/status")
    follows = found["follows"]
    if follows is None:
        raise OperatorError("this cluster is writable already", "pgherd status")
    say(f"plan: the cluster stops following {', '.join(follows['hosts'])} and takes writes")
    say(f"      it has WAL up to {follows['received_lsn'] or 'nothing known'}")
    if force:
        say("      FORCED: if the remote takes writes too, there are two clusters that differ, and")
        say("      what one of them took is lost when it follows the other")
    agree(yes)
    body = {"force": force}
    found = ask(common, "/api/v1/cluster/promote", body)
    text = (
        f"{found['new_primary']} is the primary of epoch {found['epoch']}, from {found['lsn']} on"
    )
    tell(common, found, text)
    if common.output is Format.TABLE and found["left_out"]:
        say(f"not waited for: {', '.join(found['left_out'])}")


@asking
def demote(
    common: Common,
    to: ToOption,
    slot: SlotOption = "",
    sslmode: SslOption = "prefer",
    yes: YesOption = False,
) -> None:
    """Make this a standby cluster, which follows a primary in another site."""
    hosts = hosts_of(to)
    found = common.api().get("/api/v1/cluster/status")
    if found["follows"] is None:
        say(f"plan: {found['primary_node_id'] or 'nobody'} ends all sessions, ships what it wrote")
        say(f"      and stops in order; then all nodes follow {', '.join(hosts)}")
        say("      what they have and the remote has not is kept aside, as data.old-N")
    else:
        say(f"plan: the standby cluster follows {', '.join(hosts)} from now on")
    agree(yes)
    body = {"hosts": hosts, "primary_slot_name": slot, "sslmode": sslmode}
    found = ask(common, "/api/v1/cluster/demote", body)
    end = f"; the last of its own WAL is {found['lsn']}" if found["lsn"] else ""
    tell(common, found, f"{found['standby_leader']} follows {', '.join(found['hosts'])}{end}")
    if common.output is Format.TABLE:
        say("  next, where the other site does not take writes yet: pgherd cluster promote, there")


def hosts_of(text: str) -> list[str]:
    """`host:port` of each, from a list of them or from host= and port= as libpq has it."""
    pairs = dict(word.split("=", 1) for word in text.split() if "=" in word)
    if not pairs:
        names, ports = [one.strip() for one in text.split(",")], [""]
    else:
        unknown = set(pairs) - {"host", "port"}
        if unknown or "host" not in pairs:
            raise OperatorError(
                "--to takes host= and port= only", "as in --to 'host=a,b port=5432'; see --slot"
            )
        names, ports = pairs["host"].split(","), pairs.get("port", "").split(",")
    if len(ports) not in (1, len(names)):
        raise OperatorError("as many ports as hosts, or one for all", "as in --to a:5432,b:5432")
    ports = ports * len(names) if len(ports) == 1 else ports
    return [joined(name, port) for name, port in zip(names, ports, strict=True)]


def joined(name: str, port: str) -> str:
    """One `host:port`, with PostgreSQL's own where none is said."""
    from pgherd.config.problems import Wrong
    from pgherd.config.standbycluster import parse_host

    host = f"[{name}]" if name.count(":") > 1 and not name.startswith("[") else name
    try:
        return parse_host(f"{host}:{port}" if port else host)
    except Wrong as error:
        raise OperatorError(
            f"{name}:{port} is not host:port: {error}", "as in --to a:5432,b:5432"
        ) from error


def ask(common: Common, path: str, body: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = common.api().post(
        path, body, timeout_s=max(common.timeout_s, CHANGE_TIMEOUT_S)
    )
    return found


COMMANDS: dict[str, Command] = {"promote": promote, "demote": demote}
