"""Starting a server with the cluster's parameters, and telling them to one that runs.

A start that fails under a version is tried once more with what the server last came up with; when
that works it is the version's fault, which is told (rule 1201) and not tried here again.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from pgherd.act.hands import Hands, log
from pgherd.model import action as act
from pgherd.model.errors import PostgresError
from pgherd.model.pgconfig import ConfigFailed, ConfigVersion
from pgherd.postgres import ran
from pgherd.postgres.accesscheck import AccessRefused
from pgherd.postgres.lowering import promote_lower as promote_lower_here
from pgherd.postgres.ran import Ran
from pgherd.postgres.server import PostgresServer, Started
from pgherd.postgres.settings import ServerSettings

WHY_MAX = 400


async def configure(hands: Hands, a: act.Configure) -> None:
    """Tell the running server, and see that it took everything up that needs no restart.

    Lines that it does not take are the version's fault, as a failed start is.
    """
    server = hands.server
    if await asyncio.to_thread(ran.read, server.data_dir) is None:
        await note_ran(server, Ran(0, server.settings.cluster, server.settings.access))
    told = msgspec.structs.replace(
        server.settings, cluster=a.parameters, access=a.access, version=0
    )
    try:
        waits = await server.reconfigure(told)
    except AccessRefused as error:
        log.warning("config.failed", version=a.version, reason=str(error))
        had = server.settings.version
        hands.memory.config_failed = ConfigFailed(a.version, str(error)[-WHY_MAX:], had)
        return
    server.settings = msgspec.structs.replace(server.settings, version=a.version)
    log.info("config.told", version=a.version, needs_restart=waits)


async def start(hands: Hands, **how: Any) -> Started:
    """Start with the newest version; else with the one that ran. how: as of `server.start`."""
    server = hands.server
    use_newest(hands)
    settings = server.settings
    wanted = Ran(settings.version, settings.cluster, settings.access)
    try:
        started = await server.start(**how)
    except PostgresError as error:
        good = await asyncio.to_thread(ran.read, server.data_dir)
        if good is None or (good.parameters, good.access) == (wanted.parameters, wanted.access):
            raise
        return await start_again(hands, wanted.version, good, error, how)
    if started.accepting:
        await note_ran(server, wanted)
    return started


def use_newest(hands: Hands) -> None:
    """The newest version, unless the file has it already or it was seen to fail here."""
    newest, settings = hands.config(), hands.server.settings
    failed = hands.memory.config_failed
    if newest.version == settings.version:
        return  # as it was told: what waits for other members waits on
    if failed is not None and failed.version == newest.version:
        return
    hands.server.settings = of_version(hands, newest, leads=False)


def of_version(hands: Hands, version: ConfigVersion, *, leads: bool) -> ServerSettings:
    """This server's settings with what a version says of it."""
    return msgspec.structs.replace(
        hands.server.settings,
        cluster=version.of(hands.me, leads=leads),
        access=version.access,
        version=version.version,
    )


async def start_again(
    hands: Hands, version: int, good: Ran, error: PostgresError, how: dict[str, Any]
) -> Started:
    """With what it came up with last; a failure of that too is not the version's."""
    server = hands.server
    log.warning("config.failed", version=version, back_to=good.version, reason=str(error))
    server.settings = msgspec.structs.replace(
        server.settings, cluster=good.parameters, access=good.access, version=good.version
    )
    started = await server.start(**how)
    hands.memory.config_failed = ConfigFailed(version, str(error)[-WHY_MAX:], good.version)
    return started


async def note_ran(server: PostgresServer, done: Ran) -> None:
    await asyncio.to_thread(ran.write, server.data_dir, done, user=server.user)


async def promote_lower(hands: Hands) -> None:
    """Promote with the newest version's lower values; where that fails, the next time without.

    It then comes up as the standby that it was, and the term's end or a second try decides.
    """
    server, newest = hands.server, hands.config()
    if hands.memory.lower_failed == newest.version:
        await server.promote()
        return
    server.settings = of_version(hands, newest, leads=True)
    try:
        await promote_lower_here(server)
    except PostgresError:
        hands.memory.lower_failed = newest.version
        raise
    log.info("config.lowered", version=newest.version)
    await note_ran(server, Ran(newest.version, server.settings.cluster, newest.access))
