"""What somebody wants the configuration to say, from what was asked for and what is in force. Pure.

Owns names and values as PostgreSQL writes them, and the refusal of what pgherd owns. Whether a
server takes them it says itself (`postgres.checking`).
"""

from __future__ import annotations

from pgherd.api import configschema as schema
from pgherd.api.failures import Problem
from pgherd.config.fields import parse_parameter, parse_parameter_name
from pgherd.config.parameters import CHOICES
from pgherd.config.problems import Wrong
from pgherd.ledger.pgconfig import malformed
from pgherd.model.facts import Facts, Kind
from pgherd.model.ids import NodeId
from pgherd.model.pgconfig import ConfigAsked, Content

ELSEWHERE = ("synchronous_commit",)
"""What a commit promises is asked for with the mode (`replication`)."""

Given = dict[str, schema.Value | None]


def wanted(facts: Facts, now: Content, body: schema.ConfigWanted, *, merges: bool) -> Content:
    """What is to be in force. A part that is not named stays as it is.

    merges: what is named is changed and null deletes it; else it is all that its part has.
    """
    asked, wrong = body.postgresql, Wrongs()

    def part(old: dict[str, str], given: Given | None) -> dict[str, str]:
        if given is None:
            return old
        found = wrong.parsed(given)
        whole = {**old, **found} if merges else found
        return {name: value for name, value in whole.items() if value is not None}

    nodes = asked.nodes if asked.nodes is not None else {}
    kept = now.nodes if merges or asked.nodes is None else {}
    apart = {NodeId(node): part(kept.get(NodeId(node), {}), some) for node, some in nodes.items()}
    made = Content(
        parameters=part(now.parameters, asked.parameters),
        primary=part(now.primary, asked.primary),
        replica=part(now.replica, asked.replica),
        nodes={node: some for node, some in {**kept, **apart}.items() if some},
        hba=now.hba if asked.hba is None else lines(asked.hba),
        ident=now.ident if asked.ident is None else lines(asked.ident),
        hba_whole=now.hba_whole if asked.hba_whole is None else asked.hba_whole,
    )
    wrong.texts += [f"{node} is no data member" for node in apart if not has_server(facts, node)]
    wrong.texts += [text for text in [malformed(made)] if text]
    if wrong.texts:
        raise invalid(wrong.texts)
    return made


def lines(given: list[str]) -> tuple[str, ...]:
    """Lines as they are kept: without the blanks at their ends, and without empty ones."""
    return tuple(line.replace("\t", " ").rstrip() for line in given if line.strip())


def has_server(facts: Facts, node: NodeId) -> bool:
    member = facts.members.get(node)
    return member is not None and member.kind is Kind.DATA


class Wrongs:
    """What cannot be, collected, so that all of it is said at once."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def parsed(self, given: Given) -> dict[str, str | None]:
        """Names and values as PostgreSQL writes them."""
        found: dict[str, str | None] = {}
        for written, value in given.items():
            try:
                name = parse_parameter_name(written)
                found[name] = parse_parameter(value) if value is not None else None
            except Wrong as error:
                self.texts.append(f"{written} {error.message}: {error.hint}")
                continue
            self.texts += refused(name, found[name])
        return found


def refused(name: str, value: str | None) -> list[str]:
    """Why the cluster cannot set this."""
    if name in ELSEWHERE:
        return [f"{name} is of what a commit promises: pgherd sync set"]
    allowed = CHOICES.get(name, ())
    if allowed and value not in (*allowed, None):
        return [f"{name} = {value}: acknowledged commits need {' or '.join(allowed)}"]
    return []


def invalid(wrong: list[str]) -> Problem:
    return Problem(
        422,
        "invalid",
        "; ".join(wrong),
        hint="nothing was changed; see what is set: pgherd config show",
        details={"problems": wrong},
    )


def question(now: Content, new: Content) -> ConfigAsked:
    """What the primary's server is asked about a change."""
    others = {
        name: some for name, some in (("primary", new.primary), ("replica", new.replica)) if some
    }
    others |= {f"on {node}": some for node, some in new.nodes.items()}
    gone = {**now.parameters, **now.primary, **now.replica}
    for some in now.nodes.values():
        gone |= some
    return ConfigAsked(
        new.parameters,
        tuple(gone),
        others=others,
        access=new.access if new.access != now.access else None,
    )
