"""Versions of PostgreSQL's configuration: a new one, one that failed or is on trial, the way back.

Versions only grow: going back is a new version that says what an old one said, so that what a
member reports by its number always means the same. Owns form and limits; whether PostgreSQL takes
it is asked before (`postgres.checking`), and what pgherd owns no server takes from here.
"""

from __future__ import annotations

import re

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.ledger.outcome import Result, note, refuse
from pgherd.model.facts import Facts
from pgherd.model.pgconfig import EMPTY, MATCHED, ConfigVersion, Content, Trial

VERSIONS_MAX = 50
PARAMETERS_MAX = 300
BYTES_MAX = 16 << 10
LINES_MAX = 500
LINES_BYTES_MAX = 64 << 10
WORDS_MAX = 500
NAME = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?")

replace = msgspec.structs.replace


def newest(facts: Facts) -> ConfigVersion:
    """The version in force; one without parameters before the first."""
    return facts.config[-1] if facts.config else EMPTY


def find(facts: Facts, version: int) -> ConfigVersion | None:
    """A version that is still kept; 0 is the one without parameters."""
    known = (EMPTY, *facts.config)
    return next((one for one in known if one.version == version), None)


def said(c: cmd.SetConfig) -> Content:
    """What a command wants to be in force."""
    return Content(**{name: getattr(c, name) for name in Content.__struct_fields__})


def set_config(facts: Facts, c: cmd.SetConfig, at_ms: int) -> Result:
    """A version in place of the one that its author saw."""
    now, wanted = newest(facts), said(c)
    if c.expected != now.version:
        return refuse(facts, "stale", f"the configuration is at version {now.version} by now")
    if now.trial is not None and not c.restores:
        return refuse(facts, "on_trial", f"version {now.version} is on trial")
    why = malformed(wanted)
    if why:
        return refuse(facts, "invalid", why)
    if wanted == now.content() and now.trial is None:
        return facts, cmd.Done(str(now.version))
    trial = Trial(c.trial_until_ms, facts.term, c.streamed) if c.trial_until_ms else None
    new = ConfigVersion(
        version=now.version + 1,
        at_ms=at_ms,
        author=c.author[:WORDS_MAX],
        reason=c.reason[:WORDS_MAX],
        restores=c.restores,
        trial=trial,
        **wanted.fields(),
    )
    if now.trial is not None:
        facts = replace(facts, config=(*facts.config[:-1], replace(now, trial=None)))
    return with_version(facts, new, at_ms), cmd.Done(str(new.version))


def fail_config(facts: Facts, c: cmd.FailConfig, at_ms: int) -> Result:
    """Mark the newest version as failed; what the member had run with comes back for all."""
    now = newest(facts)
    if c.version != now.version or now is EMPTY:
        return refuse(facts, "stale", f"the configuration is at version {now.version}")
    marked = replace(now, failed_on=c.node, failed=c.why[:WORDS_MAX], trial=None)
    text = f"version {now.version} of the configuration failed on {c.node}: {marked.failed}"
    reason = f"version {now.version} failed on {c.node}"
    return taken_back(facts, marked, c.ran, at_ms, reason=reason, text=text, rule=c.rule)


def end_trial(facts: Facts, c: cmd.EndTrial, at_ms: int) -> Result:
    """Keep a version that was on trial, or have what was before it again."""
    now = newest(facts)
    if c.version != now.version or now.trial is None:
        return refuse(facts, "stale", f"version {c.version} of the configuration is not on trial")
    if c.confirmed:
        facts = replace(facts, config=(*facts.config[:-1], replace(now, trial=None)))
        text = f"version {now.version} of the configuration confirmed by {c.author}"
        return note(facts, at_ms=at_ms, kind="config.confirmed", text=text), cmd.Done()
    marked = replace(now, failed=c.why[:WORDS_MAX], trial=None)
    text = f"version {now.version} of the configuration is taken back: {c.why}"
    reason = f"the trial of version {now.version}: {c.why}"[:WORDS_MAX]
    ran = now.version - 1
    return taken_back(facts, marked, ran, at_ms, reason=reason, text=text, rule=c.rule)


def taken_back(
    facts: Facts,
    marked: ConfigVersion,
    ran: int,
    at_ms: int,
    *,
    reason: str,
    text: str,
    rule: int,
) -> Result:
    """The newest version as it is marked, and an older one's words in force again."""
    facts = replace(facts, config=(*facts.config[:-1], marked))
    good = last_good(facts, ran)
    back = ConfigVersion(
        version=marked.version + 1,
        at_ms=at_ms,
        author="pgherd",
        reason=reason,
        restores=good.version,
        **good.fields(),
    )
    facts = note(facts, at_ms=at_ms, kind="config.failed", text=text, rule=rule)
    return with_version(facts, back, at_ms), cmd.Done(str(back.version))


def last_good(facts: Facts, ran: int) -> ConfigVersion:
    """The version that ran, or else the newest that has not what failed; the empty one at last."""
    wanted = find(facts, ran)
    if wanted is not None and not failed_since(facts, wanted):
        return wanted
    good = [one for one in facts.config if not failed_since(facts, one)]
    return good[-1] if good else EMPTY


def failed_since(facts: Facts, one: ConfigVersion) -> bool:
    """Whether what a version says was taken back then or later; before it may have been mended."""
    bad = [each for each in facts.config if each.failed_on or each.failed]
    return any(each.version >= one.version and each.content() == one.content() for each in bad)


def with_version(facts: Facts, new: ConfigVersion, at_ms: int) -> Facts:
    facts = replace(facts, config=(*facts.config, new)[-VERSIONS_MAX:])
    text = f"configuration version {new.version} by {new.author or 'somebody'}"
    more = f": {new.reason}" if new.reason else ""
    return note(facts, at_ms=at_ms, kind="config.changed", text=text + more)


def malformed(wanted: Content) -> str:
    """Why this cannot be a version at all; "" when it can."""
    parts = (wanted.parameters, wanted.primary, wanted.replica, *wanted.nodes.values())
    pairs = [pair for part in parts for pair in part.items()]
    if len(pairs) > PARAMETERS_MAX:
        return f"at most {PARAMETERS_MAX} parameters are kept, not {len(pairs)}"
    if sum(len(name) + len(value) for name, value in pairs) > BYTES_MAX:
        return f"the parameters are longer than {BYTES_MAX} characters"
    for name, value in pairs:
        if NAME.fullmatch(name) is None:
            return f"{name!r} is not the name of a parameter"
        if "\n" in value or "\0" in value:
            return f"the value of {name} has more than one line"
    apart = sorted(name for part in parts[1:] for name in part if name in MATCHED)
    if apart:
        return f"{apart[0]} must be the same on all members"
    return malformed_lines((*wanted.hba, *wanted.ident))


def malformed_lines(lines: tuple[str, ...]) -> str:
    """Why these cannot be lines of pg_hba.conf or pg_ident.conf; "" when they can."""
    if len(lines) > LINES_MAX or sum(map(len, lines)) > LINES_BYTES_MAX:
        return f"at most {LINES_MAX} lines of {LINES_BYTES_MAX} characters are kept"
    wrong = next((line for line in lines if not line.isprintable() or line.endswith("\\")), None)
    return f"{wrong!r} is not one line" if wrong is not None else ""
