"""Checks of the machine below a node: clock, memory, processor, limits of processes.

A kernel is judged by what it does to a database server that shares it with nobody; where that is a
matter of taste the row is advice.
"""

from __future__ import annotations

from pgherd.model.checkup import Status
from pgherd.model.vitals import MEMORY_LOW_PERCENT, SWAP_USED_PERCENT
from pgherd.plan.doctor.table import Patient, Table, Verdict, ill, judged, need, size, well

TABLE = Table()
CRITICAL, WARNING, ADVICE = Status.CRITICAL, Status.WARNING, Status.ADVICE

SLOW_CLOCKS = ("acpi_pm", "hpet", "jiffies", "refined-jiffies", "pit")
SWAPPINESS_MOST = 10
HUGE_FROM_BYTES = 8 << 30
"""Shared buffers from which on page tables of every backend are felt."""
DIRTY_MOST_BYTES = 2 << 30
LOAD_PER_CORE = 4.0
FULL_PERCENT = 10.0
FILES_LEAST = 4096
FILES_USED_PERCENT = 80
TASKS_BESIDE = 64
"""Of a server, beside its connections: workers, walsenders and the like."""


@TABLE.check(
    "clock.source",
    WARNING,
    means="reading the time is a system call: timing, leases and every statement pay for it",
    fix="echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource",
)
def source(p: Patient) -> Verdict:
    found = need(p.machine.clock_source, "the kernel does not name its clock source")
    return judged(found in SLOW_CLOCKS, f"the clock source is {found}")


@TABLE.check(
    "clock.synchronised",
    WARNING,
    means="log lines, certificates and tokens of this node go by a clock that drifts",
    fix="run chrony or systemd-timesyncd: timedatectl set-ntp true",
)
def synchronised(p: Patient) -> Verdict:
    found = need(p.machine.clock_synchronised, "the kernel does not say whether its clock is")
    return well("the clock is kept by NTP") if found else ill("nothing keeps the clock by NTP")


@TABLE.check(
    "memory.available",
    CRITICAL,
    means="the kernel soon kills a process, most likely PostgreSQL",
    fix="lower shared_buffers or work_mem, limit sessions (proxy), or give the node more memory",
)
def available(p: Patient) -> Verdict:
    memory = need(p.machine.memory, "the kernel tells nothing of its memory")
    text = f"{size(memory.available_bytes)} of {size(memory.size_bytes)} are available"
    return judged(memory.available_bytes * 100 < memory.size_bytes * MEMORY_LOW_PERCENT, text)


@TABLE.check(
    "memory.oom_kills",
    CRITICAL,
    means="a backend that is killed takes the whole server down for crash recovery",
    fix="dmesg | grep -i oom; then lower work_mem, or set vm.overcommit_memory=2",
)
def oom_kills(p: Patient) -> Verdict:
    return judged(p.agent.oom_kills > 0, f"{p.agent.oom_kills} processes killed in the last hour")


@TABLE.check(
    "memory.swap",
    WARNING,
    means="what was swapped out has to come back at the moment of a failover",
    fix="find who uses it (smem -s swap), then: swapoff -a && swapon -a",
)
def swap(p: Patient) -> Verdict | None:
    memory = need(p.machine.memory, "the kernel tells nothing of its memory")
    if not memory.swap_size_bytes:
        return None
    text = f"{size(memory.swap_used_bytes)} of {size(memory.swap_size_bytes)} of swap are in use"
    return judged(memory.swap_used_bytes * 100 > memory.swap_size_bytes * SWAP_USED_PERCENT, text)


@TABLE.check(
    "memory.overcommit",
    ADVICE,
    means="the kernel promises memory it lacks and kills a process later, in place of refusing",
    fix="sysctl -w vm.overcommit_memory=2 vm.overcommit_ratio=90, and in /etc/sysctl.d",
    server=True,
)
def overcommit(p: Patient) -> Verdict:
    found = need(p.machine.overcommit, "vm.overcommit_memory cannot be read")
    return judged(found != 2, f"vm.overcommit_memory is {found}")


