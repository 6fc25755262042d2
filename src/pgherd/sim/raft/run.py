"""One seed: a group is born, lives, is struck, healed and judged.

Owns the phases, what makes a run count, and the invariants of time: L1 (everything works again
soon after the faults stop), L2 (progress while a partial partition lasts) and S1 (a slow disk
alone causes no election).
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from random import Random

import msgspec

from pgherd.raft.types import ConfChangeError
from pgherd.sim.clock import MS, SECOND
from pgherd.sim.raft.checker import Violation
from pgherd.sim.raft.faults import KINDS
from pgherd.sim.raft.group import Group, Options
from pgherd.sim.raft.server import Server
from pgherd.sim.raft.storm import Storm, both

CALM = 3 * SECOND
STORM = 40 * SECOND
SIMULATED = 61 * SECOND
SLOW_FSYNC = (1500 * MS, 3 * SECOND)
SLOW_DISK = 7 * SECOND
PARTIAL = 10 * SECOND
RECOVERED_WITHIN = 25 * SECOND
COLLECT_EVERY = 20
STEP = 250 * MS
SIMULATED_SECONDS_MIN = 60
FAULTS_MIN = 3
ACKS_MIN = 50
STRIKES = (3, 4, 5, 6, 8, 10, 14)
SIZES = (1, 2, 3, 3, 3, 3, 3, 3, 3, 3, 4, 5, 5, 5, 6, 7)


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is made of, where a seed should not decide.

    kinds: () = all faults; skip: numbers of the storm's faults that do not strike.
    """

    options: Options | None = None
    kinds: tuple[str, ...] = ()
    count: int = 0
    skip: tuple[int, ...] = ()
    slow_disk: bool | None = None
    partial: bool | None = None


class Result(msgspec.Struct, frozen=True):
    """What became of one seed. broken: the invariant's name, "" when all held."""

    seed: int
    size: int
    simulated_seconds: float
    faults: dict[str, int]
    elections: int
    acks: int
    reads: int
    evaluated: int
    events: int
    effects: dict[str, int]
    broken: str = ""
    text: str = ""

    @property
    def void(self) -> bool:
        """Whether too little happened for this seed to count."""
        return not self.broken and (
            self.simulated_seconds < SIMULATED_SECONDS_MIN
            or sum(self.faults.values()) < FAULTS_MIN
            or self.elections < 1
            or self.acks < ACKS_MIN
        )


def options_of(rng: Random) -> Options:
    """What a seed decides."""
    size = rng.choice(SIZES)
    return Options(
        size=size,
        spare=min(7 - size, rng.choice((0, 1, 1, 2))),
        clients=4,
        pause_ms=rng.choice((300, 500, 800)),
        heartbeat_tick=rng.choice((1, 1, 2, 3)),
        max_inflight=rng.choice((1, 4, 64, 64)),
        max_size_per_msg=rng.choice((0, 200, 4000, None)),
        max_committed_size_per_ready=rng.choice((60, None, None)),
        snapshot_every=rng.choice((5, 20, 60, 400)),
        entries_kept=rng.choice((0, 5, 20, 100)),
    )


def new_group(seed: int, profile: Profile) -> tuple[Group, Random]:
    """The world of a seed, and the chance that rules its story."""
    rng = Random(seed * 7919 + 1)
    drawn = options_of(rng)
    return Group(seed, profile.options or drawn), rng


def run_seed(
    seed: int, profile: Profile | None = None, *, watch: Callable[[Group], None] | None = None
) -> Result:
    """Run one seed to its end or to the first broken invariant."""
    profile = profile or Profile()
    group, rng = new_group(seed, profile)
    if watch is not None:
        watch(group)
    broken = text = ""
    try:
        live(group, rng, profile)
    except Violation as why:
        broken, text = why.name, why.text
    except ConfChangeError as why:
        broken, text = "C1", f"a change that cannot be applied was committed: {why}"
    except (AssertionError, LookupError) as why:
        broken, text = "A1", described(why)
    return result_of(group, broken=broken, text=text)


def shrunk(result: Result, profile: Profile | None = None) -> Profile:
    """The profile with as few faults as still break the same invariant, tried one by one."""
    profile = profile or Profile()
    for number in range(profile.count or max(STRIKES)):
        less = msgspec.structs.replace(profile, skip=(*profile.skip, number))
        tried = run_seed(result.seed, less)
        is_less = sum(tried.faults.values()) < sum(result.faults.values())
        if tried.broken == result.broken and is_less:
            profile, result = less, tried
    return profile


def run_seeds(seeds: Iterable[int], profile: Profile | None = None) -> Iterator[Result]:
    """Run seeds one after the other, collecting garbage between them only (a fifth faster)."""
    was_on = gc.isenabled()
    for count, seed in enumerate(seeds):
        gc.disable()
        result = run_seed(seed, profile)
        if was_on:
            gc.enable()
        if count % COLLECT_EVERY == 0:
            gc.collect()
        yield result


def described(error: Exception) -> str:
    """Where an assertion of the core failed, and what it said."""
    trace, where = error.__traceback__, ""
    while trace is not None:
        where = f"{trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{where} {error}"


