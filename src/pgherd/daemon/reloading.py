"""SIGHUP: the file is read again, and what needs no restart comes into force.

Says per key what became of it; a file with a mistake changes nothing.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import msgspec

from pgherd.config.fields import Change
from pgherd.config.load import load
from pgherd.config.problems import ConfigError
from pgherd.config.reload import diff
from pgherd.daemon import translate
from pgherd.model.errors import PgherdError
from pgherd.telemetry import logs

if TYPE_CHECKING:
    from pgherd.config.settings import Settings
    from pgherd.daemon.build import Node
    from pgherd.postgres.server import PostgresServer

log = logs.get("daemon")


def reload(node: Node) -> asyncio.Task[None] | None:
    """Apply the file as it is now; what still goes on for PostgreSQL is returned."""
    try:
        new = load(node.config, os.environ)
    except ConfigError as error:
        log.error("config.rejected", reason=str(error), kept="the settings in force")
        return None
    for change in diff(node.settings, new):
        effect = "needs a restart" if change.change is Change.RESTART else "applied"
        log.info("config.changed", key=change.key, effect=effect)
    node.agent.policy = translate.policy(new)
    node.agent.own_record.wanted = msgspec.structs.replace(
        translate.own_record(new), address=translate.address(node.settings)
    )
    logs.set_level(new.log.level)
    node.guard.replace(translate.tokens(new))
    if node.control is not None:
        listeners = translate.proxy_settings(node.settings).listeners
        node.control.configure(
            msgspec.structs.replace(translate.proxy_settings(new), listeners=listeners)
        )
    if node.server is None:
        return None
    return asyncio.create_task(_reload_server(node.server, new), name="reload")


async def _reload_server(server: PostgresServer, new: Settings) -> None:
    """PostgreSQL's own part; what the server cannot take up alone waits for its restart."""
    place = server.settings
    wanted = msgspec.structs.replace(
        translate.server_settings(new), listen=place.listen, passfile=place.passfile
    )
    try:
        if server.is_running():
            waits = await server.reconfigure(wanted)
            log.info("server.reloaded", needs_restart=waits)
        else:
            server.settings = wanted
    except PgherdError as error:
        log.error("server.reload_failed", reason=str(error))
