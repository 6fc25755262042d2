"""Files that pgherd writes for PostgreSQL: replaced as a whole, owned by PostgreSQL's user.

All functions block; callers on the event loop go through a thread.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from pgherd.model.errors import OperatorError
from pgherd.postgres.identity import PostgresUser

PRIVATE = 0o600


def write_atomic(
    path: Path, text: str, *, user: PostgresUser | None, mode: int = PRIVATE, durable: bool = True
) -> None:
    """Replace a file by rename, so that a reader sees the old or the new one, never a part.

    durable: survive a power cut; without it a power cut may leave an empty file, which is fine
    only for files that are written anew before every start.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, mode)
    try:
        _fill(descriptor, text.encode(), user=user, mode=mode, durable=durable)
        os.rename(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(path.parent)


def _fill(
    descriptor: int, data: bytes, *, user: PostgresUser | None, mode: int, durable: bool
) -> None:
    try:
        os.fchmod(descriptor, mode)
        if user is not None:
            os.fchown(descriptor, user.uid, user.gid)
        while data:
            data = data[os.write(descriptor, data) :]
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Make renames and new names in a directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_text(path: Path) -> str:
    """A file's text, "" when it does not exist."""
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def make_directory(path: Path, *, user: PostgresUser | None, mode: int = 0o700) -> None:
    """Create a directory for PostgreSQL's user; one that exists is left as it is."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=mode)
    except FileExistsError:
        return
    except OSError as error:
        raise OperatorError(
            f"cannot create {path}: {error.strerror}", f"ls -ld {path.parent}"
        ) from error
    path.chmod(mode)
    if user is not None:
        os.chown(path, user.uid, user.gid)


def tail(path: Path, *, offset: int = 0, lines: int = 8) -> str:
    """The last lines of a log written since an offset, joined for an error message."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(offset, end - 16_384))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return " | ".join(line.strip() for line in text.splitlines()[-lines:] if line.strip())