def result_of(group: Group, *, broken: str, text: str) -> Result:
    """The counts of a run."""
    return Result(
        seed=group.seed,
        size=group.options.size,
        simulated_seconds=group.clock.now / SECOND,
        faults=dict(group.faults),
        elections=len(group.checker.leaders),
        acks=sum(client.writes for client in group.clients),
        reads=sum(client.reads for client in group.clients),
        evaluated=group.checker.evaluated,
        events=group.clock.events,
        effects=dict(group.effects),
        broken=broken,
        text=text,
    )


# -- the story -----------------------------------------------------------------------------------


def live(group: Group, rng: Random, profile: Profile) -> None:
    """Birth, perhaps a slow disk, the storm, perhaps a partial partition, and the end."""
    group.begin()
    group.clock.run_until(CALM)
    if chosen(profile.slow_disk, rng, 0.2):
        slow_disk_alone(group)
    kinds = {name: KINDS[name] for name in profile.kinds or KINDS}
    storm = Storm(group, kinds, profile.skip)
    count = profile.count or rng.choice(STRIKES)
    storm.schedule(first=0, last=STORM - 2 * SECOND, count=count)
    group.clock.run_until(group.clock.now + STORM)
    storm.end()
    recover(group)
    if chosen(profile.partial, rng, 0.2) and len(group.operator.wanted) >= 3:
        partial_partition(group, rng)
        recover(group)
    group.clock.run_until(max(group.clock.now + SECOND, SIMULATED - 3 * SECOND))
    group.quiet = True
    group.clock.run_until(group.clock.now + 3 * SECOND)
    final(group)


def chosen(wanted: bool | None, rng: Random, share: float) -> bool:
    """A profile's word, or chance."""
    drawn = rng.random() < share
    return drawn if wanted is None else wanted


def slow_disk_alone(group: Group) -> None:
    """S1: fsyncs of seconds on the leader, in an otherwise healthy group, depose nobody."""
    must_become(group, lambda: group.leader() is not None, "L1", within=RECOVERED_WITHIN)
    leader = group.leader()
    assert leader is not None
    group.hit("slow_disk_alone")
    leader.fsync_slow = SLOW_FSYNC
    term = leader.node.term
    end = group.clock.now + SLOW_DISK
    while group.clock.now < end:
        group.clock.run_until(group.clock.now + STEP)
        if leader.node.term != term or leader.node.role != "leader":
            raise Violation("S1", f"{leader.id} led term {term} and lost it to its slow disk")
    leader.fsync_slow = None


def recover(group: Group) -> None:
    """L1: a leader, the wanted configuration, and everyone up to date."""
    must_become(group, lambda: is_recovered(group), "L1", within=RECOVERED_WITHIN)
    mark = {client.id: client.writes for client in group.clients}
    must_become(
        group,
        lambda: all(client.writes > mark[client.id] for client in group.clients),
        "L1",
        within=RECOVERED_WITHIN,
    )


def is_recovered(group: Group) -> bool:
    """Whether everyone who should vote does, and has what is committed."""
    leader = group.leader()
    if leader is None or not group.operator.is_settled():
        return False
    return all(has_all(group, server) for server in group.members())


def has_all(group: Group, server: Server) -> bool:
    """Whether a server follows the leader and misses at most what is on its way."""
    leader = group.leader()
    assert leader is not None
    follows = server.up and server.node.lead == leader.id
    return follows and server.applied + 3 >= group.checker.agreed


def partial_partition(group: Group, rng: Random) -> None:
    """L2: the leader hears nobody, or is cut from some: a quorum that is connected goes on."""
    leader = group.leader()
    assert leader is not None
    others = [slot for slot in sorted(group.slots) if slot != leader.slot]
    match rng.choice(("deaf", "mute", "cut")):
        case "deaf":
            links = [(one, leader.slot) for one in others]
        case "mute":
            links = [(leader.slot, one) for one in others]
        case _:
            links = both([leader.slot], others[: rng.randrange(1, len(others) + 1)])
    group.hit("lasting_partial_partition")
    for link in links:
        group.network.block(*link)
    before = group.checker.floor
    must_become(group, lambda: group.checker.floor >= before + 4, "L2", within=PARTIAL)
    group.network.heal()


def must_become(group: Group, condition: Callable[[], bool], name: str, *, within: int) -> None:
    """Run until the condition holds; the invariant is broken when it does not in time."""
    limit = group.clock.now + within
    while not condition():
        if group.clock.now >= limit:
            raise Violation(name, f"not within {within // SECOND} s: {situation(group)}")
        group.clock.run_until(group.clock.now + STEP)


def final(group: Group) -> None:
    """Everyone has the same, and in it everything that was acknowledged, once."""
    must_become(group, lambda: all_equal(group), "L1", within=RECOVERED_WITHIN)
    group.checker.final(group.members(), group.clients)


def all_equal(group: Group) -> bool:
    """Whether all members have applied all that is agreed."""
    agreed = group.checker.agreed
    return all(server.up and server.applied == agreed for server in group.members())


def situation(group: Group) -> str:
    """Every server in one line."""
    wanted = [server.id for server in group.members()]
    parts = [f"wanted {wanted}"]
    for server in group.slots.values():
        if not server.up:
            parts.append(f"{server.id} {'amnesia' if server.has_amnesia else 'down'}")
            continue
        node = server.node
        parts.append(
            f"{server.id} {node.role} term {node.term} of {node.lead} applied {server.applied}/"
            f"{node.commit} voters {node.conf.voters} learners {node.conf.learners}"
        )
    return "; ".join(parts)
