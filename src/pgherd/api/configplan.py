"""What a change of PostgreSQL's configuration does, where and in which order. Pure.

Owns the views of versions and of how far each member is. The order follows from PostgreSQL: of some
parameters a standby must have at least what its primary has (`model.pgconfig`).
"""

from __future__ import annotations

from difflib import SequenceMatcher

from pgherd.api import ailing, views
from pgherd.api import configschema as schema
from pgherd.api.times import iso
from pgherd.api.views import Seen
from pgherd.ledger.pgconfig import newest
from pgherd.model.facts import Member
from pgherd.model.ids import NodeId
from pgherd.model.pgconfig import MATCHED, ConfigChecked, ConfigVersion, Content
from pgherd.plan.look import streaming

RESTARTS = ("postmaster",)
SESSIONS = ("backend", "superuser-backend")
APART = ": "
"""Between where a parameter counts and its name, where that is not everywhere."""
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
        at=iso(one.at_ms),
        author=one.author,
        reason=one.reason,
        restores=one.restores or None,
        failed_on=one.failed_on,
        failed=one.failed,
        trial_until=iso(one.trial.until_ms) if one.trial is not None else None,
        postgresql=schema.ConfigPostgresql(
            parameters=one.parameters,
            primary=one.primary,
            replica=one.replica,
            nodes={str(node): some for node, some in one.nodes.items()},
            hba=list(one.hba),
            ident=list(one.ident),
            hba_whole=one.hba_whole,
        ),
    )


def config(seen: Seen) -> schema.Config:
    """The version in force."""
    shown = version_shown(newest(seen.facts)).model_dump()
    return schema.Config(**shown, nodes=nodes(seen))


def streaming_now(seen: Seen) -> tuple[NodeId, ...]:
    """The members that stream from the primary, by its newest report."""
    leader = seen.facts.leader
    report = seen.fresh(leader.node) if leader is not None else None
    if report is None:
        return ()
    return tuple(sorted(key.node for key in streaming(report, seen.facts.term)))


def changes(old: Content, new: Content, checked: ConfigChecked) -> list[schema.ConfigChange]:
    """What is different, by name; where it does not count for all, with where it does."""
    found = parameters(old.parameters, new.parameters, checked)
    for role, had, has in (
        ("primary", old.primary, new.primary),
        ("replica", old.replica, new.replica),
        *((node, old.nodes.get(node, {}), new.nodes.get(node, {})) for node in both(old, new)),
    ):
        found += parameters(had, has, checked, where=role + APART)
    found += lines("hba", old.hba, new.hba) + lines("ident", old.ident, new.ident)
    if old.hba_whole != new.hba_whole:
        words = {False: "a block", True: "the whole file"}
        found.append(reloads("hba", words[old.hba_whole], words[new.hba_whole]))
    return found


def both(old: Content, new: Content) -> list[NodeId]:
    return sorted({*old.nodes, *new.nodes})


def parameters(
    old: dict[str, str], new: dict[str, str], checked: ConfigChecked, *, where: str = ""
) -> list[schema.ConfigChange]:
    names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    return [
        schema.ConfigChange(
            name=where + name,
            old=old.get(name),
            new=new.get(name),
            running=checked.running.get(name),
            effect=effect_of(checked.contexts.get(name, "")),
        )
        for name in names
    ]


def lines(name: str, old: tuple[str, ...], new: tuple[str, ...]) -> list[schema.ConfigChange]:
    """Lines that go and lines that come; another order alone is both."""
    matcher = SequenceMatcher(a=old, b=new, autojunk=False)
    found: list[schema.ConfigChange] = []
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind != "equal":
            found += [reloads(name, line, None) for line in old[a:b]]
            found += [reloads(name, None, line) for line in new[c:d]]
    return found


def reloads(name: str, old: str | None, new: str | None) -> schema.ConfigChange:
    return schema.ConfigChange(name=name, old=old, new=new, running=None, effect="reload")


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
    told += restarts_apart(found, standbys)
    waiting = [one for one in found if one.effect == "restart" and APART not in one.name]
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


def restarts_apart(
    found: list[schema.ConfigChange], standbys: list[NodeId]
) -> list[schema.ConfigStep]:
    """What waits for a restart on one node only."""
    waits: dict[str, list[str]] = {}
    for one in found:
        node, apart, name = one.name.partition(APART)
        if apart and one.effect == "restart":
            waits.setdefault(node, []).append(name)
    return [
        step(node, "restart" if node in standbys else "switchover", f"for {', '.join(names)}")
        for node, names in sorted(waits.items())
    ]


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
