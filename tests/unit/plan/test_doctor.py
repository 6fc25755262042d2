"""Every check of `pgherd doctor`: well on a herd that is, red on its own fault, unknown without.

The faults stand beside the ids; a row of the table without one fails. That the facts themselves are
what real machines and servers show is seen in tests/unit/observe, contract and cluster.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from pgherd.config.parameters import OWNED
from pgherd.ledger.levels import LEVEL
from pgherd.model.archive import ArchiveSeen
from pgherd.model.checkup import (
    HERD,
    Agent,
    CertificateSeen,
    ClockSeen,
    Database,
    FileSeen,
    Finding,
    HerdFacts,
    LoginSeen,
    Machine,
    NodeFacts,
    Place,
    Process,
    Reached,
    Slot,
    Status,
    Told,
    Way,
)
from pgherd.model.facts import (
    Address,
    Facts,
    JoinToken,
    Kind,
    Member,
    Mode,
    Phase,
    Reign,
    Switchover,
    SyncState,
    Tags,
)
from pgherd.model.ids import Lsn, MemberKey, NodeId, Position, RaftId, Term
from pgherd.model.observation import Disk, Observation, Server, ServerSeen
from pgherd.model.pgconfig import ConfigFailed, ConfigVersion
from pgherd.model.programs import Programs
from pgherd.model.promises import Promises
from pgherd.model.remedy import Repairs
from pgherd.model.rights import KeptToken, Rights, Role
from pgherd.model.slots import SlotKind, SlotSeen
from pgherd.model.synctuning import SyncTuning
from pgherd.model.upkeep import Care, Pause, Stopped, Upkeep
from pgherd.model.vip import Follow, VipSeen
from pgherd.model.vitals import Memory
from pgherd.plan.doctor import checks
from pgherd.plan.doctor.checks import BY_ID, CHECKS

replace = msgspec.structs.replace
N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")
NODES = (N1, N2, N3)
GB = 1 << 30
DAY_S = 86_400
NOW_MS = 1_700_000_000_000

SETTINGS = {
    "server_version_num": "180006",
    "shared_buffers": "131072",
    "max_connections": "100",
    "superuser_reserved_connections": "5",
    "max_wal_size": "1024",
    "wal_keep_size": "512",
    "fsync": "on",
    "full_page_writes": "on",
    "data_checksums": "on",
    "wal_log_hints": "on",
    "wal_level": "replica",
    "hot_standby": "on",
    "autovacuum": "on",
    "track_counts": "on",
    "synchronous_commit": "on",
    "default_transaction_read_only": "off",
    "ssl": "on",
    "listen_addresses": "10.0.0.1",
    "archive_mode": "on",
    "max_slot_wal_keep_size": "10240",
    "log_lock_waits": "on",
    "log_checkpoints": "on",
    "log_statement": "none",
    "log_min_duration_statement": "1000",
    "idle_in_transaction_session_timeout": "600000",
    "max_worker_processes": "8",
    "max_wal_senders": "12",
    "max_prepared_transactions": "0",
    "max_locks_per_transaction": "64",
    "work_mem": "4096",
    "TimeZone": "UTC",
}


def node_facts(name: NodeId) -> NodeFacts:
    """A node on which everything is as it should be."""
    others = [one for one in NODES if one != name]
    place = Place(
        name="data",
        path="/srv/pg/data",
        device=1,
        kind="ext4",
        options=("rw", "relatime"),
        free_bytes=80 * GB,
        size_bytes=100 * GB,
        inodes_free=900,
        inodes=1000,
        fsync_ms=1.5,
    )
    process = Process(
        name="agent",
        pid=10,
        files_open=30,
        files_max=65536,
        tasks_max=-1,
        core_bytes=0,
        oom_score_adj=-900,
        by_systemd=True,
    )
    return NodeFacts(
        node=name,
        kind=Kind.DATA,
        version="1.0",
        level=LEVEL,
        told=Told(
            address=f"10.0.0.{name[1:]}",
            api_host="10.0.0.1",
            api_tls=True,
            api_guarded=True,
            rate_limit=100,
            detect_ms=1500,
            lease_ttl_ms=5000,
            max_lag_bytes=16 << 20,
            watchdog="automatic",
            has_listeners=True,
        ),
        machine=Machine(
            clock_source="tsc",
            clock_synchronised=True,
            cores=4,
            load=0.5,
            overcommit=2,
            swappiness=1,
            huge_pages=0,
            transparent_huge_pages="madvise",
            zone_reclaim=0,
            dirty_bytes=GB,
            core_pattern="|/usr/lib/systemd/systemd-coredump",
            io_full=0.5,
            memory_full=0.0,
            tasks_max=-1,
            memory=Memory(16 * GB, 8 * GB, swap_size_bytes=GB),
            has_systemd=True,
        ),
        processes=(
            process,
            replace(process, name="proxy", by_systemd=None),
            replace(process, name="postgresql", by_systemd=None),
        ),
        places=(
            place,
            replace(place, name="wal", path="/srv/pg/data/pg_wal"),
            replace(place, name="raft", path="/srv/raft", device=2),
        ),
        files=(
            FileSeen("secret", "/etc/pgherd/superuser", 0o600),
            FileSeen("directory", "/srv/pg/data", 0o750),
        ),
        certificates=(CertificateSeen("node", "/etc/pgherd/node.crt", 300.0 * DAY_S),),
        ways=tuple(
            Way(other, channel, "10.0.0.9", 8300, Reached.OK, took_ms=0.5)
            for other in others
            for channel in ("raft", "api", "postgresql", "proxy", "proxy-replica")
        ),
        clocks=tuple(ClockSeen(other, 3.0, 1.0) for other in others),
        logins=tuple(LoginSeen(other) for other in others),
        database=Database(
            settings=SETTINGS,
            is_standby=name != N1,
            version_num=180006,
            slots=(Slot("pgherd_n2", active=True),),
            expiring={"postgres": 900 * DAY_S},
            wal_bytes=GB,
        ),
        agent=Agent(
            uptime_s=90_000,
            engine="pump",
            proxy_healthy=True,
            hosts={one: f"10.0.0.{one[1:]}" for one in NODES},
        ),
        report=report(name),
    )


def report(name: NodeId) -> Observation:
    state = Server.PRIMARY if name == N1 else Server.STANDBY
    return Observation(
        node=name,
        raft_id=RaftId(int(name[1:])),
        sequence=1,
        server=ServerSeen(
            state=state,
            programs=Programs(running=180006, on_disk=180006),
            replication_slots=(SlotSeen("pgherd_n2", SlotKind.PHYSICAL),),
            slot_budget_bytes=GB,
        ),
        promises=Promises(),
        disks=(Disk("data", 80 * GB, 100 * GB),),
        vips=(VipSeen("10.0.0.100", Follow.PRIMARY, "eth0", owned=name == N1),),
    )


def key(name: NodeId) -> MemberKey:
    return MemberKey(name, "aaa")


def member(name: NodeId) -> Member:
    return Member(
        node=name,
        raft_id=RaftId(int(name[1:])),
        kind=Kind.DATA,
        address=Address(f"10.0.0.{name[1:]}", 8300, 5442, 8008, 5432),
        incarnation="aaa",
        tags=Tags(zone=f"zone-{name[1:]}"),
        level=LEVEL,
    )


WELL = HerdFacts(
    facts=Facts(
        cluster="main",
        members={name: member(name) for name in NODES},
        phase=Phase.STABLE,
        term=Term(4),
        leader=key(N1),
        sync=SyncState(voters=(key(N2), key(N3)), k=1, names=(key(N2), key(N3)), names_k=1),
        level=LEVEL,
        rights=Rights(
            tokens=(
                KeptToken("t1", "ci", Role.VIEWER, "0" * 64, "me", 0, NOW_MS + 99 * 86_400_000),
            )
        ),
    ),
    reports={name: report(name) for name in NODES},
    nodes={name: node_facts(name) for name in NODES},
    missing={},
    unix_ms=NOW_MS,
    has_quorum=True,
    can_write=True,
    primary=N1,
    voters=NODES,
    states={N1: "running", N2: "streaming", N3: "streaming"},
    unwell=(),
    lag_bytes={N2: 0, N3: 0},
    unfit={N2: "", N3: ""},
    without_primary="n2 would be elected",
    has_successor=True,
    degraded=False,
    noticed=(),
    max_lag_bytes=16 << 20,
)
"""Three nodes on which nothing is wrong."""

Change = Callable[[HerdFacts], HerdFacts]


# --- faults, as changes of these facts -----------------------------------------------------------


def of_node(change: Callable[[NodeFacts], NodeFacts]) -> Change:
    """On n1."""
    return lambda h: replace(h, nodes={**h.nodes, N1: change(h.nodes[N1])})


def part(name: str, **changes: Any) -> Change:
    """A part of n1's facts."""
    return of_node(lambda n: replace(n, **{name: replace(getattr(n, name), **changes)}))


