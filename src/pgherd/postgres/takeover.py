"""Making a server of somebody else's one that an agent can take over, running or stopped.

Owns the order, in which nothing is lost wherever it ends: every file that is changed is kept first,
a second try finds what the first one kept and goes on. A running server is only reloaded, and put
back as it was when it does not take it. Whether it has to stop is for the caller to say.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from pathlib import Path

from pgherd.model.errors import OperatorError, PostgresError
from pgherd.postgres import access, conf, foreignconf, live, processes, tree
from pgherd.postgres import settings as parameters
from pgherd.postgres.files import read_text, sync_directory, write_atomic
from pgherd.postgres.identity import PostgresUser, peer_names
from pgherd.postgres.server import CHECKED
from pgherd.postgres.session import Login, Session
from pgherd.postgres.settings import Place, ServerSettings
from pgherd.postgres.strangers import Stranger

STOP_TIMEOUT_S = 300.0
TAKES_S = 10.0
TRY_AGAIN_S = 0.2
NOBODY_STARTS = "disabled\n"
"""Debian's word in start.conf: neither its init script nor pg_ctlcluster starts this cluster."""


def keep(stranger: Stranger, into: Path) -> None:
    """Copy every file of an operator's that is changed later; what was kept before stays."""
    into.mkdir(mode=0o700, parents=True, exist_ok=True)
    hba, ident = stranger.files()
    files = [stranger.config, stranger.data_dir / conf.AUTO_CONF, hba, ident]
    files += [stranger.start_conf] if stranger.start_conf is not None else []
    at_home = stranger.data_dir / "postgresql.conf"
    if at_home != stranger.config and at_home.exists():
        files.append(at_home)
    for file in files:
        kept = kept_name(into, file, at_home=file == at_home != stranger.config)
        if file.exists() and not kept.exists():
            side = kept.with_name(f".{kept.name}.new")
            shutil.copy2(file, side)
            side.rename(kept)
    sync_directory(into)


def kept_name(into: Path, file: Path, *, at_home: bool) -> Path:
    """Under which name a file is kept; there may be two of the name postgresql.conf."""
    return into / (f"{file.name}.in-data-directory" if at_home else file.name)


def bring_home(stranger: Stranger, user: PostgresUser | None) -> None:
    """Give the data directory a postgresql.conf of its own, with all that the other one says.

    pgherd starts servers with what is in the data directory alone, and copies of it go to the
    other nodes.
    """
    here = stranger.data_dir / "postgresql.conf"
    if stranger.config == here:
        return
    text = foreignconf.at_home(foreignconf.flattened(stranger.config))
    write_atomic(here, text, user=user)


def never_start(stranger: Stranger) -> None:
    """Have Debian's tools start it no more: two programs that start one server are one too many."""
    path = stranger.start_conf
    if path is None or read_text(path) == NOBODY_STARTS:
        return
    mode = path.stat().st_mode & 0o777
    write_atomic(path, NOBODY_STARTS, user=None, mode=mode)


def stop(stranger: Stranger) -> None:
    """Shut it down in order. Raises PostgresError when it does not within five minutes."""
    pid, until = stranger.pid, time.monotonic() + STOP_TIMEOUT_S
    if pid:
        processes.send(pid, signal.SIGINT, data_dir=stranger.data_dir)
    while tree.of_directory(stranger.data_dir):
        if time.monotonic() > until:
            raise PostgresError(
                f"the server in {stranger.data_dir} does not stop; it is left to itself"
            )
        time.sleep(TRY_AGAIN_S)


async def in_place(
    stranger: Stranger,
    settings: ServerSettings,
    place: Place,
    *,
    names: str | None,
    user: PostgresUser | None,
) -> None:
    """Make a running server one that an agent can enter and reload, without a restart.

    names: the synchronous_standby_names that a primary has and keeps for now; None for a standby,
    which loses its upstream instead. On failure its files are as before, and it has read them.
    """
    changed = _changes(stranger, settings, place, names=names, user=user)
    before = {file: read_text(file) if file.exists() else None for file in changed}
    try:
        # For a start by hand before its node runs, which would miss the files that ours names.
        conf.write_access(stranger.data_dir, settings, user=user)
        for file, text in changed.items():
            _replace(file, text, user)
        problem = await _taken(stranger, settings, place, names=names)
    except OSError as error:
        problem = f"{error.filename}: {error.strerror}"
    if problem:
        for file, old in before.items():
            _put_back(file, old, user)
        processes.send(stranger.pid, signal.SIGHUP, data_dir=stranger.data_dir)
        raise OperatorError(
            f"the running server does not take what pgherd needs: {problem}; it is as it was",
            "adopt it with a restart: pgherd adopt --restart",
        )


def _changes(
    stranger: Stranger,
    settings: ServerSettings,
    place: Place,
    *,
    names: str | None,
    user: PostgresUser | None,
) -> dict[Path, str]:
    """Every file that a running server needs, and its new text; our own file comes first."""
    hba, ident = stranger.files()
    auto = stranger.data_dir / conf.AUTO_CONF
    far = stranger.config.parent != stranger.data_dir
    include = f"include '{stranger.data_dir / conf.CONF}'" if far else conf.INCLUDE_LINE
    ours = access.own_lines(settings)
    maps = access.ident_text(settings, peer_names(user)).splitlines()[1:]
    return {
        stranger.data_dir / conf.CONF: conf.render(_values(settings, place, names)),
        ident: foreignconf.with_block(read_text(ident), maps),
        hba: foreignconf.with_block(read_text(hba), ours),
        auto: conf.purge(read_text(auto))[0],
        stranger.config: conf.with_include(read_text(stranger.config), include),
    }


def _values(settings: ServerSettings, place: Place, names: str | None) -> dict[str, str]:
    now = names if names is not None else parameters.CLOSED_NAMES
    at_first = live.parameters_of(now, None, None)
    return parameters.effective(settings, place, at_first, {}).values


def _replace(file: Path, text: str, user: PostgresUser | None) -> None:
    mode = file.stat().st_mode & 0o777 if file.exists() else 0o600
    write_atomic(file, text, user=user, mode=mode)


def _put_back(file: Path, text: str | None, user: PostgresUser | None) -> None:
    if text is None:
        file.unlink(missing_ok=True)
    else:
        _replace(file, text, user)


async def _taken(
    stranger: Stranger, settings: ServerSettings, place: Place, *, names: str | None
) -> str:
    """Reload it, come in as the agent will, and read back what safety rests on; "" when well."""
    if not processes.send(stranger.pid, signal.SIGHUP, data_dir=stranger.data_dir):
        return "it has ended"
    login = Login(place.socket_dir, place.port, settings.superuser, settings.database)
    session = Session(login)
    until, problem = time.monotonic() + TAKES_S, "no answer"
    try:
        while problem and time.monotonic() < until:
            await asyncio.sleep(TRY_AGAIN_S)
            problem = await _amiss(session, _values(settings, place, names))
        return problem
    finally:
        await session.close()


async def _amiss(session: Session, wanted: dict[str, str]) -> str:
    asked = sorted({*parameters.RELOADABLE, *CHECKED} & set(wanted))
    try:
        rows = await session.rows(live.SETTINGS_SQL, [asked])
    except PostgresError as error:
        return str(error)
    return "; ".join(text for text in (live.wrong(row, wanted) for row in rows) if text)
