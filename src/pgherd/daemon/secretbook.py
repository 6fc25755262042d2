"""The secrets of passwords that were changed while the cluster ran, on one data member.

Owns a private file beside the Raft store, and their way from member to member: a new one is given
to all before the ledger names it; who lacks one that the ledger names asks the others. They travel
between authenticated members only, and are in no log, no answer of the API and no saved ledger.
Whoever follows the ledger here changes the server's settings; the roles are the primary's to make
(rule 1301). See docs/adr/0051-access-and-passwords.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pgherd.daemon.asking import Ask
from pgherd.model.credentials import mark
from pgherd.model.errors import OperatorError, PeerError, PgherdError
from pgherd.model.facts import Facts, Kind
from pgherd.model.ids import NodeId
from pgherd.postgres.files import read_text, write_atomic
from pgherd.telemetry import logs

if TYPE_CHECKING:
    from pgherd.daemon.build import Node
    from pgherd.postgres.server import PostgresServer
    from pgherd.postgres.settings import ServerSettings

log = logs.get("daemon")

FILE = "secrets.json"
GIVE_SECRET = "give-secret"
ASK_SECRET = "ask-secret"
ASK_S = 3.0
IDLE_MAX = 8
"""Kept beside those that the ledger names: it may name one soon, or a change was given up."""


def fingerprint(secret: str) -> str:
    """What the ledger knows of a secret: they are long and random, or salted."""
    return sha256(secret.encode()).hexdigest()


class SecretBook:
    """See the module's text. base: the server's settings as the node's file has them · used: told
    when the server has others.
    """

    def __init__(
        self,
        directory: Path,
        *,
        me: NodeId,
        base: ServerSettings,
        server: PostgresServer,
        facts: Callable[[], Facts],
        ask: Ask,
        used: Callable[[], None],
    ) -> None:
        self.base = base
        self._file = directory / FILE
        self._me = me
        self._server = server
        self._facts = facts
        self._ask = ask
        self._used = used
        self._known: dict[str, str] | None = None
        self._task: asyncio.Task[None] | None = None

    async def give(self, body: bytes) -> bytes:
        """Take a secret that the ledger may name soon; on disk when this returns."""
        secret = msgspec.msgpack.decode(body, type=str)
        await asyncio.to_thread(self._keep, secret)
        return b""

    async def tell(self, body: bytes) -> bytes:
        """Tell another member a secret that it lacks."""
        wanted = msgspec.msgpack.decode(body, type=str)
        found = (await asyncio.to_thread(self._read)).get(wanted)
        if found is None:
            raise OperatorError(f"{self._me} does not know it either")
        return msgspec.msgpack.encode(found)

    def look(self) -> None:
        """See to it that the server's settings are as of the ledger."""
        if mark(self._facts().credentials) == self._server.settings.mark:
            return
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._follow(), name="secrets")

    async def reloaded(self, base: ServerSettings) -> ServerSettings:
        """The settings of a file that was read again, as of the ledger where that is known."""
        self.base = base
        return await asyncio.to_thread(self.overlaid) or base

    async def _follow(self) -> None:
        """Learn what is lacking, then use it; tried again at the next look where that fails."""
        try:
            await self._learn()
            wanted = await asyncio.to_thread(self.overlaid)
            if wanted is not None:
                await self._use(wanted)
        except (PgherdError, OSError) as error:
            log.warning("secrets.waiting", reason=str(error))

    async def _learn(self) -> None:
        from pgherd.postgres import logins

        facts = self._facts()
        known = await asyncio.to_thread(self._read)
        for wanted in logins.needed(facts.credentials) - set(known):
            await self._fetch(facts, wanted)

    async def _fetch(self, facts: Facts, wanted: str) -> None:
        """Ask the others, one after another."""
        body = msgspec.msgpack.encode(wanted)
        for node, member in sorted(facts.members.items()):
            if node == self._me or member.kind is not Kind.DATA:
                continue
            try:
                answer = await self._ask(node, ASK_SECRET, body, timeout_s=ASK_S)
            except PeerError:
                continue
            secret = msgspec.msgpack.decode(answer, type=str)
            if fingerprint(secret) == wanted:
                await asyncio.to_thread(self._keep, secret)
                return
        raise OperatorError(
            "no member that answers knows a password which the ledger names",
            "start the members that were up when it was changed",
        )

    def overlaid(self) -> ServerSettings | None:
        """The settings as of the ledger; None while a secret is not known here. Blocks."""
        from pgherd.postgres import logins

        known = self._read()
        credentials = self._facts().credentials
        if not logins.needed(credentials) <= set(known):
            return None
        return logins.overlaid(self.base, credentials, known)

    async def _use(self, wanted: ServerSettings) -> None:
        """Streams that run keep their role; only what begins from here on uses another."""
        from pgherd.postgres.conf import write_passfile

        server = self._server
        told = server.settings
        wanted = msgspec.structs.replace(
            wanted, cluster=told.cluster, access=told.access, version=told.version
        )
        if server.is_running():
            await server.reconfigure(wanted)
        else:
            await asyncio.to_thread(write_passfile, wanted, user=server.user)
            server.settings = wanted
        log.info("secrets.used", mark=wanted.mark)
        self._used()

    def _read(self) -> dict[str, str]:
        if self._known is None:
            try:
                self._known = msgspec.json.decode(
                    read_text(self._file) or "{}", type=dict[str, str]
                )
            except msgspec.MsgspecError:
                log.warning("secrets.damaged", file=FILE)
                self._known = {}
        return self._known

    def _keep(self, secret: str) -> None:
        from pgherd.postgres import logins

        needed = logins.needed(self._facts().credentials)
        known = self._read()
        used = {key: known[key] for key in known if key in needed}
        idle = [pair for pair in known.items() if pair[0] not in needed]
        kept = used | dict(idle[-IDLE_MAX:]) | {fingerprint(secret): secret}
        write_atomic(self._file, msgspec.json.encode(kept).decode() + "\n", user=None)
        self._known = kept


def attach(node: Node) -> SecretBook | None:
    """The book of one node, and its server as of it; None where it has no server."""
    if node.server is None:
        return None
    book = SecretBook(
        node.settings.raft.data_dir,
        me=node.me,
        base=node.server.settings,
        server=node.server,
        facts=lambda: node.consensus.replica.facts,
        ask=node.peers.request,
        used=lambda: node.watch.poke() if node.watch is not None else None,
    )
    node.server.settings = book.overlaid() or node.server.settings
    return book
