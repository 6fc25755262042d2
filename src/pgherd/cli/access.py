"""Commands about who may log in on all members: `config hba` and `config ident`.

Both have the same commands, for both are lines behind pgherd's own. Checking, planning and keeping
are the daemons', as for parameters.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pgherd.cli.app import Command, Common, asking
from pgherd.cli.changing import YesOption
from pgherd.cli.output import Format, emit, line, say
from pgherd.cli.parameters import (
    PATH,
    ReasonOption,
    TrialOption,
    ask,
    change,
    edited,
    tell,
    text_of,
)

FileArgument = Annotated[str, typer.Argument(help="A file with exactly these lines, or -.")]
WholeOption = Annotated[
    bool | None,
    typer.Option(
        "--whole/--block",
        help="In place of each node's own lines and the default, or in a block behind them.",
    ),
]


def commands(name: str) -> dict[str, Command]:
    """The commands of `config hba` or `config ident`."""
    has_whole = name == "hba"

    @asking
    def show(common: Common) -> None:
        """The lines for all members."""
        found = common.api().get(PATH)["postgresql"]
        if common.output is not Format.TABLE:
            emit(
                {key: found[key] for key in (name, f"{name}_whole") if key in found}, common.output
            )
            return
        if has_whole:
            where = "the whole file" if found["hba_whole"] else "a block behind each node's own"
            say(f"behind pgherd's own lines: {where}")
        for one in found[name]:
            line(one)

    def body(common: Common, text: str, whole: bool | None) -> dict[str, Any]:
        wanted: dict[str, Any] = {name: text.splitlines()}
        if has_whole and whole is not None:
            wanted["hba_whole"] = whole
        return {"postgresql": wanted}

    @asking
    def plan(common: Common, file: FileArgument, whole: WholeOption = None) -> None:
        """What a file's lines would change; PostgreSQL checks them, nothing is changed."""
        tell(common, ask(common, "PATCH", PATH, body(common, text_of(file), whole), dry_run=True))

    @asking
    def apply(
        common: Common,
        file: FileArgument,
        whole: WholeOption = None,
        trial: TrialOption = None,
        reason: ReasonOption = "",
        yes: YesOption = False,
    ) -> None:
        """Have exactly the lines of a file; PostgreSQL checks them first."""
        wanted = body(common, text_of(file), whole)
        change(common, "PATCH", wanted, reason=reason, yes=yes, trial=trial)

    @asking
    def edit(
        common: Common,
        whole: WholeOption = None,
        trial: TrialOption = None,
        reason: ReasonOption = "",
        yes: YesOption = False,
    ) -> None:
        """Edit the lines in $EDITOR."""
        now = common.api().get(PATH)
        text = "".join(f"{one}\n" for one in now["postgresql"][name])
        wanted = body(common, edited(text, f"pg_{name}.conf"), whole)
        wanted["expected_version"] = now["version"]
        change(common, "PATCH", wanted, reason=reason, yes=yes, trial=trial)

    return {"show": show, "plan": plan, "apply": apply, "edit": edit}
