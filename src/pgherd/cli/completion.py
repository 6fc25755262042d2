"""`pgherd completion SHELL`: the script that lets a shell complete commands, options and nodes.

Owns the script's way out and the names of nodes for it. A shell waits while it completes, so
a daemon that does not answer soon is not waited for.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from pgherd.cli.client import Api, find_target
from pgherd.cli.output import line
from pgherd.model.errors import PgherdError

VARIABLE = "_PGHERD_COMPLETE"
WAIT_S = 1.0


class Shell(StrEnum):
    """Shells that it is known how to complete in."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish", help="For which shell.")],
) -> None:
    """The completion script of a shell; as in: pgherd completion bash > FILE."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined] # it is there

    line(get_completion_script(prog_name="pgherd", complete_var=VARIABLE, shell=shell.value))


def node_names(incomplete: str) -> list[str]:
    """Names of members that begin so; none where nobody answers in time."""
    try:
        target = find_target(api_url=None, config=None)
        found = Api(target, timeout_s=WAIT_S).get("/api/v1/nodes")["nodes"]
    except PgherdError:
        return []
    return [one["name"] for one in found if one["name"].startswith(incomplete)]


COMMANDS = {"completion": completion}
