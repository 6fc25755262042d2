"""Commands that make nodes: init, join, adopt, demo, and the help of start.

Owns the options. The work is in `founding`, `entering`, `verify` and `database`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from pgherd.cli import standbycluster
from pgherd.cli.app import Command
from pgherd.cli.changing import YesOption, agree
from pgherd.cli.configuring import SetOption, overrides
from pgherd.cli.output import line, say
from pgherd.cli.place import choose_place, chosen_address
from pgherd.model.errors import OperatorError

START_TIMEOUT_S = 120.0
JOIN_TIMEOUT_S = 1800.0
"""A base backup takes as long as the data is large."""

DirOption = Annotated[str | None, typer.Option("--dir", help="Directory of the node's data.")]
FileOption = Annotated[
    str | None, typer.Option("--config", "-c", help="Configuration to write; default in --dir.")
]
AddressOption = Annotated[
    str | None, typer.Option("--address", help="Address that the other nodes reach.")
]
PortOption = Annotated[
    int | None,
    typer.Option("--base-port", min=1024, max=65000, help="Five ports from here on."),
]
StartOption = Annotated[
    bool, typer.Option("--start/--no-start", help="Start the node and verify that it works.")
]


def start(
    config: FileOption = None,
    validate: Annotated[bool, typer.Option("--validate", help="Only check.")] = False,
    log_level: Annotated[str | None, typer.Option("--log-level")] = None,
) -> None:
    """Run this node in the foreground."""
    from pgherd.cli.start import start as run

    argv = ["--config", config] if config else []
    argv += ["--validate"] if validate else []
    argv += ["--log-level", log_level] if log_level else []
    raise typer.Exit(run(argv))


def init(
    directory: DirOption = None,
    name: Annotated[str, typer.Option("--name", help="This node's name.")] = "n1",
    address: AddressOption = None,
    cluster: Annotated[str, typer.Option("--cluster", help="The cluster's name.")] = "main",
    database: Annotated[
        str | None, typer.Option("--database", help="First database, with --start.")
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", help="Its owner; default as the database.")
    ] = None,
    config: FileOption = None,
    base_port: PortOption = None,
    given: SetOption = None,
    follow: standbycluster.FollowOption = None,
    follow_slot: standbycluster.FollowSlotOption = "",
    follow_user: standbycluster.FollowUserOption = "",
    follow_password_file: standbycluster.FollowPasswordOption = None,
    start: StartOption = False,
    timeout: Annotated[float | None, typer.Option("--timeout")] = None,
) -> None:
    """Make the first node of a new cluster, or of a standby cluster that follows another site's."""
    from pgherd.cli import database as databases
    from pgherd.cli.founding import Founding, found

    database = database or user
    owner = user or database
    if database is not None and owner is not None:
        databases.check_names(database, owner)
        if not start:
            raise OperatorError(
                "the first database can only be made on a running node", "add --start"
            )
    login, more = standbycluster.wished(
        follow, slot=follow_slot, user=follow_user, password_file=follow_password_file
    )
    if login and database is not None:
        raise OperatorError("a standby cluster has the remote's databases", "leave out --database")
    place = choose_place(directory=directory, config=config)
    wish = Founding(
        name=name,
        address=chosen_address(address),
        cluster=cluster,
        base_port=base_port,
        values=more | overrides(given or []),
        login=login,
    )
    made = found(place, wish)
    if not start:
        say(f"  next: pgherd start --config {place.config}")
        return
    from pgherd.cli.verify import Verifier

    limit_s = timeout or (JOIN_TIMEOUT_S if login else START_TIMEOUT_S)
    verifier = Verifier(place, made.settings, timeout_s=limit_s)
    verifier.start()
    verifier.first_node()
    if database is not None and owner is not None:
        databases.create(place, made.settings, database=database, user=owner)
    host, port = made.settings.node.address.advertised("proxy"), 0
    port = next((one.port for one in made.settings.proxy.listeners if one.route == "primary"), 0)
    target = f"user={owner} dbname={database}" if database else "user=postgres dbname=postgres"
    line(f'psql "host={host} port={port} {target}"')
    say(f"  next: pgherd token create --join --config {place.config}")