@TABLE.check(
    "memory.swappiness",
    ADVICE,
    means="the kernel swaps out PostgreSQL's memory to cache more files",
    fix="sysctl -w vm.swappiness=1, and in /etc/sysctl.d",
)
def swappiness(p: Patient) -> Verdict | None:
    memory = p.machine.memory
    if memory is not None and not memory.swap_size_bytes:
        return None
    found = need(p.machine.swappiness, "vm.swappiness cannot be read")
    return judged(found > SWAPPINESS_MOST, f"vm.swappiness is {found}")


@TABLE.check(
    "memory.huge_pages",
    ADVICE,
    means="each backend keeps page tables of its own for all of shared_buffers",
    fix="sysctl -w vm.nr_hugepages=$(postgres -D DATA -C shared_memory_size_in_huge_pages)",
    server=True,
)
def huge_pages(p: Patient) -> Verdict | None:
    buffers = setting_bytes(p, "shared_buffers")
    if buffers < HUGE_FROM_BYTES:
        return None
    pages = need(p.machine.huge_pages, "vm.nr_hugepages cannot be read")
    return judged(not pages, f"{pages} huge pages for {size(buffers)} of shared_buffers")


@TABLE.check(
    "memory.transparent_huge_pages",
    ADVICE,
    means="the kernel stops processes for a while to gather pages that nobody asked for",
    fix="echo madvise > /sys/kernel/mm/transparent_hugepage/enabled, at every start",
    server=True,
)
def transparent(p: Patient) -> Verdict:
    found = need(p.machine.transparent_huge_pages, "the kernel does not tell of huge pages")
    return judged(found == "always", f"transparent huge pages: {found}")


@TABLE.check(
    "memory.shared_buffers",
    WARNING,
    means="nothing is left for sessions and for the kernel's cache: the kernel will kill",
    fix="pgherd config set shared_buffers=..., a quarter of the memory",
    server=True,
)
def shared_buffers(p: Patient) -> Verdict:
    memory = need(p.machine.memory, "the kernel tells nothing of its memory")
    buffers = setting_bytes(p, "shared_buffers")
    text = f"shared_buffers are {size(buffers)} of {size(memory.size_bytes)} of memory"
    return judged(buffers * 2 > memory.size_bytes, text)


@TABLE.check(
    "memory.zone_reclaim",
    WARNING,
    means="the kernel frees memory of one processor while another has plenty: sudden stalls",
    fix="sysctl -w vm.zone_reclaim_mode=0, and in /etc/sysctl.d",
    server=True,
)
def zone_reclaim(p: Patient) -> Verdict:
    found = need(p.machine.zone_reclaim, "vm.zone_reclaim_mode cannot be read")
    return judged(found != 0, f"vm.zone_reclaim_mode is {found}")


@TABLE.check(
    "memory.dirty",
    ADVICE,
    means="the kernel collects so much unwritten data that one fsync takes seconds",
    fix="sysctl -w vm.dirty_bytes=1073741824 vm.dirty_background_bytes=268435456",
    server=True,
)
def dirty(p: Patient) -> Verdict:
    found = need(p.machine.dirty_bytes, "vm.dirty_ratio cannot be read")
    return judged(found > DIRTY_MOST_BYTES, f"up to {size(found)} of unwritten data")


@TABLE.check(
    "pressure.memory",
    WARNING,
    means="everything on this node waits for memory: the agent is late too, and loses its lease",
    fix="see who uses it (ps --sort -rss), then lower work_mem or the number of sessions",
)
def pressed_memory(p: Patient) -> Verdict:
    found = need(p.machine.memory_full, "the kernel tells no pressure (CONFIG_PSI)")
    return judged(found > FULL_PERCENT, f"all work waits for memory in {found:.0f} % of the time")


@TABLE.check(
    "pressure.io",
    WARNING,
    means="commits and checkpoints wait for the disk most of the time",
    fix="see who writes (iotop, pg_stat_io), spread checkpoints, or take a faster disk",
)
def pressed_io(p: Patient) -> Verdict:
    found = need(p.machine.io_full, "the kernel tells no pressure (CONFIG_PSI)")
    return judged(found > FULL_PERCENT, f"all work waits for disks in {found:.0f} % of the time")


@TABLE.check(
    "cpu.load",
    WARNING,
    means="the agent gets its processor late, and its node is taken for lost",
    fix="limit sessions at the proxy (pool: transaction), or move other work off this machine",
)
def load(p: Patient) -> Verdict:
    cores = need(p.machine.cores, "the number of processors is not known")
    found = need(p.machine.load, "the load is not known")
    text = f"a load of {found:.1f} on {cores} processors over 15 minutes"
    return judged(found > cores * LOAD_PER_CORE, text)


