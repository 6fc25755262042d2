"""Private files, written whole or not at all, and the three files that TLS needs."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import msgspec

PRIVATE_MODE = 0o600


class TlsFiles(msgspec.Struct, frozen=True):
    """Where a node's certificate, its key and the cluster's CA certificate are (PEM)."""

    certificate: str
    key: str
    ca: str


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
