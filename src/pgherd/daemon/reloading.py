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
    from pgherd.postgres.settings import ServerSettings
    from pgherd.relay.messages import ListenerSettings, ProxySettings

log = logs.get("daemon")

LISTENERS = "proxy.listeners"


def reload(node: Node) -> asyncio.Task[None] | None:
    """Apply the file as it is now; what still goes on is returned."""
    try:
        new = load(node.config, os.environ)
    except ConfigError as error:
        log.error("config.rejected", reason=str(error), kept="the settings in force")
        return None
    proxy, keeps_places = _proxy_settings(node.settings, new)
    for change in diff(node.settings, new):
        waits = change.change is Change.RESTART
        if change.key == LISTENERS:
            waits = not keeps_places
        log.info("config.changed", key=change.key, effect="needs a restart" if waits else "applied")
    if new.kind is not node.settings.kind:
        log.info("config.changed", key="postgresql", effect="needs a restart")
    node.agent.policy = translate.policy(new)
    node.agent.own_record.wanted = msgspec.structs.replace(
        translate.own_record(new),
        address=translate.address(node.settings),
        kind=node.settings.kind,
    )
    node.agent.reports.heed(new.node.tags)
    if node.executor is not None:
        from pgherd.daemon.datamember import cloning

        node.executor.hands.cloning = cloning(new)
    node.agent.observed()
    logs.set_level(new.log.level)
    node.guard.replace(translate.tokens(new))
    if node.control is not None:
        node.control.configure(proxy)
    return asyncio.create_task(_follow(node, new), name="reload")


async def _follow(node: Node, new: Settings) -> None:
    """What takes a moment."""
    if new.vip or node.vips is not None:
        from pgherd.daemon import vips

        await vips.reload(node, new)
    if node.server is not None:
        base = await node.rotation.reloaded(translate.server_settings(new))
        await _reload_server(node.server, base)


def _proxy_settings(old: Settings, new: Settings) -> tuple[ProxySettings, bool]:
    """What the proxy gets, and whether that is all: its ports are the ones that peers know."""
    before, wanted = translate.proxy_settings(old), translate.proxy_settings(new)
    if [_bound(one) for one in before.listeners] == [_bound(one) for one in wanted.listeners]:
        return wanted, True
    preferred = {_bound(one): one for one in wanted.listeners}
    kept = tuple(preferred.get(_bound(one), one) for one in before.listeners)
    return msgspec.structs.replace(wanted, listeners=kept), False


def _bound(one: ListenerSettings) -> tuple[str, int, str, str]:
    return one.host, one.port, one.route, one.pool


async def _reload_server(server: PostgresServer, base: ServerSettings) -> None:
    """PostgreSQL's own part; what the server cannot take up alone waits for its restart."""
    place = server.settings
    wanted = msgspec.structs.replace(
        base,
        listen=place.listen,
        passfile=place.passfile,
        cluster=place.cluster,
        access=place.access,
        version=place.version,
    )
    try:
        if server.is_running():
            waits = await server.reconfigure(wanted)
            log.info("server.reloaded", needs_restart=waits)
        else:
            server.settings = wanted
    except PgherdError as error:
        log.error("server.reload_failed", reason=str(error))
