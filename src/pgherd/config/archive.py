"""The keys of `archive`: where finished WAL goes, and where replicas find what their primary lacks.

Owns the values and what they must have in common. A further kind of archive is another key beside
`directory` and `command`. What may go there is decided by `plan.archiving`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import field_validator

from pgherd.config.fields import Bytes, Change, FilePath, Key, Millis
from pgherd.config.problems import Wrong
from pgherd.config.section import Section
from pgherd.config.units import format_size

TRIES_MOST = 10
COMMAND_MAX = 2000
OWN_WAYS = ("archive_command", "archive_library")
"""PostgreSQL's own parameters for it, which go without this section, or not at all."""


class Archive(Section):
    """The archive of WAL, the same on all data members; with neither key there is none."""

    directory: Annotated[
        FilePath | None,
        Key(
            "Directory that all data members see (a mounted share) and that PostgreSQL's user may"
            " write to. pgherd makes files in it, not the directory itself.",
            Change.RELOAD,
        ),
    ] = None
    command: Annotated[
        str,
        Key(
            "Shell command instead that archives the file %p under the name %f: it may say success"
            " only once the file is durable, has to say so for an identical file that is there, and"
            " must never replace another one.",
            Change.RELOAD,
        ),
    ] = ""
    restore_command: Annotated[
        str,
        Key(
            "Shell command that brings the file %f from the archive of `command` to the path %p;"
            " empty: nothing is fetched.",
            Change.RELOAD,
        ),
    ] = ""
    tries: Annotated[
        int,
        Key(
            "Attempts for a file, a second apart, before it counts as a failure; PostgreSQL begins"
            " anew after that.",
            Change.LIVE,
            least=1,
            most=TRIES_MOST,
        ),
    ] = 3
    timeout_ms: Annotated[
        Millis,
        Key(
            "Time that a command may take for one file.",
            Change.LIVE,
            unit="duration",
            least=1000,
            why="a file of 16 MB has to pass",
        ),
    ] = 60_000
    queue_max_bytes: Annotated[
        Bytes,
        Key(
            "Most WAL that waits here while archiving fails. What is more is given up, file by"
            " file, so that the disk does not fill: the archive then has a gap, which is said"
            " aloud, and needs a new base backup. 0B: nothing is ever given up.",
            Change.LIVE,
            unit="size",
            least=0,
            why="0B rather lets the disk fill than leaves a gap",
        ),
    ] = 0

    @property
    def kind(self) -> str:
        """How files go there; "" where they do not."""
        return "directory" if self.directory is not None else "command" if self.command else ""

    @property
    def place(self) -> str:
        """The directory, or the command."""
        return str(self.directory) if self.directory is not None else self.command

    @property
    def source(self) -> str:
        """Where files come from: the directory, or the command that fetches; "": from nowhere."""
        return str(self.directory) if self.directory is not None else self.restore_command

    @property
    def shown(self) -> str:
        """Which archive it is, told and compared: a command may have a secret among its words."""
        if not self.command:
            return f"{self.kind} {self.place}".strip()
        words = hashlib.sha256(f"{self.command}\n{self.restore_command}".encode()).hexdigest()
        return f"command {self.command.split()[0]} ({words[:6]})"

    def written(self) -> dict[str, str]:
        """Which archive it is, as its keys are written into a file; nothing where there is none."""
        if not self.kind:
            return {}
        limit = {"queue_max": format_size(self.queue_max_bytes)} if self.queue_max_bytes else {}
        fetched = {"restore_command": self.restore_command} if self.restore_command else {}
        found = {self.kind: self.place, **fetched, **limit}
        return {f"archive.{key}": value for key, value in found.items()}

    @field_validator("command", "restore_command", mode="after")
    @classmethod
    def _one_line(cls, value: str) -> str:
        if "\n" in value or "\t" in value or "\0" in value or len(value) > COMMAND_MAX:
            raise Wrong("is no command of one line", "call a script of yours with %p and %f")
        if value and "%p" not in value:
            raise Wrong("names no %p", "as in 'backup-tool push %p'")
        return value

    @field_validator("restore_command", mode="after")
    @classmethod
    def _named(cls, value: str) -> str:
        if value and "%f" not in value:
            raise Wrong("names no %f", "as in 'backup-tool get %f %p'")
        return value


def problems(
    archive: Archive, parameters: Mapping[str, object], *, nostream: bool
) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """What its keys mean together, and with the parameters and a tag of this node."""
    if archive.directory is not None and (archive.command or archive.restore_command):
        yield (
            ("archive", "directory"),
            "does not go with command or restore_command",
            "keep one way: the directory, or the commands",
        )
    if archive.restore_command and not archive.command and archive.directory is None:
        yield (
            ("archive", "restore_command"),
            "fetches from an archive that nobody fills",
            "add archive.command, or remove it",
        )
    for name in OWN_WAYS:
        if archive.kind and str(parameters.get(name, "")):
            yield (
                ("postgresql", "parameters", name),
                "does not go with the archive section, which sets archive_command itself",
                f"remove it, or remove archive.{archive.kind}",
            )
    if nostream and not archive.source:
        yield (
            ("node", "tags", "nostream"),
            "needs an archive to follow by",
            "add archive: {directory: /mnt/archive}, or remove the tag",
        )
