"""Private files, written whole or not at all, and the three files that TLS needs."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import msgspec

from pgherd.model.errors import OperatorError

PRIVATE_MODE = 0o600


class TlsFiles(msgspec.Struct, frozen=True):
    """Where a node's certificate, its key and the cluster's CA certificate are (PEM)."""

    certificate: str
    key: str
    ca: str


def replace_pair(*files: tuple[str | os.PathLike[str], bytes]) -> None:
    """Replace files that belong together, each with the owner and mode of the one before.

    All are durable beside their places before the first is renamed: a moment in which they do not
    fit together is all that a reader may see.
    """
    drafts = []
    try:
        for path, data in files:
            target = Path(path)
            known = target.stat()
            draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
            write_private(draft, data, mode=known.st_mode & 0o777)
            drafts.append((draft, target))
            if (known.st_uid, known.st_gid) != (os.geteuid(), os.getegid()):
                os.chown(draft, known.st_uid, known.st_gid)
        for draft, target in drafts:
            os.replace(draft, target)
    except OSError as error:
        for draft, _ in drafts:
            draft.unlink(missing_ok=True)
        raise OperatorError(
            f"cannot write {error.filename}: {error.strerror}", "run this as the daemon's user"
        ) from error


def write_private(path: str | os.PathLike[str], data: bytes, *, mode: int = PRIVATE_MODE) -> None:
    """Replace the file atomically and durably; nobody but its owner can ever read it."""
    target = Path(path)
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