@TABLE.check(
    "limits.files",
    WARNING,
    means="new sessions, and the agent's own connections, fail when the limit is reached",
    fix="LimitNOFILE=65536 in the unit (systemctl edit pgherd), then restart the daemon",
)
def files(p: Patient) -> Verdict | None:
    return of_processes(p, files_problem, "processes may have enough files open")


def files_problem(p: Patient, name: str) -> str:
    one = p.process(name)
    if one is None:
        return ""
    most = need(one.files_max, f"the limits of {name} cannot be read")
    if 0 <= most < FILES_LEAST:
        return f"{name} may have {most} files open, fewer than {FILES_LEAST}"
    if most > 0 and one.files_open is not None and one.files_open * 100 > most * FILES_USED_PERCENT:
        return f"{name} has {one.files_open} of {most} files open"
    return ""


@TABLE.check(
    "limits.tasks",
    WARNING,
    means="PostgreSQL cannot start a backend for a connection that it has room for",
    fix="LimitNPROC=infinity and TasksMax=infinity in the unit (systemctl edit pgherd)",
    server=True,
)
def tasks(p: Patient) -> Verdict | None:
    one = p.process("postgresql")
    if one is None:
        return None
    most = [n for n in (one.tasks_max, p.machine.tasks_max) if n is not None and n >= 0]
    wanted = int(setting(p, "max_connections")) + TASKS_BESIDE
    if not most:
        return well("processes are not limited")
    return judged(min(most) < wanted, f"{min(most)} processes allowed, {wanted} may be needed")


@TABLE.check(
    "limits.core",
    ADVICE,
    means="every crash of a backend leaves a core as large as shared_buffers in the data directory",
    fix="sysctl -w kernel.core_pattern=/var/crash/core.%e.%p, or LimitCORE=0 in the unit",
    server=True,
)
def core(p: Patient) -> Verdict | None:
    one = p.process("postgresql")
    if one is None:
        return None
    pattern = need(p.machine.core_pattern, "kernel.core_pattern cannot be read")
    most = need(one.core_bytes, "the limits of postgresql cannot be read")
    falls = most != 0 and not pattern.startswith(("|", "/"))
    return judged(falls, f"cores go to {pattern!r}, {'with' if most else 'without'} a right to any")


@TABLE.check(
    "limits.oom_score",
    ADVICE,
    means="short of memory, the kernel kills the postmaster first: it is the largest",
    fix="OOMScoreAdjust=-900 in the unit (systemctl edit pgherd)",
    server=True,
)
def oom_score(p: Patient) -> Verdict | None:
    one = p.process("postgresql")
    if one is None:
        return None
    found = need(one.oom_score_adj, "oom_score_adj of postgresql cannot be read")
    return judged(found >= 0, f"the postmaster's oom_score_adj is {found}")


@TABLE.check(
    "systemd.unit",
    WARNING,
    means="nothing starts this node again after a restart of its machine",
    fix="install the unit (docs/operate/install.md), then: systemctl enable --now pgherd",
)
def unit(p: Patient) -> Verdict | None:
    if not need(p.machine.has_systemd, "it is not known what starts services here"):
        return None
    agent = need(p.process("agent"), "the daemon does not run")
    found = need(agent.by_systemd, "the agent's environment cannot be read")
    return judged(not found, f"the daemon was {'' if found else 'not '}started by systemd")


def of_processes(p: Patient, problem: object, fine: str) -> Verdict | None:
    """One verdict of all of our processes; None where none runs."""
    names = [one.name for one in p.part(p.node.processes, "processes")]
    said = [text for name in names if (text := problem(p, name))]  # type: ignore[operator] # above
    if not names:
        return None
    return ill("; ".join(said)) if said else well(fine)


def setting(p: Patient, name: str) -> str:
    """A parameter of the server in its own unit. Raises NotKnownError."""
    return need(p.database.settings.get(name), f"this PostgreSQL has no {name}")


def setting_bytes(p: Patient, name: str) -> int:
    """A parameter that PostgreSQL counts in pages of 8 kB."""
    return int(setting(p, name)) * 8192
