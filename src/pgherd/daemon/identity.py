"""Who this node is in consensus: from its store, from the founding list, or from a join.

A store that already has an identity must have ours; nothing is ever overwritten.
"""

from __future__ import annotations

import secrets

import msgspec

from pgherd.api.herd import Admission, Seat
from pgherd.config.settings import Settings
from pgherd.model.errors import OperatorError
from pgherd.model.facts import Address, Facts, Kind, Member, Mode
from pgherd.model.ids import NodeId, RaftId
from pgherd.store.base import Identity, Store
from pgherd.store.replica import give_birth
from pgherd.store.sqlite import SqliteStore

JOINED = "joined.json"


class Opened(msgspec.Struct, frozen=True):
    """An open store and where the first peers are."""

    store: Store
    raft_id: RaftId
    seeds: tuple[Seat, ...]


def open_store(settings: Settings) -> Opened:
    """Open this node's store, or make a new one as founder or as an admitted member."""
    directory = settings.raft.data_dir
    store = SqliteStore(directory)
    try:
        admission = read_admission(settings)
        seeds = admission.members if admission is not None else founding_seats(settings)
        identity = store.identity()
        if identity is None:
            identity = new_identity(store, settings, admission)
        check(identity, settings)
        return Opened(store, identity.raft_id, seeds)
    except BaseException:
        store.close()
        raise


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


def new_identity(store: Store, settings: Settings, admission: Admission | None) -> Identity:
    """Make a new store's identity durable; a founder also writes the first facts."""
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
    if admission is not None:
        store.set_identity(identity)
        store.remember()
    else:
        give_birth(store, first_facts(settings), identity)
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
    )


def check(identity: Identity, settings: Settings) -> None:
    """Refuse to work with another node's store."""
    if identity.cluster != settings.cluster.name or identity.node != settings.node.name:
        raise OperatorError(
            f"{settings.raft.data_dir} belongs to node {identity.node} of cluster "
            f"{identity.cluster}, not to {settings.node.name} of {settings.cluster.name}",
            "set raft.data_dir to this node's own directory",
        )
