"""The file is read again, and what needs no restart comes into force: SIGHUP, or a call of the API.

Owns the order, and the answer that says per key what became of it. A file with a mistake changes
nothing. What may change while the daemon runs is `config.reload`'s to say; every part below is
given the settings in force, so that a key that needs a restart cannot leak into one that does not.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from pgherd.config.load import load
from pgherd.config.problems import ConfigError
from pgherd.config.reload import take
from pgherd.daemon import translate
from pgherd.daemon.asking import Question
from pgherd.model.errors import PgherdError
from pgherd.model.reloaded import Mistake, Reloaded
from pgherd.telemetry import logs

if TYPE_CHECKING:
    from pgherd.config.settings import Settings
    from pgherd.daemon.build import Node
    from pgherd.postgres.server import PostgresServer
    from pgherd.postgres.settings import ServerSettings

log = logs.get("daemon")

RELOAD = "reload-config"
ASK_S = 20.0

Reloads = Question[str, Reloaded]


class Reloader:
    """Reads the file of one node again; one at a time."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._turn = asyncio.Lock()

    async def reload(self, who: str) -> Reloaded:
        """Apply the file as it is now. who: asked for it."""
        async with self._turn:
            node = self._node
            try:
                new = await asyncio.to_thread(load, node.config, os.environ)
            except ConfigError as error:
                kept = "the settings in force"
                log.error("config.rejected", reason=str(error), kept=kept, by=who)
                return Reloaded(
                    status="rejected",
                    rejected=tuple(
                        Mistake(one.place, one.key, one.message, one.hint) for one in error.problems
                    ),
                )
            return await self._take(new, who)

    async def _take(self, new: Settings, who: str) -> Reloaded:
        node = self._node
        taken = take(node.settings, new)
        for key, effect in (
            *((one.key, "applied") for one in taken.applied),
            *((one.key, "needs a restart") for one in taken.waits),
        ):
            log.info("config.changed", key=key, effect=effect, by=who)
        node.settings = taken.settings
        for part in AT_ONCE:
            part.give(node, taken.settings)
        node.agent.observed()
        waits, rejected = await slowly(node, taken.settings)
        return Reloaded(
            status="partly" if rejected else "reloaded",
            changes_detected=len(taken.applied) + len(taken.waits),
            applied=tuple(one.key for one in taken.applied),
            needs_restart=tuple(one.key for one in taken.waits),
            rejected=rejected,
            pending_parameters=waits,
        )


@dataclass(frozen=True, slots=True)
class Part:
    """Something that runs with values of the file. of: these · give: they are in force from now on.

    Every key that can change while the daemon runs changes the value of one of them.
    """

    name: str
    of: Callable[[Settings], object]
    give: Callable[[Node, Settings], None]


def _give_record(node: Node, settings: Settings) -> None:
    wanted = translate.own_record(settings)
    node.agent.own_record.wanted = msgspec.structs.replace(wanted, kind=node.settings.kind)


def _give_policy(node: Node, settings: Settings) -> None:
    node.agent.policy = translate.policy(settings)


def _give_cloning(node: Node, settings: Settings) -> None:
    if node.executor is not None:
        from pgherd.daemon.datamember import cloning

        node.executor.hands.cloning = cloning(settings)


def _give_proxy(node: Node, settings: Settings) -> None:
    if node.control is not None:
        node.control.configure(translate.proxy_settings(settings))


def _give_hooks(node: Node, settings: Settings) -> None:
    node.hooks.take(settings)


def _give_tags(node: Node, settings: Settings) -> None:
    node.agent.reports.heed(settings.node.tags)


def _give_level(node: Node, settings: Settings) -> None:
    node.telling.level.file_rules()


def _give_interval(node: Node, settings: Settings) -> None:
    node.telling.report.poke()


def _give_tokens(node: Node, settings: Settings) -> None:
    node.guard.replace(translate.tokens(settings), translate.access(settings))


def _give_certificates(node: Node, settings: Settings) -> None:
    node.securing.certificates.heed(settings)


def _give_api_tls(node: Node, settings: Settings) -> None:
    try:
        node.api.configure(translate.serve_tls(settings))
    except PgherdError as error:
        log.error("api.reload_failed", reason=str(error), kept="the certificate in use")


def _give_peer_tls(node: Node, settings: Settings) -> None:
    node.peers.use(translate.peer_tls(settings))


AT_ONCE = (
    Part("deciders", translate.policy, _give_policy),
    Part("own record", translate.own_record, _give_record),
    Part("tags", lambda settings: settings.node.tags, _give_tags),
    Part("copies", lambda settings: settings.postgresql.clone, _give_cloning),
    Part("log level", lambda settings: settings.log.level, _give_level),
    Part("reports", lambda settings: settings.log.report_interval_ms, _give_interval),
    Part("callers", lambda one: (translate.tokens(one), translate.access(one)), _give_tokens),
    Part("API's files", translate.serve_tls, _give_api_tls),
    Part("peers' files", translate.peer_tls, _give_peer_tls),
    Part("proxy", translate.proxy_settings, _give_proxy),
    Part("hooks", lambda settings: settings.hooks, _give_hooks),
)
"""What is a value that somebody looks at."""
VIPS, SERVER, ARCHIVE = "addresses", "PostgreSQL", "archive"
SLOWLY: dict[str, Callable[[Settings], object]] = {
    VIPS: lambda settings: settings.vip,
    SERVER: translate.server_settings,
    ARCHIVE: lambda settings: settings.archive,
}
"""What takes a moment, and may fail (`slowly`)."""


Slow = tuple[tuple[str, ...], tuple[Mistake, ...]]


async def slowly(node: Node, settings: Settings) -> Slow:
    """What takes a moment, and may fail: parameters that wait for PostgreSQL, and what it said."""
    if settings.vip or node.vips is not None:
        from pgherd.daemon import vips

        await vips.reload(node, settings)
    if node.server is None:
        return (), ()
    base = await node.rotation.reloaded(translate.server_settings(settings))
    base = await node.archiving.reloaded(settings, base)
    told = await _reload_server(node.server, base)
    if node.server.is_running() and not told[1]:
        node.hooks.reloaded("this node's file was read again")
    return told


async def _reload_server(server: PostgresServer, base: ServerSettings) -> Slow:
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
    waits: tuple[str, ...] = ()
    try:
        if server.is_running():
            waits = await server.reconfigure(wanted)
            log.info("server.reloaded", needs_restart=waits)
        else:
            server.settings = wanted
    except PgherdError as error:
        log.error("server.reload_failed", reason=str(error))
        return (), (Mistake(str(server.data_dir), "postgresql", error.message, error.hint),)
    return waits, ()


def attach(node: Node) -> Reloads:
    """The reload as any node asks for it, and this one does it."""
    reloader = Reloader(node)
    return Question(
        RELOAD,
        str,
        Reloaded,
        me=node.me,
        here=reloader.reload,
        ask=node.peers.request,
        timeout_s=ASK_S,
    )
