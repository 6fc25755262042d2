"""What a change of PostgreSQL's parameters does, where and in which order. Pure.

Owns the views of versions and of how far each member is. The order follows from PostgreSQL: of some
parameters a standby must have at least what its primary has (`model.pgconfig`).
"""

from __future__ import annotations

from pgherd.api import ailing, times, views
from pgherd.api import configschema as schema
from pgherd.api.views import Seen
from pgherd.ledger.pgconfig import newest
from pgherd.model.facts import Member
from pgherd.model.pgconfig import MATCHED, ConfigChecked, ConfigVersion

RESTARTS = ("postmaster",)
SESSIONS = ("backend", "superuser-backend")
FIRST_UP = "its standbys have the raised value by then"
SWITCH_DOWN = "the new primary starts with the lower value, which no standby may have before it"


def node(seen: Seen, member: Member) -> schema.ConfigNode:
    """How far one data member is."""
    report = seen.fresh(member.node)
    failed = report.server.config_failed if report is not None else None
    version = newest(seen.facts).version
    return schema.ConfigNode(
        node=member.node,
        version=report.server.config if report is not None and report.server.matched else None,
        is_applied=report is not None and report.server.config == version,
        failed=f"version {failed.version}: {failed.why}" if failed is not None else "",
        pending_restart=ailing.pending(report) or {},
    )


def nodes(seen: Seen) -> list[schema.ConfigNode]:
    """How far every data member is."""
    return [node(seen, member) for member in views.data_members(seen.facts)]


def version_shown(one: ConfigVersion) -> schema.ConfigVersion:
    """One version, as the API shows it."""
    return schema.ConfigVersion(
        version=one.version,
        at=times.iso(one.at_ms),
        author=one.author,
        reason=one.reason,
        restores=one.restores or None,
        failed_on=one.failed_on,
        failed=one.failed,
        postgresql=schema.ConfigPostgresql(parameters=one.parameters),
    )


def config(seen: Seen) -> schema.Config:
    """The version in force."""
    shown = version_shown(newest(seen.facts)).model_dump()
    return schema.Config(**shown, nodes=nodes(seen))


def changes(
    old: dict[str, str], new: dict[str, str], checked: ConfigChecked
) -> list[schema.ConfigChange]:
    """What is different, by name."""
    names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    return [
        schema.ConfigChange(
            name=name,
            old=old.get(name),
            new=new.get(name),
            running=checked.running.get(name),
            effect=effect_of(checked.contexts.get(name, "")),
        )
        for name in names
    ]


def effect_of(context: str) -> schema.Effect:
    """When a change of a parameter with this pg_settings.context counts."""
    if context in RESTARTS:
        return "restart"
    return "session" if context in SESSIONS else "reload"


def steps(seen: Seen, found: list[schema.ConfigChange]) -> list[schema.ConfigStep]:
    """What happens on which member, in order."""
    if not found:
        return []
    members = [member.node for member in views.data_members(seen.facts)]
    primary = seen.facts.leader.node if seen.facts.leader is not None else None
    standbys = [name for name in members if name != primary]
    told = [step(name, "reload", "is told by pgherd") for name in members]
    waiting = [one for one in found if one.effect == "restart"]
    down = [one.name for one in waiting if one.name in MATCHED and is_lower(one)]
    up = [one.name for one in waiting if one.name not in down]
    if primary is None or not waiting:
        return told
    if up:
        told += [step(name, "restart", f"for {', '.join(up)}") for name in standbys]
    if up and not down:
        why = FIRST_UP if set(up) & set(MATCHED) else "it restarts as a standby"
        return [*told, step(primary, "switchover", why)]
    told.append(step(primary, "switchover", SWITCH_DOWN))
    return [*told, *(step(name, "restart", f"for {', '.join(down)}") for name in members)]


def step(name: str, action: schema.Action, why: str) -> schema.ConfigStep:
    return schema.ConfigStep(node=name, action=action, why=why)


def is_lower(one: schema.ConfigChange) -> bool:
    """Whether a server would have less; where the cluster says nothing any more, perhaps."""
    if one.new is None:
        return True
    running = one.running or ""
    return running.isdigit() and one.new.isdigit() and int(one.new) < int(running)


def notes(checked: ConfigChecked, primary: str) -> list[str]:
    """What people should know of a change."""
    return [
        f"{name}: {primary}'s own file sets it too, and counts there" for name in checked.overridden
    ]