def machine(**changes: Any) -> Change:
    return part("machine", **changes)


def told(**changes: Any) -> Change:
    return part("told", **changes)


def agent(**changes: Any) -> Change:
    return part("agent", **changes)


def database(**changes: Any) -> Change:
    return part("database", **changes)


def parameters(**values: str) -> Change:
    """On n1's server."""
    return database(settings={**SETTINGS, **values})


def each(name: str, where: Callable[[Any], bool], **changes: Any) -> Change:
    """Those of a list of n1's facts."""
    return of_node(
        lambda n: replace(
            n,
            **{name: tuple(replace(o, **changes) if where(o) else o for o in getattr(n, name))},
        )
    )


def named(part_name: str, name: str, **changes: Any) -> Change:
    return each(part_name, lambda one: one.name == name, **changes)


def way(channel: str, outcome: Reached = Reached.REFUSED, **changes: Any) -> Change:
    where = {"outcome": outcome, "problem": "nothing", "took_ms": -1.0, **changes}
    return each("ways", lambda one: (one.channel, one.node) == (channel, N2), **where)


def herd(**changes: Any) -> Change:
    return lambda h: replace(h, **changes)


def facts(**changes: Any) -> Change:
    return lambda h: replace(h, facts=replace(h.facts, **changes))


def lives_at(host: str) -> Change:
    """What n1 has told the others of its address."""
    mine = member(N1)
    moved = replace(mine, address=replace(mine.address, host=host))
    return both(
        facts(members={**WELL.facts.members, N1: moved}),
        lambda h: replace(h, nodes={n: one for n, one in h.nodes.items() if n != N1}),
    )


