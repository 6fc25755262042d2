"""All checks in their order, and one check-up: facts in, findings out. Pure.

A check that was not made is told as unknown, with the reason; one that does not concern a node is
not told at all. A finding is only well when its row looked at what it needed.
"""

from __future__ import annotations

from collections.abc import Iterator

from pgherd.model.checkup import HERD, Finding, HerdFacts, NodeFacts, Status
from pgherd.model.facts import Kind
from pgherd.model.ids import NodeId
from pgherd.plan.doctor import (
    activity,
    daemon,
    disks,
    herd,
    likeness,
    machine,
    secrecy,
    server,
    ways,
)
from pgherd.plan.doctor.table import Check, NotKnownError, Patient, Verdict

CHECKS: tuple[Check, ...] = tuple(
    row
    for room in (herd, likeness, daemon, machine, disks, ways, secrecy, server, activity)
    for row in room.TABLE.rows
)
BY_ID = {check.id: check for check in CHECKS}
assert len(BY_ID) == len(CHECKS), "an id stands for one check"
ORDER = (Status.CRITICAL, Status.WARNING, Status.ADVICE, Status.UNKNOWN, Status.OK)


def of_node(node: NodeFacts) -> list[Finding]:
    """Everything about one node."""
    patient = Patient(node)
    return [f for check in CHECKS if check.look and (f := one_of_node(check, patient))]


def of_herd(seen: HerdFacts) -> list[Finding]:
    """Everything about all of them together."""
    return [f for check in CHECKS if check.herd and (f := one_of_herd(check, seen))]


def whole(seen: HerdFacts) -> list[Finding]:
    """One check-up of all that is known, what is worst first."""
    found = of_herd(seen)
    for _, node in sorted(seen.nodes.items()):
        found += of_node(node)
    found += [one for node in sorted(seen.missing) for one in unanswered(node, seen)]
    return in_order(found)


def of_member(seen: HerdFacts, name: NodeId) -> list[Finding]:
    """One check-up of one node only."""
    node = seen.nodes.get(name)
    return in_order(of_node(node) if node is not None else list(unanswered(name, seen)))


def unanswered(node: NodeId, seen: HerdFacts) -> Iterator[Finding]:
    """Every check that a silent node's kind has: none of them is known to be well."""
    member = seen.facts.members.get(node)
    for check in CHECKS:
        if check.look and (not check.needs_server or (member and member.kind is Kind.DATA)):
            yield Finding(check.id, node, Status.UNKNOWN, seen.missing[node])


def in_order(found: list[Finding]) -> list[Finding]:
    """What is worst first, else as the table has it."""
    return sorted(found, key=lambda one: ORDER.index(one.status))


def counts(found: list[Finding]) -> dict[str, int]:
    """How many ended how."""
    return {status.value: sum(f.status is status for f in found) for status in ORDER}


def one_of_node(check: Check, patient: Patient) -> Finding | None:
    assert check.look is not None
    node = patient.node
    if (check.slow and node.quick) or (check.needs_server and node.kind is not Kind.DATA):
        return None
    try:
        return finding(check, check.look(patient), node.node)
    except NotKnownError as error:
        return Finding(check.id, node.node, Status.UNKNOWN, str(error))
    except Exception as error:
        return Finding(check.id, node.node, Status.UNKNOWN, broken(error))


def one_of_herd(check: Check, seen: HerdFacts) -> Finding | None:
    assert check.herd is not None
    try:
        return finding(check, check.herd(seen), HERD)
    except NotKnownError as error:
        return Finding(check.id, HERD, Status.UNKNOWN, str(error))
    except Exception as error:
        return Finding(check.id, HERD, Status.UNKNOWN, broken(error))


def broken(error: Exception) -> str:
    """A row with a mistake, or facts as no server has them, must not hide the other rows."""
    return f"this check itself failed: {error!r}"


def finding(check: Check, verdict: Verdict | None, node: str) -> Finding | None:
    if verdict is None:
        return None
    if not verdict.is_ill:
        return Finding(check.id, node, Status.OK, verdict.text)
    fix = (verdict.fix or check.fix).replace("{node}", node)
    return Finding(check.id, node, check.severity, verdict.text, fix)