def join(
    target: Annotated[str, typer.Argument(metavar="[HOST[:PORT]]")] = "",
    token: Annotated[
        str, typer.Option("--token", help="From pgherd token create --join; - : standard input.")
    ] = "",
    directory: DirOption = None,
    name: Annotated[str, typer.Option("--name", help="This node's name.")] = "",
    address: AddressOption = None,
    config: FileOption = None,
    base_port: PortOption = None,
    given: SetOption = None,
    witness: Annotated[bool, typer.Option("--witness", help="Only vote, no data.")] = False,
    proxy: Annotated[
        bool,
        typer.Option("--proxy", help="A way in for clients, no data; with --witness it votes too."),
    ] = False,
    move_aside: Annotated[
        bool, typer.Option("--move-aside", help="Rename a data directory that is in the way.")
    ] = False,
    start: StartOption = False,
    timeout: Annotated[float, typer.Option("--timeout")] = JOIN_TIMEOUT_S,
) -> None:
    """Make this machine a node of an existing cluster."""
    from pgherd.cli.entering import Entering, enter

    token = given_token(token)
    if not token or not name:
        missing = "--token" if not token else "--name"
        raise OperatorError(
            f"{missing} is missing",
            "pgherd join HOST --token TOKEN --name n2 (tokens: "
            "pgherd token create --join, on a member)",
        )
    place = choose_place(directory=directory, config=config)
    wish = Entering(
        token=token,
        target=target,
        name=name,
        address=chosen_address(address),
        base_port=base_port,
        witness=witness,
        proxy=proxy,
        values=overrides(given or []),
        moves=move_aside and not witness and not proxy,
    )
    made = enter(place, wish)
    if not start:
        say(f"  next: pgherd start --config {place.config}")
        return
    from pgherd.cli.verify import Verifier

    verifier = Verifier(place, made.settings, timeout_s=timeout)
    verifier.start()
    verifier.next_node()
    say(f"  next: pgherd status --config {place.config}")


def given_token(text: str) -> str:
    """A token as it was typed, or of standard input: a command line is seen by everybody here."""
    return sys.stdin.readline().strip() if text == "-" else text


def adopt(
    target: Annotated[
        str, typer.Argument(metavar="[HOST[:PORT]]", help="With --token, as of join.")
    ] = "",
    data_dir: Annotated[
        str, typer.Option("--data-dir", help="The server's data directory, running or stopped.")
    ] = "",
    token: Annotated[
        str, typer.Option("--token", help="Join the cluster of its primary, as a standby of it.")
    ] = "",
    directory: DirOption = None,
    name: Annotated[str, typer.Option("--name", help="This node's name.")] = "n1",
    address: AddressOption = None,
    cluster: Annotated[str, typer.Option("--cluster", help="The new cluster's name.")] = "main",
    superuser: Annotated[
        str, typer.Option("--superuser", help="The server's superuser.")
    ] = "postgres",
    config_file: Annotated[
        str | None, typer.Option("--config-file", help="Its postgresql.conf, where not found.")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, help="Another port, by a restart.")
    ] = None,
    config: FileOption = None,
    base_port: PortOption = None,
    given: SetOption = None,
    restart: Annotated[bool, typer.Option("--restart", help="Restart it in any case.")] = False,
    no_archiving: Annotated[
        bool, typer.Option("--without-archiving", help="Its archive_command ends.")
    ] = False,
    yes: YesOption = False,
    start: StartOption = False,
    timeout: Annotated[float, typer.Option("--timeout")] = JOIN_TIMEOUT_S,
) -> None:
    """Make a PostgreSQL server that is there already a node, with all its data."""
    from pgherd.cli import adopting, appraising

    token = given_token(token)
    if not data_dir:
        raise OperatorError("--data-dir is missing", "pgherd adopt --data-dir DIR")
    place = choose_place(directory=directory, config=config)
    wish = appraising.Wish(
        data_dir=Path(data_dir).absolute(),
        name=name,
        address=chosen_address(address),
        cluster=cluster,
        token=token,
        target=target,
        superuser=superuser,
        config=Path(config_file).absolute() if config_file is not None else None,
        port=port,
        base_port=base_port,
        restart=restart,
        no_archiving=no_archiving,
        values=overrides(given or []),
    )
    settings = adopting.adopt(place, wish, agreed=lambda: agree(yes))
    if not start:
        say(f"  next: pgherd start --config {place.config}")
        return
    from pgherd.cli.verify import Verifier

    verifier = Verifier(place, settings, timeout_s=timeout)
    verifier.start()
    verifier.first_node() if wish.founds else verifier.next_node()
    say(f"  next: pgherd status --config {place.config}")


def demo(
    nodes: Annotated[int, typer.Option("--nodes", min=1, max=9)] = 3,
    base_port: Annotated[int | None, typer.Option("--base-port", min=1024, max=65000)] = None,
    keep: Annotated[str | None, typer.Option("--keep", help="Directory to keep it in.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Break it, measure, report, end.")] = False,
) -> None:
    """A whole cluster on this machine, to look at and to break."""
    from pgherd.cli.demo import run_demo

    kept = Path(keep) if keep is not None else None
    raise typer.Exit(run_demo(nodes=nodes, base_port=base_port, keep=kept, once=once))


COMMANDS: dict[str, Command] = {"init": init, "join": join, "adopt": adopt, "demo": demo}
