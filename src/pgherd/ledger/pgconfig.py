"""Versions of PostgreSQL's parameters: a new one, one that failed, and the way back.

Versions only grow: going back is a new version with an old one's parameters, so that what a member
reports by its number always means the same. Owns form and limits; whether PostgreSQL takes a value
is asked before (`postgres.checking`), and what pgherd owns no server takes from here.
"""

from __future__ import annotations

import re

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.ledger.outcome import Result, note, refuse
from pgherd.model.facts import Facts
from pgherd.model.pgconfig import EMPTY, ConfigVersion

VERSIONS_MAX = 50
PARAMETERS_MAX = 300
BYTES_MAX = 16 << 10
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


def set_config(facts: Facts, c: cmd.SetConfig, at_ms: int) -> Result:
    """A version in place of the one that its author saw."""
    now = newest(facts)
    if c.expected != now.version:
        return refuse(facts, "stale", f"the configuration is at version {now.version} by now")
    why = malformed(c.parameters)
    if why:
        return refuse(facts, "invalid", why)
    if c.parameters == now.parameters:
        return facts, cmd.Done(str(now.version))
    new = ConfigVersion(
        version=now.version + 1,
        at_ms=at_ms,
        author=c.author[:WORDS_MAX],
        reason=c.reason[:WORDS_MAX],
        parameters=c.parameters,
        restores=c.restores,
    )
    return with_version(facts, new, at_ms), cmd.Done(str(new.version))


def fail_config(facts: Facts, c: cmd.FailConfig, at_ms: int) -> Result:
    """Mark the newest version as failed; what the member had run with comes back for all."""
    now = newest(facts)
    if c.version != now.version or now is EMPTY:
        return refuse(facts, "stale", f"the configuration is at version {now.version}")
    marked = replace(now, failed_on=c.node, failed=c.why[:WORDS_MAX])
    facts = replace(facts, config=(*facts.config[:-1], marked))
    good = last_good(facts, c.ran)
    back = ConfigVersion(
        version=now.version + 1,
        at_ms=at_ms,
        author="pgherd",
        reason=f"version {now.version} failed on {c.node}",
        parameters=good.parameters,
        restores=good.version,
    )
    text = f"version {now.version} of the configuration failed on {c.node}: {marked.failed}"
    facts = note(facts, at_ms=at_ms, kind="config.failed", text=text, rule=c.rule)
    return with_version(facts, back, at_ms), cmd.Done(str(back.version))


def last_good(facts: Facts, ran: int) -> ConfigVersion:
    """The version that ran, or else the newest that has not what failed; the empty one at last."""
    bad = [one.parameters for one in facts.config if one.failed_on is not None]
    wanted = find(facts, ran)
    if wanted is not None and wanted.parameters not in bad:
        return wanted
    good = [one for one in facts.config if one.parameters not in bad]
    return good[-1] if good else EMPTY


def with_version(facts: Facts, new: ConfigVersion, at_ms: int) -> Facts:
    facts = replace(facts, config=(*facts.config, new)[-VERSIONS_MAX:])
    text = f"configuration version {new.version} by {new.author or 'somebody'}"
    more = f": {new.reason}" if new.reason else ""
    return note(facts, at_ms=at_ms, kind="config.changed", text=text + more)


def malformed(parameters: dict[str, str]) -> str:
    """Why this cannot be a version at all; "" when it can."""
    if len(parameters) > PARAMETERS_MAX:
        return f"at most {PARAMETERS_MAX} parameters are kept, not {len(parameters)}"
    if sum(len(name) + len(value) for name, value in parameters.items()) > BYTES_MAX:
        return f"the parameters are longer than {BYTES_MAX} characters"
    for name, value in parameters.items():
        if NAME.fullmatch(name) is None:
            return f"{name!r} is not the name of a parameter"
        if "\n" in value or "\0" in value:
            return f"the value of {name} has more than one line"
    return ""
