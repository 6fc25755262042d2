"""A node that lost its Raft store: it takes no part, says so, and asks to be re-admitted.

Theory of operation. What was lost are votes and acknowledgements that others count on, and the
promises of PostgreSQL's side. So nothing of the old life goes on: the node answers no Raft message,
reports nothing and touches no server until a member answers with a new Raft id (rule 717), but for
one that may write alone, which is closed at once (rule 19). Then, in this order, each step durable
and safe to do again:

1. the copy of the data gets another incarnation, unless the ledger says that it keeps its own;
2. the lost store is set aside, a new one is made: with the new id, and with the ledger's term as
   its promise, for no promise that was forgotten can be above it;
3. `member.json` says that this node is a member again. The agent ends and starts anew.

A copy is used as it is only when its own files say whose WAL it takes: the present leader's, under
the present term, and that a rewind there has come to its end. Otherwise one may have been cut
short, or its end may be of another branch, and nobody remembers: it counts as half rewound, so that
it is copied anew and kept aside.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pgherd.daemon.memberfile import MemberFile, write_member
from pgherd.daemon.readmitting import FORGOT_TOO, Answer, Grant
from pgherd.ledger.readmission import first_promises
from pgherd.model.errors import OperatorError, PeerError
from pgherd.model.ids import MemberKey, NodeId, Term, parse_token
from pgherd.model.observation import Asking
from pgherd.model.promises import Promises
from pgherd.peer.errors import PeerRefused
from pgherd.postgres.conf import read_incarnation, write_incarnation
from pgherd.postgres.datadir import is_whole
from pgherd.store.aside import set_aside
from pgherd.store.base import Identity
from pgherd.store.directory import StoreDirectory
from pgherd.store.sqlite import SqliteStore
from pgherd.telemetry import logs

if TYPE_CHECKING:
    from pgherd.postgres.server import PostgresServer

log = logs.get("daemon")

ASK_S = 0.5
ANSWER_S = 2.0
NOBODY_YET = "no other member has been reached yet"
MAJORITY_LOST = (
    "{lost} of {voters} voters have lost their Raft stores, so nobody can re-admit anybody; "
    "on a node whose store is whole: pgherd raft recover"
)
NEXT = "nothing, while a majority of the others runs: it is re-admitted by itself; pgherd status"


class Amnesia:
    """One node without memory, until it is re-admitted."""

    def __init__(
        self,
        *,
        directory: StoreDirectory,
        known: MemberFile,
        why: str,
        peers: Callable[[], dict[NodeId, bool]],
        ask: Callable[[NodeId, bytes, float], Awaitable[bytes]],
        server: PostgresServer | None,
    ) -> None:
        self._directory = directory
        self._known = known
        self._why = why
        self._peers = peers
        self._ask = ask
        self._server = server
        self._waits = NOBODY_YET

    def text(self) -> str:
        """Why, and what its return waits for."""
        return f"{self._why}; {self._waits}"

    async def run(self) -> str:
        """Ask until a member answers with a new place, and take it; the line for people."""
        log.error("store.amnesia", reason=self._why, next=NEXT)
        while True:
            grant = await self._grant()
            if grant is not None:
                return await self.accept(grant)
            await asyncio.sleep(ASK_S)

    async def _grant(self) -> Grant | None:
        """Ask everybody who is there."""
        body = msgspec.msgpack.encode(Asking(self._known.asks, self._known.raft_id))
        peers = self._peers()
        answers = await asyncio.gather(*(self._answer(node, body) for node in sorted(peers)))
        for found in answers:
            if isinstance(found, Answer) and found.grant is not None:
                return found.grant
        self._tell(dict(zip(sorted(peers), answers, strict=True)))
        return None

    async def _answer(self, node: NodeId, body: bytes) -> Answer | str:
        try:
            raw = await self._ask(node, body, ANSWER_S)
            return msgspec.msgpack.decode(raw, type=Answer)
        except PeerRefused as refused:
            return str(refused)
        except (PeerError, msgspec.MsgspecError):
            return "it does not answer"

    def _tell(self, answers: dict[NodeId, Answer | str]) -> None:
        waits = waiting(self._known, answers)
        if waits != self._waits:
            self._waits = waits
            log.warning("member.waits", reason=waits)

    # --- taking the new place --------------------------------------------------------------------

    async def accept(self, grant: Grant) -> str:
        """Take the new place; the line for people. Raises OperatorError, StoreFailed, OSError."""
        promises = await self._promises(grant)
        aside = await asyncio.to_thread(self._make_store, grant, promises)
        raft_id = grant.admission.raft_id
        kept = f"; what was left of the old store is in {aside}" if aside else ""
        return f"re-admitted as Raft id {raft_id}, promised term {promises.promise}{kept}"

    async def _promises(self, grant: Grant) -> Promises:
        """What the new store begins with; names the copy of the data anew first."""
        server, place = self._server, grant.place
        if server is None or not await asyncio.to_thread(holds_something, server.data_dir):
            return Promises(promise=place.term)
        named = await asyncio.to_thread(read_incarnation, server.data_dir)
        promises = first_promises(
            place,
            MemberKey(self._known.node, named),
            followed=await streamed(server),
            anew=secrets.token_hex(3),
        )
        if promises.incarnation != named:
            await asyncio.to_thread(rename_copy, server, promises.incarnation)
            log.info("copy.renamed", was=named, incarnation=promises.incarnation)
        return promises

    def _make_store(self, grant: Grant, promises: Promises) -> Path | None:
        path, place = self._directory.path, grant.admission
        aside = set_aside(self._directory)
        self._directory.close()
        store = SqliteStore(path)
        identity = Identity(place.cluster, place.node, place.raft_id, self._known.asks)
        try:
            store.save(identity=identity, promises=promises)
        finally:
            store.close()
        now = MemberFile(
            cluster=place.cluster,
            node=place.node,
            raft_id=place.raft_id,
            store=self._known.asks,
            members=place.members,
            marks=self._known.marks,
        )
        write_member(path, now)
        return aside


def waiting(known: MemberFile, answers: dict[NodeId, Answer | str]) -> str:
    """What the re-admission waits for, of what everybody said last."""
    lost = 1 + sum(said == FORGOT_TOO for said in answers.values())
    voters = 1 + sum(seat.voter for seat in known.members if seat.node != known.node)
    voters = max(voters, 1 + len(answers))
    if voters - lost < voters // 2 + 1:
        return MAJORITY_LOST.format(lost=lost, voters=voters)
    for node, said in sorted(answers.items()):
        if isinstance(said, Answer):
            return f"{node} decides: {said.waits}" if said.waits else f"{node} re-admits it"
    if not answers:
        return NOBODY_YET
    return "; ".join(f"{node}: {said}" for node, said in sorted(answers.items()))


async def streamed(server: PostgresServer) -> tuple[MemberKey, Term] | None:
    """Under which name and term its files have it stream.

    None for one that a rewind has left where it comes up with its source's WAL alone: it is started
    without an upstream first, and would never come up.
    """
    if not is_whole(await server.state(), server.data_dir):
        return None
    return parse_token(await server.written_token())


def holds_something(data_dir: Path) -> bool:
    """Whether there is a data directory with anything in it."""
    try:
        return any(data_dir.iterdir())
    except FileNotFoundError:
        return False


def rename_copy(server: PostgresServer, incarnation: str) -> None:
    """Name the data directory anew, durably. Raises OperatorError where that cannot be done."""
    try:
        write_incarnation(server.data_dir, incarnation, user=server.user)
    except OSError as error:
        raise OperatorError(
            f"cannot write into {server.data_dir}: {error.strerror}",
            "the copy must get another name before this node is a member again: check its rights",
        ) from error
