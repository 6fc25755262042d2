"""What `pgherd adopt` finds: a server that somebody else made, looked at and left as it is.

Owns what was asked for, what there is, and the refusal of what cannot be adopted at all. Leaves
what will become of it to `adopting`, and how a server is looked at to `postgres.strangers`.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pgherd.model.errors import OperatorError

if TYPE_CHECKING:
    from pgherd.postgres.binaries import Binaries
    from pgherd.postgres.pgcontrol import ControlData
    from pgherd.postgres.strangers import Answers, Stranger


class Wish(msgspec.Struct, frozen=True):
    """What was asked for. token: of a cluster to join, "" to found one."""

    data_dir: Path
    name: str
    address: str
    cluster: str = "main"
    token: str = ""
    target: str = ""
    superuser: str = "postgres"
    config: Path | None = None
    port: int | None = None
    base_port: int | None = None
    restart: bool = False
    no_archiving: bool = False
    values: dict[str, Any] = {}

    @property
    def founds(self) -> bool:
        return not self.token


class Found(msgspec.Struct, frozen=True):
    """What there is, and what will become of it. answers: None of a server that does not run."""

    stranger: Stranger
    control: ControlData
    binaries: Binaries
    answers: Answers | None
    explicit: dict[str, str]

    @property
    def standby(self) -> bool:
        """Whether it is a copy of another server."""
        if self.answers is not None:
            return self.answers.in_recovery
        return self.stranger.standby or self.control.state.endswith("recovery")

    def setting(self, name: str) -> str:
        """A parameter as it runs, or as its files say; "" where they leave the default."""
        known = self.answers.settings if self.answers is not None else self.explicit
        return known.get(name, "")


def look(wish: Wish) -> Found:
    """Look at the server and refuse what cannot be adopted. Changes nothing."""
    from pgherd.postgres import binaries, identity, pgcontrol, strangers

    stranger = strangers.look(wish.data_dir, config=wish.config)
    if os.geteuid() not in (0, wish.data_dir.stat().st_uid):
        raise OperatorError(
            f"{wish.data_dir} belongs to {stranger.owner}", f"sudo -u {stranger.owner}, or as root"
        )
    manager = strangers.manager_of(wish.data_dir)
    if manager:
        raise OperatorError(
            f"{manager} minds this server and would fight with pgherd over it",
            f"end it for good first, on every node: systemctl disable --now {manager.split()[0]}",
        )
    user = identity.resolve(stranger.owner)
    known = strangers.programs_of(stranger.pid) if stranger.pid else "auto"
    wanted = str(wish.values.get("postgresql.bin_dir", known))
    program = binaries.find(wanted, user=user, major=stranger.major)
    if program.major != stranger.major:
        raise OperatorError(
            f"{wish.data_dir} is of PostgreSQL {stranger.major}, {program.bin_dir} of "
            f"{program.major}",
            f"--set postgresql.bin_dir=DIR of PostgreSQL {stranger.major}",
        )
    strangers.check_config(stranger, program, user)
    control = asyncio.run(pgcontrol.read(program.bin_dir, wish.data_dir, user=user))
    answers = None
    if stranger.pid:
        answers = strangers.ask(stranger, superuser=wish.superuser, database="postgres")
    found = Found(stranger, control, program, answers, stranger.explicit())
    check_role(wish, found)
    return found


def check_role(wish: Wish, found: Found) -> None:
    """A cluster is founded on what writes, and joined by what is a copy."""
    if wish.founds and found.standby:
        raise OperatorError(
            f"{wish.data_dir} is a standby: it may lack what its primary has",
            "adopt the primary first, then this one with --token "
            "(pgherd token create --join, there)",
        )
    if not wish.founds and not found.standby:
        raise OperatorError(
            f"{wish.data_dir} is, or was, a primary: what it wrote alone may be of no other node",
            "have it copied anew, and kept aside: pgherd join --move-aside",
        )
