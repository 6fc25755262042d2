"""What one node does for its security: guard of the API, audit record, certificates.

Owns the joining of these to a node's parts, and their beginning and end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgherd.api.guard import Guard
from pgherd.api.serve import ApiServer
from pgherd.daemon import signing, translate
from pgherd.daemon.auditing import Auditing
from pgherd.daemon.certificates import CertificateWatch
from pgherd.model.errors import PgherdError
from pgherd.telemetry import logs

if TYPE_CHECKING:
    from pgherd.daemon.build import Node

log = logs.get("daemon")

SUBMIT_S = 10.0


class Securing:
    """See the module's text. node: one whose agent is made."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.signing = signing.attach(node)
        self.auditing = Auditing(
            me=node.me, submit=lambda command: node.port.submit(command, timeout_s=SUBMIT_S)
        )
        self.certificates = CertificateWatch(node.settings, renewed=self._renewed)
        node.metrics.certificates = self.certificates.seconds_left
        node.agent.reports.beside = self.certificates.warnings

    def serve(self) -> tuple[ApiServer, Guard]:
        """The API of a node whose port is made."""
        node = self._node
        return translate.api(
            node.settings,
            node.port,
            node.metrics,
            policy=lambda: node.agent.policy,
            on_change=self.auditing.changed,
            knows=lambda: node.agent.caught_up,
        )

    async def look(self) -> None:
        """Once a second."""
        await self.certificates.look()

    async def end(self) -> None:
        """Before consensus stops."""
        await self.auditing.end()

    async def _renewed(self) -> None:
        """PostgreSQL shows the new certificate to whoever comes from now on."""
        server = self._node.server
        if server is None or not server.settings.tls_from:
            return
        from pgherd.postgres import tlsfiles

        try:
            if await tlsfiles.renew(server):
                log.info("server.certificate_renewed")
        except (PgherdError, OSError) as error:
            log.warning("server.certificate_kept", reason=str(error))
