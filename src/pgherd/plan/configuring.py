"""Rules 91 to 93 and 1201: PostgreSQL's configuration, from the ledger to every server.

Of five parameters a standby must have at least what its primary has, or it stops replaying. So a
raise reaches the primary's file only once every standby that runs has it, and a standby's file goes
down only once the primary has: whoever is restarted when, comes up with what fits the others. A
primary goes down in a switchover (`act.Promote.lower`), since every server starts as a standby.
"""

from __future__ import annotations

from pgherd.ledger.commands import FailConfig
from pgherd.ledger.pgconfig import newest
from pgherd.model import action as act
from pgherd.model.facts import Facts, Kind, Phase
from pgherd.model.observation import Server
from pgherd.model.pgconfig import MATCHED, Running
from pgherd.plan.look import fresh
from pgherd.plan.own import Answer, MemberRule, Self, follows, leads
from pgherd.plan.rule import Decision, HerdRule, Situation


def too_little(s: Self) -> Answer | None:
    """What its WAL demands stands in its pg_control by then, so the start takes no less.

    The primary's own value says nothing: it may have come down again since.
    """
    seen, in_place = s.server, follows(s) or s.facts.follows is not None
    if not in_place or seen.state is not Server.STANDBY or not seen.paused:
        return None
    if not seen.matched or not seen.demanded:
        return None
    known = zip(MATCHED, seen.matched, seen.demanded, strict=True)
    short = [name for name, has, needs in known if has < needs]
    if not short:
        return None
    reason = f"has less {', '.join(short)} than its WAL demands and replays no more: restarts"
    return reason, act.StopServer("its WAL demands more of a parameter that it must match")


def tell_primary(s: Self) -> Answer | None:
    return tell(s) if leads(s) and s.server.state is Server.PRIMARY else None


def tell_standby(s: Self) -> Answer | None:
    return tell(s) if follows(s) and s.server.state is Server.STANDBY else None


def tell(s: Self) -> Answer | None:
    """Only beside a stable term: nothing waits for it, and elections have better to do."""
    version = newest(s.facts)
    if not s.server.matched or s.facts.phase is not Phase.STABLE:
        return None
    failed = s.server.config_failed
    if not version.version or (failed is not None and failed.version == version.version):
        return None
    wanted = held(s, version.of(s.me, leads=leads(s)))
    if s.server.config == version.version and wanted == s.config.parameters:
        return None
    action = act.Configure(version.version, wanted, version.access)
    return f"tells its server version {version.version} of the configuration", action


def held(s: Self, parameters: dict[str, str]) -> dict[str, str]:
    """A version's parameters with what must wait for others as it is."""
    own = dict(zip(MATCHED, s.server.matched, strict=True))
    waits = raised_too_early if leads(s) else lowered_too_early
    return parameters | {
        name: str(value)
        for place, (name, has) in enumerate(own.items())
        if parameters.get(name, "").isdigit()
        for value in [waits(s, place, has, int(parameters[name]))]
    }


def raised_too_early(s: Self, place: int, has: int, wants: int) -> int:
    """A primary's value: a raise counts once every standby that runs has as much."""
    ready = all(theirs and theirs[place] >= wants for theirs in s.config.others.values())
    return wants if wants <= has or ready else has


def lowered_too_early(s: Self, place: int, has: int, wants: int) -> int:
    """A standby's value: never below the primary's, nor below its own where that is not known."""
    leader = s.facts.leader
    theirs = s.config.others.get(leader.node, ()) if leader is not None else ()
    return max(wants, theirs[place] if theirs else has)


def lowers(facts: Facts, running: Running) -> bool:
    """Whether the newest version wants less of a matched parameter than a server has."""
    wanted = newest(facts).parameters
    values = [wanted.get(name, "") for name in MATCHED]
    pairs = zip(values, running, strict=True) if running else ()
    return any(value.isdigit() and int(value) < has for value, has in pairs)


TOO_LITTLE = MemberRule(
    91,
    "A standby that has less of a parameter than its WAL demands, and so replays no more, is"
    " restarted.",
    too_little,
)
TELLS_PRIMARY = MemberRule(
    92,
    "The primary is told the newest configuration, but for what standbys need first.",
    tell_primary,
)
TELLS_STANDBY = MemberRule(
    93,
    "A standby is told the newest configuration, but never less than its primary has.",
    tell_standby,
)


def failed_version(s: Situation) -> Decision | None:
    """A member's server came up with an older version only: that one is everybody's again."""
    version = newest(s.facts).version
    for node, member in sorted(s.facts.members.items()):
        report = fresh(s, node) if version and member.kind is Kind.DATA else None
        failed = report.server.config_failed if report is not None else None
        if failed is not None and failed.version == version:
            command = FailConfig(version, node, failed.why, failed.ran, 1201)
            return Decision(1201, f"{node} does not start with version {version}", command)
    return None


HERD_RULES: tuple[HerdRule, ...] = (
    HerdRule(
        1201,
        "A version of the configuration with which a server does not start is taken back.",
        failed_version,
    ),
)
