"""`pgherd cluster create|destroy`: a cluster for development on this machine, until destroyed.

Owns what a person is told: how to connect, how to ask, how to be rid of it. Starting and ending are
`proof`'s.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pgherd.cli.app import Command
from pgherd.cli.changing import YesOption, agree
from pgherd.cli.output import line, say
from pgherd.model.errors import OperatorError

DIRECTORY = "/var/tmp/pgherd-local"
PREFERRED_PORT = 7400
START_DEADLINE_S = 120.0

DirOption = Annotated[str, typer.Option("--dir", help="Where it lives: data, secrets, logs.")]


def create(
    nodes: Annotated[int, typer.Option("--nodes", min=1, max=9)] = 3,
    dir: DirOption = DIRECTORY,
    base_port: Annotated[int | None, typer.Option("--base-port", min=1024, max=65000)] = None,
) -> None:
    """Make a cluster on this machine that runs on, or start again one that was made before."""
    from pgherd.proof import lasting
    from pgherd.proof.herd import LocalHerd

    directory = Path(dir).resolve()
    if lasting.is_herd(directory):
        if lasting.processes_of(directory):
            raise OperatorError(
                f"the cluster in {directory} runs", f"pgherd cluster destroy --dir {directory}"
            )
    elif directory.exists() and any(directory.iterdir()):
        raise OperatorError(f"{directory} holds something else", "name an empty --dir")
    herd = LocalHerd(
        nodes,
        directory=directory,
        base_port=base_port,
        preferred_port=PREFERRED_PORT,
        lasting=True,
    )
    say(f"starting {nodes} nodes in {directory}")
    herd.start()
    herd.wait_stable(START_DEADLINE_S)
    first = herd.places[herd.nodes[0]]
    line(herd.psql_line(herd.psql()))
    token = herd.directory / "token.secret"
    line(f"PGHERD_CONFIG={first.config} PGHERD_TOKEN=$(cat {token}) pgherd status")
    say(f"it runs until: pgherd cluster destroy --dir {directory}")


def destroy(dir: DirOption = DIRECTORY, yes: YesOption = False) -> None:
    """Stop a cluster that `cluster create` made, and delete all that it holds."""
    from pgherd.proof import lasting

    directory = Path(dir).resolve()
    nodes = lasting.nodes_of(directory)
    say(f"plan: stop the {nodes} nodes in {directory} and DELETE their data")
    agree(yes)
    lasting.destroy(directory)
    line(f"{directory} is gone")


COMMANDS: dict[str, Command] = {"create": create, "destroy": destroy}
