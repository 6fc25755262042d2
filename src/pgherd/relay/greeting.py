"""The first words to a client of a pool: what its server would tell it, though it has none yet.

Theory of operation. What a server reports at a login depends on its own settings, the role's, the
database's, and the client's wishes. The first client of a family with certain wishes borrows a
server, which is made to grant them; what it reported is told to every later one without asking any
server. A server that reports something else after its login, since somebody changed a role, makes
that forgotten. A wish that no server grants is the client's end, in the server's words.

Owns this order. Leaves what is known of greetings to `greetings`, and where servers come from to
`pools`.
"""

from __future__ import annotations

import asyncio

from pgherd.model.ids import NodeId
from pgherd.relay.entrance import Gate, Refused, own_key
from pgherd.relay.lent import Family, PoolServer
from pgherd.relay.pooled import READY, Pooled
from pgherd.relay.tally import Result
from pgherd.relay.terminated import Terminated
from pgherd.route.choose import Bound, NoBackend, Route
from pgherd.wire.answer import ADMIN_SHUTDOWN, Refusal
from pgherd.wire.guard import Guard, startup_refusal
from pgherd.wire.lane import TEXT_BYTES_MAX
from pgherd.wire.login import Authenticated, authentication, key_data
from pgherd.wire.lowering import HIDING, MESSAGES, asked_at_startup, made_loud
from pgherd.wire.query import ServerError
from pgherd.wire.renewal import Renewal, RenewalImpossible, status
from pgherd.wire.shared import common, wishes
from pgherd.wire.startup import ProtocolViolation


class _Asker:
    """Who borrows a server to see what it reports."""

    def __init__(self, gate: Gate, session: Pooled, wished: dict[str, str]) -> None:
        self.number = gate.pools.number()
        self.listener = session.listener
        self.family = session.family
        self.client: asyncio.Transport | None = None
        self.settings: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
        self._pools = gate.pools
        self._wished = wished
        self._server: PoolServer | None = None
        self._renewal: Renewal | None = None

    @property
    def aim(self) -> Route:
        """Where a server like the session's is."""
        return self.listener.route

    @property
    def rides_to(self) -> None:
        return None

    @property
    def avoid(self) -> tuple[NodeId, ...]:
        """Any will do."""
        return ()

    def has(self, server: PoolServer, bound: Bound) -> None:
        """A server was lent."""
        self._server = server
        renewal = self._renewal = Renewal(self._wished, ())
        renewal.settings = dict(server.settings)
        said = renewal.start()
        if said and server.transport is not None:
            server.transport.write(said)
        else:
            self._over(renewal)

    def server_said(self, data: bytes) -> None:
        """The server's answer."""
        renewal = self._renewal
        assert renewal is not None
        try:
            renewal.feed(data)
        except (RenewalImpossible, ProtocolViolation) as why:
            self._fail(_refused(why))
            return
        if renewal.is_over:
            self._over(renewal)

    def server_lost(self) -> None:
        """It left in the middle."""
        self.give_up()
        self._fail(Refusal(ADMIN_SHUTDOWN, "pgherd: the server left", "Connect again."))

    def refuse(self, refusal: Refusal) -> None:
        """There is no server."""
        self._fail(refusal)

    def give_up(self) -> None:
        """The client has gone, or all is done."""
        server, self._server = self._server, None
        if server is not None:
            self._pools.left(self, server)
        else:
            self._pools.leave(self)

    def _over(self, renewal: Renewal) -> None:
        server, self._server = self._server, None
        assert server is not None
        if not self.settings.done():
            self.settings.set_result(renewal.settings)
        self._pools.back(self, server, renewal.settings, clean=True)

    def _fail(self, refusal: Refusal) -> None:
        if not self.settings.done():
            self.settings.set_exception(Refused(refusal))


def _refused(why: Exception) -> Refusal:
    said = why.__cause__
    if isinstance(said, ServerError):
        return Refusal(said.sqlstate, str(said))
    return Refusal(ADMIN_SHUTDOWN, f"pgherd: {why}")


async def greet(gate: Gate, session: Terminated, proved: Authenticated, *, database: str) -> None:
    """Let a client in that has proved itself. database: as it calls it. Raises Refused."""
    assert isinstance(session, Pooled)
    parameters = proved.startup.parameters
    asked = asked_at_startup(parameters)
    if gate.settings.sync_floor and (refusal := startup_refusal(asked)) is not None:
        raise Refused(refusal, Result.DENIED)
    if asked.get(MESSAGES) in HIDING:
        parameters = made_loud(parameters)
    choice = gate.choose(session.listener, ())
    if isinstance(choice, NoBackend) and choice.final:
        raise Refused(Refusal(choice.sqlstate, f"pgherd: {choice.message}"))
    user = dict(parameters)["user"]
    session.family = Family(user, database, common(parameters), session.by_socket)
    session.number = gate.pools.number()
    gate.pools.proved(user, proved.keys, session.stored)
    wished = wishes(parameters)
    kind = session.family, session.listener.route is not Route.REPLICA
    settings = gate.pools.greetings.get(kind, wished)
    if settings is None:
        settings = await _asked(gate, session, wished)
        gate.pools.greetings.learn(kind, wished, settings)
    session.own_key = own_key(proved.startup.minor)
    gate.tally.note(session.listener, Result.OPENED)
    gate.session_joined(session)
    session.guard = Guard(has_floor=gate.settings.sync_floor, whole_bytes=TEXT_BYTES_MAX)
    told = b"".join(status(name, value) for name, value in settings.items())
    session.begin(
        settings, wished=wished, begin=authentication(0) + told + key_data(session.own_key) + READY
    )


async def _asked(gate: Gate, session: Pooled, wished: dict[str, str]) -> dict[str, str]:
    asker = _Asker(gate, session, wished)
    gate.pools.want(asker)
    try:
        return await asker.settings
    finally:
        asker.give_up()
