"""Who this node is in consensus: from its store, from the founding list, or from a join.

A store that already has an identity must have ours; nothing is ever overwritten. A store that is
broken or empty on a node that has been a member is amnesia: it is never begun anew here.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import msgspec

from pgherd.api.adoption import Adoption, read_adoption
from pgherd.api.herd import Admission, Seat
from pgherd.config.settings import Settings
from pgherd.daemon import adopting
from pgherd.daemon import standbycluster as standby
from pgherd.daemon.memberfile import MemberFile, declare_lost, read_member, write_member
from pgherd.model.errors import OperatorError
from pgherd.model.facts import Address, Facts, Kind, Member, Mode
from pgherd.model.ids import NodeId, RaftId
from pgherd.model.promises import Promises
from pgherd.postgres.conf import read_incarnation
from pgherd.store.base import Identity, Store, StoreDamaged, StoreFailed
from pgherd.store.directory import NO_ROOM, StoreDirectory
from pgherd.store.replica import give_birth
from pgherd.store.sqlite import SqliteStore

JOINED = "joined.json"
NOBODY = RaftId(2**62)
"""The Raft id of a node with amnesia: nobody has it, so no message is for it or from it."""


class Forgot(msgspec.Struct, frozen=True):
    """A node without its store: the directory, held, and why."""

    directory: StoreDirectory
    why: str


class Opened(msgspec.Struct, frozen=True):
    """An open store, where the first peers are, and what else is known of this membership.

    forgot: the store is lost; the one here is blank, in memory, and takes no part.
    """

    store: Store
    raft_id: RaftId
    seeds: tuple[Seat, ...]
    known: MemberFile
    forgot: Forgot | None = None


def open_store(settings: Settings) -> Opened:
    """Open this node's store, or make a new one as founder or as an admitted member."""
    directory, me = settings.raft.data_dir, NodeId(settings.node.name)
    known = read_member(directory, cluster=settings.cluster.name, node=me)
    if known is not None and known.asks:
        return forgotten(settings, known, "its Raft store is lost")
    try:
        store = SqliteStore(directory)
    except StoreDamaged as damage:
        return forgotten(settings, known, damage.message)
    try:
        identity = store.identity()
        if identity is None:
            admission, adopted = read_admission(settings), read_adoption(directory)
            begins = admission is not None or adopted is not None
            if known is not None or (not begins and has_copy(settings)):
                store.close()
                return forgotten(settings, known, "its Raft store is empty, and it was a member")
            identity = new_identity(store, settings, admission, adopted)
        check(identity, settings)
        known = remembered(settings, identity, known)
        return Opened(store, identity.raft_id, seeds_of(settings, known), known)
    except BaseException:
        store.close()
        raise


def forgotten(settings: Settings, known: MemberFile | None, why: str) -> Opened:
    """A node with amnesia: with which store it will ask to be re-admitted is written down first."""
    from pgherd.store.memory import MemoryDisk, MemoryStore  # of use here alone

    directory = StoreDirectory(settings.raft.data_dir)
    me = NodeId(settings.node.name)
    try:
        known = declare_lost(directory.path, known or MemberFile(settings.cluster.name, me))
    except OSError as error:
        directory.close()
        raise write_failed(directory.path, error) from error
    seeds = seeds_of(settings, known)
    blank = MemoryStore(MemoryDisk())
    return Opened(blank, NOBODY, seeds, known, Forgot(directory, why))


def remembered(settings: Settings, identity: Identity, known: MemberFile | None) -> MemberFile:
    """What is written beside the store says that it is this one, before it takes any part."""
    known = known or MemberFile(identity.cluster, identity.node)
    now = msgspec.structs.replace(known, raft_id=identity.raft_id, store=identity.store_incarnation)
    if now != known:
        try:
            write_member(settings.raft.data_dir, now)
        except OSError as error:
            raise write_failed(settings.raft.data_dir, error) from error
    return now


def write_failed(directory: Path, error: OSError) -> StoreFailed:
    return StoreFailed(f"{directory}: {error.strerror}", full=error.errno in NO_ROOM)


def has_copy(settings: Settings) -> bool:
    """Whether a data directory of a member lies here: then this node founds nothing."""
    if not settings.has_server:
        return False
    try:
        return bool(read_incarnation(settings.postgresql.data_dir))
    except OSError:
        return False  # what cannot be read is not started either


def seeds_of(settings: Settings, known: MemberFile) -> tuple[Seat, ...]:
    """Where the others are: as seen last, as told at the join, as configured."""
    if known.members:
        return known.members
    admission = read_admission(settings)
    return admission.members if admission is not None else founding_seats(settings)


def read_admission(settings: Settings) -> Admission | None:
    """What `pgherd join` left here, if it did."""
    path = settings.raft.data_dir / JOINED
    try:
        return msgspec.json.decode(path.read_bytes(), type=Admission)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise OperatorError(
            f"cannot read {path}: {error}", "join again with a new token: pgherd join"
        ) from error


def founding_seats(settings: Settings) -> tuple[Seat, ...]:
    """The members that the configuration lists, numbered as listed."""
    return tuple(
        Seat(
            node=NodeId(seat.name),
            raft_id=RaftId(number),
            address=Address(host=seat.host, raft_port=seat.port),
        )
        for number, seat in enumerate(settings.raft.members, start=1)
    )


def new_identity(
    store: Store, settings: Settings, admission: Admission | None, adopted: Adoption | None
) -> Identity:
    """Make a new store's identity durable; a founder also writes the first facts.

    A directory that this node takes over is this node's from the first moment on.
    """
    me = NodeId(settings.node.name)
    if admission is not None:
        raft_id = admission.raft_id
    else:
        seats = founding_seats(settings)
        mine = next((seat for seat in seats if seat.node == me), None)
        if mine is None:
            raise OperatorError(
                f"{me} belongs to no cluster yet: raft.members does not list it",
                "pgherd init on the first node, pgherd join on the others",
            )
        raft_id = mine.raft_id
    identity = Identity(settings.cluster.name, me, raft_id, secrets.token_hex(6))
    mine_already = adopting.promises(me, adopted) if adopted is not None else Promises()
    if admission is not None:
        store.save(identity=identity, promises=mine_already)
        store.remember()
    else:
        facts = adopting.facts(first_facts(settings), me, adopted)
        give_birth(store, facts, identity, mine_already)
    return identity


def first_facts(settings: Settings) -> Facts:
    """What every founding node starts from; the same on all, so only what the list says."""
    seats = founding_seats(settings)
    members = {
        seat.node: Member(
            node=seat.node, raft_id=seat.raft_id, kind=Kind.DATA, address=seat.address
        )
        for seat in seats
    }
    wanted = settings.replication.num_sync
    return Facts(
        cluster=settings.cluster.name,
        members=members,
        next_raft_id=RaftId(len(seats) + 1),
        mode=Mode(settings.replication.mode),
        num_sync=wanted if isinstance(wanted, int) else 0,
        max_voters=settings.raft.max_voters,
        **standby.first(settings.standby_cluster),
    )


def check(identity: Identity, settings: Settings) -> None:
    """Refuse to work with another node's store."""
    if identity.cluster != settings.cluster.name or identity.node != settings.node.name:
        raise OperatorError(
            f"{settings.raft.data_dir} belongs to node {identity.node} of cluster "
            f"{identity.cluster}, not to {settings.node.name} of {settings.cluster.name}",
            "set raft.data_dir to this node's own directory",
        )
