"""Changes of passwords: one at a time for each role, each step from the one before."""

from __future__ import annotations

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.ledger.outcome import Result, note, refuse
from pgherd.model.credentials import Credential, Stage
from pgherd.model.facts import Facts

STEPS = {Stage.MADE: (Stage.BOTH, Stage.ENDED), Stage.BOTH: (Stage.ENDED,), Stage.ENDED: ()}
SAYS = {
    Stage.BOTH: "is in use; the former one is valid too",
    Stage.ENDED: "is the only one that is valid",
}

replace = msgspec.structs.replace


def rotate(facts: Facts, c: cmd.RotatePassword, at_ms: int) -> Result:
    """The members have a new secret already: from here on it is wanted."""
    now = facts.credentials.get(c.which, Credential(0, "", stage=Stage.ENDED))
    if now.generation != c.expected:
        return refuse(facts, "stale", f"the password of {c.which.value} was changed meanwhile")
    if now.stage is not Stage.ENDED:
        return refuse(facts, "busy", f"a change of the password of {c.which.value} goes on")
    new = Credential(
        generation=now.generation + 1,
        fingerprint=c.fingerprint,
        former=now.fingerprint,
        overlap_ms=c.overlap_ms,
        at_ms=at_ms,
        author=c.author,
    )
    facts = replace(facts, credentials={**facts.credentials, c.which: new})
    text = f"a new password of {c.which.value}, asked for by {c.author}"
    return note(facts, at_ms=at_ms, kind="password.made", text=text), cmd.Done(str(new.generation))


def step(facts: Facts, c: cmd.StepPassword, at_ms: int) -> Result:
    now = facts.credentials.get(c.which)
    if now is None or now.generation != c.generation or c.stage not in STEPS[now.stage]:
        return refuse(facts, "stale", f"the password of {c.which.value} is not so far, or further")
    until_ms = at_ms + now.overlap_ms if c.stage is Stage.BOTH else now.until_ms
    new = replace(now, stage=c.stage, until_ms=until_ms)
    facts = replace(facts, credentials={**facts.credentials, c.which: new})
    text = f"the new password of {c.which.value} {SAYS[c.stage]}"
    return note(facts, at_ms=at_ms, kind="password.stepped", text=text, rule=c.rule), cmd.Done()


def end_overlap(facts: Facts, c: cmd.EndOverlap, at_ms: int) -> Result:
    """It ends once all members have the new one, as it would by time."""
    now = facts.credentials.get(c.which)
    if now is None or now.generation != c.generation or now.stage is not Stage.BOTH:
        return refuse(facts, "stale", f"no former password of {c.which.value} is valid")
    new = replace(now, until_ms=min(now.until_ms, at_ms))
    facts = replace(facts, credentials={**facts.credentials, c.which: new})
    text = f"the former password of {c.which.value} ends, asked for by {c.author}"
    return note(facts, at_ms=at_ms, kind="password.hurried", text=text), cmd.Done()