def version(number: int, **more: Any) -> ConfigVersion:
    return ConfigVersion(version=number, at_ms=0, author="me", reason="", **more)


def upkeep(**changes: Any) -> Change:
    return facts(upkeep=Upkeep(**changes))


def zones(*names: str) -> Change:
    def change(h: HerdFacts) -> HerdFacts:
        members = {
            m.node: replace(m, tags=replace(m.tags, zone=zone))
            for m, zone in zip(h.facts.members.values(), names, strict=True)
        }
        return replace(h, facts=replace(h.facts, members=members))

    return change


def reported(name: NodeId, **changes: Any) -> Change:
    def change(h: HerdFacts) -> HerdFacts:
        new = replace(h.reports[name], **changes)
        nodes = {**h.nodes, name: replace(h.nodes[name], report=new)}
        return replace(h, reports={**h.reports, name: new}, nodes=nodes)

    return change


def server(name: NodeId, **changes: Any) -> Change:
    return lambda h: reported(name, server=replace(h.reports[name].server, **changes))(h)


def silent(name: NodeId) -> Change:
    return lambda h: replace(h, reports={n: r for n, r in h.reports.items() if n != name})


def reign(minutes_ago: int) -> Reign:
    at = NOW_MS - minutes_ago * 60_000
    start = Position(Term(1), Lsn(1))
    return Reign(Term(1), key(N1), start, True, 1, "", began_at_ms=at, established_at_ms=at + 900)


def both(*changes: Change) -> Change:
    def change(h: HerdFacts) -> HerdFacts:
        for one in changes:
            h = one(h)
        return h

    return change


