"""PostgreSQL's versions in the public form, and what is wrong with what is installed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pgherd.model.ids import NodeId
from pgherd.model.observation import ServerSeen
from pgherd.model.programs import version_text
from pgherd.plan import programs
from pgherd.plan.look import data_members

if TYPE_CHECKING:
    from pgherd.api.views import Seen


def running(server: ServerSeen | None) -> str | None:
    """The version of the server that runs; of one that does not, the major of its programs."""
    if server is None:
        return None
    if server.programs.running:
        return version_text(server.programs.running)
    return str(server.major) if server.major else None


def on_disk(server: ServerSeen | None) -> str | None:
    """What its next start would run, where that is known."""
    number = server.programs.on_disk if server is not None else 0
    return version_text(number) if number else None


def standing(servers: Mapping[NodeId, ServerSeen]) -> str:
    """What each runs, in one line."""
    told = [f"{node} {running(server) or 'nothing'}" for node, server in sorted(servers.items())]
    return ", ".join(told) or "nobody is heard"


def servers(seen: Seen) -> dict[NodeId, ServerSeen]:
    """Of all data members that are heard."""
    reports = [seen.fresh(member.node) for member in data_members(seen.facts)]
    return {report.node: report.server for report in reports if report is not None}


def mismatches(seen: Seen) -> list[str]:
    """What will hurt, one sentence each."""
    return [one.sentence for one in programs.mismatches(seen.facts, servers(seen))]


def warnings(seen: Seen) -> list[str]:
    """The same, and who could run something newer."""
    return [*mismatches(seen), *programs.news(servers(seen))]
