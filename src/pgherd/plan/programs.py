"""What is wrong with PostgreSQL's programs on the nodes, before it hurts. Pure.

Owns the checks and their sentences: status, explain and the pre-checks of a minor upgrade show
them. What an upgrade does is `upgrading`'s.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from pgherd.model.facts import Facts
from pgherd.model.ids import NodeId
from pgherd.model.observation import Server, ServerSeen
from pgherd.model.programs import MAJOR, Programs, version_text
from pgherd.model.upkeep import Work

ONLY_NAMED = ("moves", "leaves")
"""Marks of work that has not touched the server in hand yet (`upkeep.MOVES`, `LEAVES`)."""


class Mismatch(msgspec.Struct, frozen=True):
    """One thing that will hurt. todo: what to do about it · stops: its server would not start."""

    node: NodeId
    text: str
    todo: str
    stops: bool = False

    @property
    def sentence(self) -> str:
        """For people: whose, what, and what to do."""
        return f"{self.node}: {self.text}; {self.todo}"


def mismatches(facts: Facts, servers: Mapping[NodeId, ServerSeen]) -> list[Mismatch]:
    """Of all whose servers were seen lately, by name."""
    leader = facts.leader.node if facts.leader is not None else None
    lead = servers.get(leader) if leader is not None else None
    found: list[Mismatch] = []
    for node in sorted(servers):
        programs = servers[node].programs
        found += unstartable(node, programs)
        found += other_major(facts, node, programs)
        found += going_back(node, programs)
        if lead is not None and leader is not None and node != leader:
            found += behind(node, programs, leader, lead.programs)
            found += lacking(node, programs, leader)
    return found


def unstartable(node: NodeId, programs: Programs) -> list[Mismatch]:
    """Whatever keeps its next start from succeeding, by what is on its disk."""
    found = []
    if programs.problem:
        todo = "mend what is installed there before its server is restarted"
        found.append(Mismatch(node, programs.problem, todo, stops=True))
    disk, data = programs.on_disk // MAJOR, programs.data_major
    if disk and data and disk != data:
        text = f"its data is of PostgreSQL {data}, the programs on its disk are of {disk}"
        todo = f"install PostgreSQL {data} there, or name it in postgresql.bin_dir"
        found.append(Mismatch(node, text, todo, stops=True))
    if gone := sorted(set(programs.no_library) & set(programs.preloads)):
        text = f"its server would not start again without {', '.join(gone)}"
        todo = "install it there, or take it out of shared_preload_libraries"
        found.append(Mismatch(node, text, todo, stops=True))
    return found


def other_major(facts: Facts, node: NodeId, programs: Programs) -> list[Mismatch]:
    """Data of another major version than the cluster's: it can follow nobody here."""
    has = programs.data_major
    if not has or not facts.major or has == facts.major:
        return []
    text = f"its data is of PostgreSQL {has}, the cluster's of {facts.major}"
    todo = f"move it away; with PostgreSQL {facts.major} there it takes a copy"
    return [Mismatch(node, text, todo, stops=True)]


def going_back(node: NodeId, programs: Programs) -> list[Mismatch]:
    """Programs older than the server that runs, so also older than what it wrote."""
    same = programs.running // MAJOR == programs.on_disk // MAJOR
    if not same or programs.on_disk >= programs.running:
        return []
    now, then = version_text(programs.running), version_text(programs.on_disk)
    text = f"its next start goes back from PostgreSQL {now} to {then}"
    return [Mismatch(node, text, f"install {now} or newer there")]


def behind(node: NodeId, mine: Programs, leader: NodeId, lead: Programs) -> list[Mismatch]:
    """PostgreSQL wants standbys upgraded first: an older one may not read what a newer wrote."""
    if not 0 < mine.running < lead.running:
        return []
    text = (
        f"it runs PostgreSQL {version_text(mine.running)}, older than"
        f" {version_text(lead.running)} of its primary {leader}"
    )
    first = "" if mine.is_outdated else "install it there too, then "
    return [Mismatch(node, text, f"{first}pgherd upgrade minor")]


def lacking(node: NodeId, programs: Programs, leader: NodeId) -> list[Mismatch]:
    """What the primary has and this node would miss if it took over."""
    found = []
    if libraries := sorted(set(programs.no_library) - set(programs.preloads)):
        text = f"it has not the library {', '.join(libraries)}, which {leader} loads at its start"
        found.append(Mismatch(node, text, "install it there before it may have to take over"))
    if programs.no_extension:
        names = ", ".join(programs.no_extension)
        text = f"it has not the extension {names}, which databases of {leader} use"
        found.append(Mismatch(node, text, "install it there before it may have to take over"))
    return found


def news(servers: Mapping[NodeId, ServerSeen]) -> list[str]:
    """Who could run something newer, and how."""
    waiting: dict[str, list[NodeId]] = {}
    for node in sorted(servers):
        programs = servers[node].programs
        if programs.is_outdated:
            change = f"{version_text(programs.running)} -> {version_text(programs.on_disk)}"
            waiting.setdefault(change, []).append(node)
    return [
        f"{', '.join(nodes)}: a newer PostgreSQL is installed ({change}); pgherd upgrade minor"
        for change, nodes in waiting.items()
    ]


# --- before and in the middle of a minor upgrade -------------------------------------------------


def outdated(facts: Facts, servers: Mapping[NodeId, ServerSeen]) -> list[NodeId]:
    """Whose server waits for its upgrade, by name; nobody who was stopped by hand."""
    stopped = facts.upkeep.stopped
    return [n for n in sorted(servers) if servers[n].programs.is_outdated and n not in stopped]


def not_before(
    facts: Facts, servers: Mapping[NodeId, ServerSeen], nodes: list[NodeId]
) -> list[Mismatch]:
    """What speaks against restarting these with what is on their disks.

    Where the primary is among them: also that it would hand over to who lacks something, and that
    it would run something newer than a standby does.
    """
    found: list[Mismatch] = []
    for node, server in sorted(servers.items()):
        found += unstartable(node, server.programs) + other_major(facts, node, server.programs)
    lead = next((node for node in nodes if facts.is_leader(node)), None)
    if lead is None or lead not in servers:
        return found
    then = servers[lead].programs.on_disk
    for node, server in sorted(servers.items()):
        found += lacking(node, server.programs, lead) if node != lead else []
        will = max(server.programs.on_disk if node in nodes else 0, server.programs.running)
        if 0 < will < then:
            text = f"it would stay at {version_text(will)} under a primary of {version_text(then)}"
            found.append(Mismatch(node, text, "install the newer one there too"))
    return found


def is_through(work: Work, server: ServerSeen) -> bool:
    """Whether a restarted server is what was asked for: in an upgrade, what is on disk."""
    programs = server.programs
    return not work.only_outdated or (programs.running > 0 and not programs.is_outdated)


def in_vain(work: Work, server: ServerSeen) -> str:
    """Why an upgrade did nothing: another server runs, and it is as old as before. "" if not."""
    programs = server.programs
    if not work.only_outdated or work.mark in ONLY_NAMED or str(server.pid) == work.mark:
        return ""
    up = server.state in (Server.STANDBY, Server.PRIMARY)
    if not up or not programs.is_outdated:
        return ""
    now, then = version_text(programs.running), version_text(programs.on_disk)
    return f"{work.node} was restarted and still runs {now}, not {then}"
