"""Commands about configuration files: validate and generate."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from pgherd.cli.app import Command
from pgherd.cli.output import line, say
from pgherd.cli.purpose import Purpose
from pgherd.cli.start import CONFIG_DEFAULT, find_config
from pgherd.model.errors import OperatorError

ConfigOption = Annotated[
    str | None, typer.Option("--config", "-c", help="Configuration. [env: PGHERD_CONFIG]")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="A key's value, as raft.port=8301.")
]


def validate(config: ConfigOption = None) -> None:
    """Check a configuration: every problem at once, with its line."""
    from pgherd.config.detection import worst_case
    from pgherd.config.load import load
    from pgherd.config.problems import ConfigError

    found = find_config(config)
    if found is None:
        raise OperatorError(
            f"there is no configuration at {CONFIG_DEFAULT}", "name one: --config FILE"
        )
    try:
        settings = load(found, os.environ, check_devices=True)
    except ConfigError as error:
        for problem in error.problems:
            say(str(problem))
        count = len(error.problems)
        raise OperatorError(
            f"{found} has {count} problem{'s' if count > 1 else ''}",
            f"mend {'them' if count > 1 else 'it'}, then: pgherd config validate --config {found}",
        ) from error
    line(f"{found} is valid: node {settings.node.name} of cluster {settings.cluster.name}")
    line(f"  {alone(settings.failover.lease_ttl_ms)}")
    if settings.has_server:
        line(f"longest time to detection: {worst_case(settings)}")


def alone(wanted: int | str) -> str:
    """What the lease means for a primary without synchronous standbys; wanted: as configured."""
    from pgherd.model import demotion
    from pgherd.model.lease import TTL_ASYNC_MS, TTL_MS

    def by(ttl_ms: int) -> str:
        return f"{demotion.latest_ms(ttl_ms) / 1000:.1f}s"

    limits = by(wanted) if isinstance(wanted, int) else f"{by(TTL_MS)}, {by(TTL_ASYNC_MS)} in async"
    return f"a primary that writes alone stops at most so long after its last renewal: {limits}"


def generate(
    purpose: Annotated[
        Purpose | None, typer.Option("--for", help="prod, dev or witness; else every default.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="With --for: this node's name; default n1.")
    ] = None,
    address: Annotated[
        str | None, typer.Option("--address", help="With --for: where other nodes reach this one.")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option("--cluster", help="With --for: its cluster's; default main.")
    ] = None,
    directory: Annotated[
        str | None, typer.Option("--dir", help="With --for: where the node's files will be.")
    ] = None,
    base_port: Annotated[
        int | None,
        typer.Option("--base-port", min=1024, max=65000, help="With --for: five ports from here."),
    ] = None,
    given: SetOption = None,
    output: Annotated[str | None, typer.Option("--file", help="Write it to a new file.")] = None,
) -> None:
    """Write a configuration with every key, its default and what it is for."""
    from pgherd.config.generate import generate as write

    asked = overrides(given or [])
    if purpose is None:
        if any(one is not None for one in (name, address, cluster, directory, base_port)):
            raise OperatorError(
                "--name, --address, --cluster, --dir and --base-port belong to --for",
                "pgherd config generate --for prod --address 10.0.1.1",
            )
        deliver(write(asked), output)
        return
    from pgherd.cli import purposes
    from pgherd.cli.place import choose_place, chosen_address

    where = purposes.LOOPBACK if purpose is Purpose.DEV and address is None else address
    wish = purposes.Wish(
        name=name or "n1",
        address=chosen_address(where),
        cluster=cluster or "main",
        base_port=base_port,
        values=asked,
    )
    made = purposes.write(purpose, choose_place(directory=directory, config=None), wish)
    deliver(made.head + write(made.values), output)
    if made.token:
        say(f"the admin's token, kept nowhere; the file has its hash: {made.token}")


def deliver(text: str, output: str | None) -> None:
    """To standard output, or to a file that is not there yet."""
    if output is None:
        line(text.rstrip("\n"))
        return
    try:
        with Path(output).open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise OperatorError(f"{output} exists", "choose another name with --file") from error
    except OSError as error:
        raise OperatorError(f"cannot write {output}: {error.strerror}") from error
    say(f"wrote {output}\n  next: pgherd config validate --config {output}")


def overrides(given: list[str]) -> dict[str, object]:
    """`--set key=value` pairs; values are YAML."""
    from pgherd.config.problems import Problem
    from pgherd.config.source import read_value

    found: dict[str, object] = {}
    for pair in given:
        key, equals, text = pair.partition("=")
        value = read_value(text)
        if not equals or isinstance(value, Problem):
            raise OperatorError(f"--set {pair} is not key=value", "as in --set raft.port=8301")
        found[key.strip()] = value
    return found


COMMANDS: dict[str, Command] = {"validate": validate, "generate": generate}
