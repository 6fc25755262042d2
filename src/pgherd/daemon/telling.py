"""What a node tells of itself, put together: metrics, vitals, log lines, reports, reloads.

Owns the order of their construction and their tasks. Each part is its module's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from pgherd.api.herd import ProxySeen
from pgherd.api.serve import ApiServer, serve
from pgherd.daemon import nodelogs, proxytelling, reloading, vitals
from pgherd.daemon.checkup import CHECKUP, CLOCK, Checkup
from pgherd.daemon.clusterreport import ClusterReport
from pgherd.daemon.nodelogs import LOG_LEVEL, LOGS, Level, LogLevel, Logs
from pgherd.daemon.proxytelling import PROXY
from pgherd.daemon.reloading import RELOAD, Reloads
from pgherd.daemon.vitals import VITALS, VitalsWatch
from pgherd.model.action import Planned
from pgherd.model.checkup import NodeFacts
from pgherd.model.ids import NodeId
from pgherd.model.nodelog import LevelNow, LevelWish, LogAsked, LogTold
from pgherd.model.reloaded import Reloaded
from pgherd.model.vitals import Vitals
from pgherd.telemetry import logs
from pgherd.telemetry.boottime import LoopLag
from pgherd.telemetry.nodemetrics import Known

if TYPE_CHECKING:
    from pgherd.config.settings import Settings
    from pgherd.daemon.build import Node

log = logs.get("daemon")

METRICS_PATH = "/metrics"
KINDS = (VITALS, PROXY, LOGS, LOG_LEVEL, RELOAD, CHECKUP, CLOCK)
"""What other nodes' daemons may ask."""


class Telling:
    """Everything of one node; for the API it is the port of what any node can be asked."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.vitals = VitalsWatch(node)
        self._vitals = vitals.attach(node, self.vitals)
        self._proxy = proxytelling.attach(node)
        self._logs: Logs
        self._level: Level
        self.level: LogLevel
        self._logs, self._level, self.level = nodelogs.attach(node)
        self._reloads: Reloads = reloading.attach(node)
        self.report = ClusterReport(node)
        self.checkup = Checkup(node)
        self._reloading: asyncio.Task[None] | None = None
        node.metrics.known = self._known
        self.answers = {
            VITALS: self._vitals.answer,
            PROXY: self._proxy.answer,
            LOGS: self._logs.answer,
            LOG_LEVEL: self._level.answer,
            RELOAD: self._reloads.answer,
            CHECKUP: self.checkup.asked.answer,
            CLOCK: self.checkup.clocks.answer,
        }

    def begin(self) -> list[Coroutine[Any, Any, None]]:
        """What runs as long as the node does. Raises OperatorError where metrics.port is taken."""
        node = self._node
        node.agent.vitals = self.vitals
        found = [LoopLag(node.metrics.loop_lagged).run(), self.vitals.run(), self.report.run()]
        found.append(self.checkup.run())
        own = metrics_server(node.settings, node.api.app)
        return found if own is None else [*found, own.run()]

    def reload(self) -> None:
        """SIGHUP."""
        self._reloading = asyncio.create_task(self._reload_by_signal(), name="reload")

    async def _reload_by_signal(self) -> None:
        try:
            await self._reloads.here("SIGHUP")
        except Exception as error:
            log.error("config.reload_failed", exc_info=error)

    async def reload_config(self, node: NodeId, who: str) -> Reloaded:
        """Have a node read its file again. Raises PeerError."""
        return await self._reloads.at(node, who)

    async def node_vitals(self, node: NodeId) -> Vitals:
        """How a node itself is. Raises PeerError."""
        return await self._vitals.at(node, None)

    async def node_proxy(self, node: NodeId) -> ProxySeen | None:
        """What a node's proxy reports; None while there is none. Raises PeerError."""
        return (await self._proxy.at(node, None)).seen

    async def node_checkup(self, node: NodeId, quick: bool) -> NodeFacts:
        """What a check-up of a node looks at. Raises PeerError."""
        return await self.checkup.asked.at(node, quick)

    async def node_logs(self, node: NodeId, asked: LogAsked) -> LogTold:
        """Log lines of a node. Raises PeerError, OperatorError."""
        return await self._logs.at(node, asked)

    async def log_level(self, node: NodeId, wish: LevelWish) -> LevelNow:
        """Change what a node tells. Raises PeerError, OperatorError."""
        return await self._level.at(node, wish)

    def act_finished(self, planned: Planned, done: bool) -> None:
        """An act ended: counted here, then the agent's."""
        executor = self._node.executor
        if executor is not None and planned.action is not None:
            action = type(planned.action).__name__
            self._node.metrics.node.step(action, executor.ending.value.replace(" ", "_"))
        self._node.agent.act_finished(planned, done)

    def _known(self) -> Known:
        watch = self._node.watch
        return Known(
            vitals=self.vitals.now(),
            probes=dict(watch.probes.counts) if watch is not None else {},
            dropped={"log": logs.outputs().dropped, "journal": self._node.journal.dropped},
        )


def metrics_server(settings: Settings, app: Any) -> ApiServer | None:
    """The server of metrics.port; None where there is none. Raises OperatorError."""
    if settings.metrics.port is None:
        return None
    host = settings.metrics_bind()
    return serve(OnlyMetrics(app), host, settings.metrics.port, keys="metrics")


class OnlyMetrics:
    """The API's application, of which only /metrics is served."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Hide everything else."""
        if scope["type"] == "http" and scope["path"] != METRICS_PATH:
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await self._app(scope, receive, send)


async def answer(node: Node, kind: str, body: bytes) -> bytes:
    """Answer another node's daemon. Raises OperatorError."""
    return await node.telling.answers[kind](body)
