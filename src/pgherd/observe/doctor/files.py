"""Files that keep a secret, and directories that others should not see, by a node's configuration.

Looks at mode and readability only; never at what is in them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pgherd.config.describe import value_of, walk
from pgherd.config.fields import Secret
from pgherd.config.section import Section
from pgherd.config.settings import Settings
from pgherd.model.checkup import FileSeen

PASSFILE = "passfile"
SECRETS = "secrets"
"""Where `init` and `join` put tokens and passwords, beside the configuration."""


def look(settings: Settings, config: Path) -> tuple[FileSeen, ...]:
    """All of them, each once."""
    kept = list(secret_files(settings, config))
    found = [seen("secret", path) for path in dict.fromkeys(kept)]
    folders = [settings.raft.data_dir]
    if settings.has_server:
        folders.append(settings.postgresql.data_dir)
    found += [seen("directory", path) for path in folders if path.exists()]
    return tuple(found)


def secret_files(settings: Settings, config: Path) -> Iterator[Path]:
    """Every file with a password, a token or a private key."""
    secrets = list(secrets_of(settings))
    yield from (Path(one.reference) for one in secrets if one.kind == "file")
    if any(one.kind == "text" for one in secrets):
        yield config
    places = (settings.raft.tls, settings.api.tls, settings.proxy.tls, settings.postgresql.tls)
    yield from (Path(tls.key) for tls in places if tls is not None)
    if settings.has_server and (file := settings.postgresql.data_dir.parent / PASSFILE).exists():
        yield file
    folder = config.parent / SECRETS
    if os.access(folder, os.R_OK | os.X_OK):
        yield from sorted(path for path in folder.iterdir() if path.is_file())


def secrets_of(settings: Settings) -> Iterator[Secret]:
    """Every secret that the configuration refers to."""
    for described in walk():
        if not described.is_section:
            yield from within(value_of(settings, described))


def within(value: Any) -> Iterator[Secret]:
    """The secrets in a value, however deep."""
    if isinstance(value, Secret):
        yield value
    elif isinstance(value, Section):
        for name in type(value).model_fields:
            yield from within(getattr(value, name))
    elif isinstance(value, dict):
        for one in value.values():
            yield from within(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from within(one)


def seen(name: str, path: Path) -> FileSeen:
    """Mode of a file, and whether we could read it."""
    try:
        found = path.stat()
    except OSError as error:
        return FileSeen(name, str(path), problem=error.strerror or str(error))
    mode, is_roots = stat.S_IMODE(found.st_mode), found.st_uid == 0 != os.geteuid()
    problem = "" if os.access(path, os.R_OK) else "is not readable for us"
    return FileSeen(name, str(path), mode, problem=problem, is_roots=is_roots)
