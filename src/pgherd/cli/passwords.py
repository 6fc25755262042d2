"""Commands about passwords: `passwords show` and `passwords rotate`.

Owns the asking for the superuser's, of which only the verifier leaves this process. The change is
the daemons'.
"""

from __future__ import annotations

import secrets
import sys
from getpass import getpass
from typing import Annotated, Any

import typer

from pgherd.cli.app import Command, Common, asking
from pgherd.cli.changing import GRACE_S, YesOption, agree
from pgherd.cli.output import Format, emit, line, say, table
from pgherd.cli.parameters import text_of
from pgherd.model.errors import OperatorError
from pgherd.wire import scram

PATH = "/api/v1/passwords"
WHOSE = ("replication", "rewind", "superuser")
USED_S = 15.0

FileOption = Annotated[
    str | None,
    typer.Option("--password-file", help="The superuser's new password, or - for standard input."),
]


@asking
def show(common: Common) -> None:
    """Which passwords were changed while the cluster ran, and how far that is."""
    tell(common, common.api().get(PATH))


@asking
def rotate(
    common: Common,
    which: Annotated[str, typer.Argument(help="replication, rewind or superuser.")],
    overlap: Annotated[
        str, typer.Option("--overlap", help="How long the former one stays valid too.")
    ] = "5m",
    password_file: FileOption = None,
    yes: YesOption = False,
) -> None:
    """Change a password: no restart, and no replica loses its stream."""
    if which not in WHOSE:
        raise OperatorError(f"{which} has no password of ours", f"one of: {', '.join(WHOSE)}")
    body: dict[str, Any] = {"which": which, "overlap": overlap}
    if which == "superuser":
        say("plan: new sessions of the superuser need the new password at once; open ones go on")
        say("      write it into postgresql.superuser of every node's file as well")
        agree(yes)
        body["verifier"] = verifier(password_file)
    else:
        say("plan: a new secret on all data members, which pgherd makes, and a second role for it")
        say(f"      the former one stays valid for {overlap}; streams that run go on")
        agree(yes)
    limit_s = max(common.timeout_s, USED_S)
    found = common.api().post(f"{PATH}/rotate?wait={limit_s:g}", body, timeout_s=limit_s + GRACE_S)
    tell(common, found)


@asking
def end(
    common: Common,
    which: Annotated[str, typer.Argument(help="replication or rewind.")],
) -> None:
    """End the time in which a former password is valid too."""
    tell(common, common.api().post(f"{PATH}/end", {"which": which}))


def verifier(file: str | None) -> str:
    """The new password as PostgreSQL keeps it."""
    password = text_of(file).rstrip("\n") if file is not None else typed()
    if not password.isascii() or not password:
        raise OperatorError("the password is empty or has letters that are not ASCII")
    return scram.verifier(password, salt=secrets.token_bytes(scram.SALT_BYTES))


def typed() -> str:
    if not sys.stdin.isatty():
        raise OperatorError("there is no terminal to ask at", "name a file: --password-file FILE")
    password = getpass("new password: ")
    if getpass("once more: ") != password:
        raise OperatorError("the two are not the same", "nothing was changed")
    return password


def tell(common: Common, found: dict[str, Any]) -> None:
    if common.output is not Format.TABLE:
        emit(found, common.output)
        return
    columns = ("password", "change", "stage", "at", "by", "former valid until")
    keys = ("which", "generation", "stage", "changed_at", "author", "former_valid_until")
    rows = [tuple(one[key] for key in keys) for one in found["passwords"]]
    table(columns, rows, color=common.color)
    if found["waits_for"]:
        line(f"waits for {', '.join(found['waits_for'])}")


COMMANDS: dict[str, Command] = {"show": show, "rotate": rotate, "end": end}