LOW = Memory(16 * GB, GB // 4, swap_size_bytes=GB)
SWAPPED = Memory(16 * GB, 8 * GB, swap_size_bytes=GB, swap_used_bytes=GB - 1)
VIP = VipSeen("10.0.0.100", Follow.PRIMARY, "eth0", owned=True, problem="no right to change it")

FAULTS: dict[str, Change] = {
    "herd.quorum": herd(has_quorum=False),
    "herd.primary": herd(can_write=False),
    "herd.split_brain": herd(noticed=("split brain: n2 is out of recovery",)),
    "herd.nodes_answer": lambda h: replace(
        h, nodes={n: h.nodes[n] for n in (N1, N2)}, missing={N3: "no answer"}
    ),
    "herd.members_well": herd(unwell=(N3,)),
    "herd.voter_to_spare": silent(N3),
    "herd.even_voters": herd(voters=(N1, N2)),
    "herd.voters_zone": zones("a", "b", "b"),
    "herd.copies_zone": zones("a", "a", "b"),
    "herd.same_zone_unknown": zones("a", "b", ""),
    "herd.synchronous": herd(degraded=True),
    "herd.lag": herd(lag_bytes={N2: GB, N3: 0}),
    "herd.followers": reported(N2, repairs=Repairs(stuck="its upstream lacks WAL")),
    "herd.failover_ready": herd(has_successor=False, without_primary="no quorum would be left"),
    "herd.failover_choice": herd(unfit={N2: "", N3: "n3 is tagged nofailover"}),
    "herd.failover_enabled": told(failover_enabled=False),
    "herd.paused": upkeep(pause=Pause("p", "me", "", NOW_MS - 7_200_000)),
    "herd.maintenance": upkeep(maintenance={N2: Care("me", "", NOW_MS - 7_200_000)}),
    "herd.stopped": upkeep(stopped={N2: Stopped("me", NOW_MS)}),
    "herd.flapping": facts(history=tuple(reign(minutes) for minutes in (50, 30, 10))),
    "herd.tokens": facts(
        rights=Rights((KeptToken("t", "ci", Role.VIEWER, "0" * 64, "me", 0, NOW_MS + 1),))
    ),
    "herd.join_tokens": facts(tokens={"t": JoinToken("t", "00", NOW_MS // 1000 + 60)}),
    "herd.slots_budget": server(N2, slot_budget_bytes=-1),
    "herd.switchover_waits": facts(switchover=Switchover("s", N2, "me", NOW_MS - 300_000)),
    "herd.vip_owner": reported(
        N1, vips=(VipSeen("10.0.0.100", Follow.PRIMARY, "eth0", owned=False),)
    ),
    "herd.versions": of_node(lambda n: replace(n, version="0.9")),
    "herd.level": lambda h: facts(
        members={**h.facts.members, N2: replace(h.facts.members[N2], level=LEVEL - 1)}
    )(h),
    "herd.postgres_versions": database(version_num=180005),
    "herd.postgres_outdated": server(N2, programs=Programs(running=180005, on_disk=180006)),
    "herd.libraries": server(N2, programs=Programs(no_extension=("postgis",))),
    "herd.matched_parameters": lambda h: replace(
        h,
        nodes={
            **h.nodes,
            N2: replace(
                h.nodes[N2],
                database=replace(
                    h.nodes[N2].database, settings={**SETTINGS, "max_connections": "50"}
                ),
            ),
        },
    ),
    "herd.parameters_differ": parameters(work_mem="65536"),
    "herd.config_failed": both(
        facts(config=(version(3),)), server(N2, config_failed=ConfigFailed(3, "too much", 2))
    ),
    "agent.running": of_node(lambda n: replace(n, agent=None)),
    "agent.young": agent(uptime_s=30),
    "agent.amnesia": agent(amnesia="it lost its store"),
    "agent.dropped": agent(dropped=7),
    "agent.log_level": told(log_level="debug"),
    "proxy.healthy": agent(proxy_healthy=False),
    "proxy.engine": agent(engine="uvloop"),
    "watchdog.lacking": agent(watchdog="it has no watchdog: no such device"),
    "vip.problem": reported(N1, vips=(VIP,)),
    "clock.source": machine(clock_source="hpet"),
    "clock.synchronised": machine(clock_synchronised=False),
    "memory.available": machine(memory=LOW),
    "memory.oom_kills": agent(oom_kills=1),
    "memory.swap": machine(memory=SWAPPED),
    "memory.overcommit": machine(overcommit=0),
    "memory.swappiness": machine(swappiness=60),
    "memory.huge_pages": both(
        machine(memory=Memory(64 * GB, 32 * GB)), parameters(shared_buffers=str(2 * GB // 1024))
    ),
    "memory.transparent_huge_pages": machine(transparent_huge_pages="always"),
    "memory.shared_buffers": machine(memory=Memory(GB, GB // 2)),
    "memory.zone_reclaim": machine(zone_reclaim=1),
    "memory.dirty": machine(dirty_bytes=5 * GB),
    "pressure.memory": machine(memory_full=35.0),
    "pressure.io": machine(io_full=35.0),
    "cpu.load": machine(load=40.0),
    "limits.files": named("processes", "proxy", files_max=1024),
    "limits.tasks": machine(tasks_max=100),
    "limits.core": both(
        machine(core_pattern="core"), named("processes", "postgresql", core_bytes=-1)
    ),
    "limits.oom_score": named("processes", "postgresql", oom_score_adj=0),
    "systemd.unit": named("processes", "agent", by_systemd=False),
    "disk.room": named("places", "wal", free_bytes=GB),
    "disk.inodes": named("places", "data", inodes_free=3),
    "disk.runway": reported(N1, disks=(Disk("data", GB, 100 * GB, full_in_ms=600_000),)),
    "disk.read_only": named("places", "data", options=("ro",)),
    "disk.mount_options": named("places", "data", options=("rw", "nobarrier")),
    "disk.volatile": named("places", "raft", kind="tmpfs"),
    "disk.far": named("places", "data", kind="nfs4"),
    "disk.fsync_raft": named("places", "raft", fsync_ms=700.0),
    "disk.fsync_wal": named("places", "wal", fsync_ms=80.0),
    "disk.shared": named("places", "raft", device=1),
    "disk.wal_size": database(wal_bytes=40 * GB),
    "port.raft": way("raft"),
    "port.api": way("api"),
    "port.postgresql": way("postgresql"),
    "port.proxy": way("proxy"),
    "net.firewall": way("api", Reached.SILENT),
    "net.names": way("api", Reached.UNRESOLVED),
    "net.latency": way("raft", Reached.OK, took_ms=250.0),
    "net.address": lives_at("127.0.0.1"),
    "clock.skew": each("clocks", lambda one: one.node == N2, ahead_ms=-5000.0),
    "login.replication": each("logins", lambda one: one.node == N2, problem="no pg_hba.conf entry"),
    "files.secrets": named("files", "secret", mode=0o644),
    "files.secrets_readable": named("files", "secret", problem="No such file or directory"),
    "files.directories": named("files", "directory", mode=0o755),
    "config.file": told(file_problem="line 3: node.nmae: unknown key"),
    "config.in_force": told(changed=("log.level",)),
    "certificate.use": named("certificates", "node", seconds_left=-5.0),
    "certificate.expiry": named("certificates", "node", seconds_left=5.0 * DAY_S),
    "security.api_tls": told(api_tls=False),
    "security.api_guard": told(api_guarded=False),
    "security.rate_limit": told(rate_limit=0),
    "security.reads": told(protect_reads=False),
    "security.postgres_tls": parameters(ssl="off"),
    "security.weak_passwords": database(weak_roles=("old",)),
    "security.roles_expiring": database(expiring={"pgherd_replication": 3600}),
    "hba.trust": database(hba_trust=("line 9: host all all 0.0.0.0",)),
    "hba.errors": database(hba_errors=("line 9: invalid authentication method",)),
    "pg.running": server(N1, state=Server.HUNG),
    "pg.fsync": parameters(fsync="off"),
    "pg.full_page_writes": parameters(full_page_writes="off"),
    "pg.checksums": parameters(data_checksums="off"),
    "pg.checksum_failures": database(checksum_failures=2),
    "pg.wal_log_hints": parameters(wal_log_hints="off", data_checksums="off"),
    "pg.wal_level": parameters(wal_level="minimal"),
    "pg.hot_standby": parameters(hot_standby="off"),
    "pg.autovacuum": parameters(track_counts="off"),
    "pg.synchronous_commit": database(unsynced=("loader in app",)),
    "pg.read_only": parameters(default_transaction_read_only="on"),
    "pg.pending_restart": database(pending=("shared_buffers",)),
    "pg.files": database(file_errors=("postgresql.auto.conf line 3: work_mem: invalid",)),
    "pg.reserved_connections": parameters(superuser_reserved_connections="0"),
    "pg.listen": parameters(listen_addresses="localhost"),
    "pg.slot_budget": parameters(max_slot_wal_keep_size="-1"),
    "slots.inactive": database(slots=(Slot("debezium", kept_bytes=9 * GB),)),
    "slots.lost": database(slots=(Slot("debezium", lost=True),)),
    "slots.xmin": database(slots=(Slot("debezium", xmin_age=90_000_000),)),
    "pg.archive": reported(N1, archive=ArchiveSeen(failing="exit code 1", waiting=9)),
    "pg.collation": database(collations=("app",)),
    "pg.log_lines": parameters(log_checkpoints="off"),
    "pg.log_statements": parameters(log_statement="all"),
    "pg.idle_timeout": parameters(idle_in_transaction_session_timeout="0"),
    "pg.xid_age": database(xid_age=1_500_000_000),
    "pg.mxid_age": database(mxid_age=1_500_000_000),
    "pg.long_transactions": database(transaction_s=9000),
    "pg.prepared_transactions": database(prepared_s=9000),
    "pg.idle_in_transaction": database(idle_in_transaction_s=900),
    "pg.blocked": database(blocked_s=120),
    "pg.connections": database(connections=90),
    "pg.conflicts": database(is_standby=True, conflicts=5000),
    "pg.checkpoints": database(checkpoints_timed=5, checkpoints_requested=50),
}
"""What makes each check red."""

BESIDE: dict[str, set[str]] = {
    "herd.copies_zone": {"herd.voters_zone"},
    "herd.even_voters": {"herd.voter_to_spare", "herd.voters_zone"},
    "net.firewall": {"port.api"},
    "net.names": {"port.api"},
    "pg.wal_log_hints": {"pg.checksums", "herd.parameters_differ"},
    "pg.checksums": {"herd.parameters_differ"},
    "pg.wal_level": {"herd.parameters_differ"},
    "pg.slot_budget": {"herd.parameters_differ"},
    "memory.huge_pages": {"herd.parameters_differ"},
}
"""What else the same fault shows."""


def test_every_check_has_a_fault() -> None:
    """A row without one is no check; an id that was shipped stays."""
    assert set(FAULTS) == set(BY_ID)
    assert len(CHECKS) >= 60


def test_a_herd_that_is_well_has_nothing_red_and_nothing_unknown() -> None:
    found = checks.whole(WELL)
    assert [one for one in found if one.status is not Status.OK] == []
    looked_at = {one.check for one in found}
    assert set(BY_ID) - looked_at == {"memory.huge_pages"}, "not asked of small buffers"


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_each_fault_turns_its_own_check_red(name: str) -> None:
    """And no other, but for those that the same fault shows as well."""
    found = [one for one in checks.whole(FAULTS[name](WELL)) if one.status.is_red]
    own = [one for one in found if one.check == name]
    assert own, found
    assert {one.check for one in found} <= {name} | BESIDE.get(name, set())
    for one in own:
        assert one.status is BY_ID[name].severity
        assert one.text
        assert one.fix
        assert "{node}" not in one.fix
        assert one.node == (HERD if BY_ID[name].herd else one.node)
    assert BY_ID[name].means


def test_what_was_not_gathered_is_unknown_and_never_well() -> None:
    """With the reason; only the daemon's absence itself is a finding."""
    nothing = NodeFacts(
        node=N1, kind=Kind.DATA, version="1.0", problems={"machine": "no /proc here"}
    )
    found = checks.of_node(nothing)
    assert [one.check for one in found if one.status is not Status.UNKNOWN] == ["agent.running"]
    of_machine = next(one for one in found if one.check == "clock.source")
    assert of_machine.text == "no /proc here"
    assert all(one.text for one in found)


def test_facts_that_no_server_has_spoil_their_own_checks_only() -> None:
    of_n1 = {
        one.check: one
        for one in checks.whole(parameters(max_connections="many")(WELL))
        if one.node in (N1, HERD)
    }
    assert of_n1["pg.connections"].status is Status.UNKNOWN
    assert "this check itself failed" in of_n1["pg.connections"].text
    assert of_n1["herd.matched_parameters"].status is Status.UNKNOWN
    assert of_n1["pg.fsync"].status is Status.OK


def test_a_node_that_does_not_answer_has_all_its_checks_unknown() -> None:
    h = replace(WELL, nodes={N1: WELL.nodes[N1]}, missing={N2: "no answer", N3: "no answer"})
    of_n2 = [one for one in checks.whole(h) if one.node == N2]
    assert {one.status for one in of_n2} == {Status.UNKNOWN}
    assert {one.check for one in of_n2} == {check.id for check in CHECKS if check.look}


def test_a_quick_checkup_leaves_out_what_takes_time_and_says_nothing_of_it() -> None:
    quick = replace(node_facts(N1), quick=True, logins=None)
    told_of = {one.check for one in checks.of_node(quick)}
    assert not told_of & {"disk.fsync_raft", "disk.fsync_wal", "login.replication"}


def finding(h: HerdFacts, name: str, node: str = HERD) -> Finding:
    return next(one for one in checks.whole(h) if (one.check, one.node) == (name, node))


def test_replicas_that_are_late_or_unfit_by_will_make_no_alarm() -> None:
    """A delayed one beside two that can take over: both checks speak of what is missing else."""
    n4 = NodeId("n4")
    late = replace(member(n4), tags=Tags(zone="zone-4", delay_ms=4 * 3_600_000))
    h = replace(
        facts(members={**WELL.facts.members, n4: late})(WELL),
        lag_bytes={**WELL.lag_bytes, n4: 90 * GB},
        unfit={**WELL.unfit, n4: "n4 is a delayed replica (14400 s)"},
    )
    assert finding(h, "herd.lag").status is Status.OK
    assert finding(h, "herd.failover_choice").status is Status.OK
    assert "n4 is a delayed replica" in finding(h, "herd.failover_choice").text
    less = replace(h, unfit={**h.unfit, N3: "n3 is tagged nofailover"})
    assert finding(less, "herd.failover_choice").status is Status.WARNING


def test_a_lag_that_is_not_known_is_not_well() -> None:
    h = herd(lag_bytes={N2: 0, N3: None})(WELL)
    assert finding(h, "herd.lag").status is Status.UNKNOWN
    assert "n3" in finding(h, "herd.lag").text
    behind = herd(lag_bytes={N2: GB, N3: None})(WELL)
    assert finding(behind, "herd.lag").status is Status.WARNING


def test_settings_that_nobody_told_are_not_well() -> None:
    nodes = {name: replace(one, told=None) for name, one in WELL.nodes.items()}
    assert finding(herd(nodes=nodes)(WELL), "herd.failover_enabled").status is Status.UNKNOWN


def test_a_directory_that_could_not_be_looked_at_is_not_well() -> None:
    """Though the others are; what is red stays red."""
    shut = named("places", "data", problem="Permission denied")
    names = ("disk.room", "disk.inodes", "disk.read_only", "disk.volatile", "disk.far")
    for name in names:
        found = finding(shut(WELL), name, N1)
        assert found.status is Status.UNKNOWN
        assert "Permission denied" in found.text
    both_ill = both(shut, named("places", "wal", free_bytes=1))(WELL)
    assert finding(both_ill, "disk.room", N1).status is Status.CRITICAL


def test_a_machine_that_is_off_is_no_firewall() -> None:
    """It answers at no port; one port that is silent beside others that answer is dropped."""
    ways = tuple(
        replace(one, outcome=Reached.SILENT, took_ms=-1.0) if one.node == N2 else one
        for one in WELL.nodes[N1].ways or ()
    )
    off = herd(nodes={**WELL.nodes, N1: replace(WELL.nodes[N1], ways=ways)})(WELL)
    found = finding(off, "net.firewall", N1)
    assert found.text == "n2 answers at no port: it is off, cut off, or cut out"
    assert found.fix.startswith("see whether its machine runs")
    one_port = finding(way("api", Reached.SILENT)(WELL), "net.firewall", N1)
    assert "no answer from n2 port 8300" in one_port.text
    assert one_port.fix.startswith("nft list ruleset")


@pytest.mark.parametrize("commit", ["off", "local"])
def test_readiness_promises_nothing_that_a_commit_does_not(commit: str) -> None:
    h = facts(tuning=SyncTuning(commit=commit))(WELL)
    text = finding(h, "herd.failover_ready").text
    assert f"with synchronous_commit = {commit} the newest commits would be lost" in text
    assert "no acknowledged commit" not in text


def test_no_fix_sets_what_belongs_to_pgherd() -> None:
    """`pgherd config set` refuses it."""
    for check in CHECKS:
        for words in re.findall(r"pgherd config set ([^;,(]+)", check.fix):
            for name in re.findall(r"(\w+)=", words):
                assert name not in OWNED, check.id


def test_a_witness_is_not_asked_about_a_server() -> None:
    witness = replace(node_facts(N3), kind=Kind.WITNESS, database=None, logins=None)
    found = checks.of_node(witness)
    assert {one.status for one in found} == {Status.OK}
    assert not [one for one in found if one.check.startswith("pg.")]


@pytest.mark.parametrize(
    ("mode", "behind", "said"),
    [
        (Mode.QUORUM, 0, "about 2.4 s (1.5 s to notice, 0.9 s to elect, as the last ones took)"),
        (Mode.QUORUM, 0, "no acknowledged commit would be lost"),
        (Mode.ASYNC, 5 << 20, "up to 5 MB would be lost now, never more than 16 MB knowingly"),
        (Mode.ASYNC, 5 << 20, "about 5.9 s (5.0 s to notice"),
    ],
)
def test_readiness_predicts_outage_and_loss(mode: Mode, behind: int, said: str) -> None:
    """By the settings in force on the primary, and by how long the last elections took."""
    h = both(facts(mode=mode, history=(reign(9000),)), herd(lag_bytes={N2: 0, N3: behind}))(WELL)
    ready = next(one for one in checks.whole(h) if one.check == "herd.failover_ready")
    assert ready.status is Status.OK
    assert said in ready.text


def status(check: str, h: HerdFacts) -> Status:
    return next(one.status for one in checks.of_herd(h) if one.check == check)


@pytest.mark.parametrize(
    ("where", "k", "voters_zone", "copies_zone"),
    [
        ("abc", 1, Status.OK, Status.OK),
        ("aab", 1, Status.WARNING, Status.WARNING),
        ("aab", 2, Status.WARNING, Status.OK),
        ("abb", 1, Status.WARNING, Status.OK),
    ],
)
def test_which_zone_may_be_lost(
    where: str, k: int, voters_zone: Status, copies_zone: Status
) -> None:
    """n1 leads; a commit waits for any k of n2 and n3, so it may be on the nearest alone."""
    sync = replace(WELL.facts.sync, k=k)
    h = both(facts(sync=sync), zones(*where))(WELL)
    assert status("herd.voters_zone", h) is voters_zone
    assert status("herd.copies_zone", h) is copies_zone


def test_half_of_the_voters_in_each_of_two_zones_is_one_too_few() -> None:
    """Whichever zone is lost, what is left is no majority."""
    h = replace(zones("a", "b", "b")(WELL), voters=(N1, N2))
    assert status("herd.voters_zone", h) is Status.WARNING


def test_a_version_that_failed_is_told_until_there_is_another() -> None:
    """Also once it was taken back; not for what a running server remembers of long ago."""
    failed = version(3, failed_on=N2, failed="too much memory")
    remembers = server(N2, config_failed=ConfigFailed(3, "too much memory", 2))
    for versions, expected in (
        ((failed, version(4)), Status.WARNING),
        ((failed, version(4), version(5)), Status.OK),
        ((version(3, failed="nobody confirmed it"), version(4)), Status.OK),
    ):
        h = both(facts(config=versions), remembers)(WELL)
        assert status("herd.config_failed", h) is expected, versions


def test_an_address_that_only_its_own_node_knows_of_yet() -> None:
    """Which may never hear that the ledger has it too."""
    assert status("net.address", told(address="127.0.0.1")(WELL)) is Status.CRITICAL
