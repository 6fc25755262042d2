"""The sync-set inequality (Q) of PROTOCOL.md 4, and the numbers derived from it.

One inequality instead of folklore: any k acknowledging standbys meet any R sealed voters.
"""

from __future__ import annotations

from pgherd.ledger.commands import ChangeSync
from pgherd.model.facts import Facts, SyncState, SyncUse
from pgherd.model.ids import MemberKey, NodeId


def seal_count(voters: int, k: int) -> int:
    """R at rest: how many of V an elector must seal so that it meets every k-subset."""
    return voters - k + 1 if voters else 0


def uses(sync: SyncState) -> list[tuple[tuple[MemberKey, ...], int]]:
    """Every (set, k) that some walsender may act on: the current one and the unsettled ones."""
    return [(sync.names, sync.names_k), *((use.names, use.k) for use in sync.in_use)]


def stands_for_data(facts: Facts, node: NodeId) -> bool:
    """Whether a node leads, or a commit may still be acknowledged or elected by a copy of it."""
    groups = [facts.sync.voters, *(names for names, _ in uses(facts.sync))]
    return facts.is_leader(node) or any(key.node == node for group in groups for key in group)


def weakest_k(sync: SyncState) -> int:
    """The smallest k that any walsender may still use."""
    return min(k for _, k in uses(sync))


def half_done(sync: SyncState) -> bool:
    """Whether PostgreSQL was told a set that the store does not have yet."""
    return set(sync.names) != set(sync.voters) or sync.names_k != sync.k


def stepped(old: SyncState, c: ChangeSync) -> SyncState:
    """The set after a step. What PostgreSQL was told before stays in use until it is settled."""
    changed = (c.names, c.names_k) != (old.names, old.names_k)
    in_use = () if c.settled else old.in_use
    if changed:
        past = SyncUse(generation=old.generation, names=old.names, k=old.names_k)
        in_use = tuple({(use.names, use.k): use for use in (*in_use, past)}.values())
    if not c.voters:
        in_use = tuple(use for use in in_use if use.k == 0)
    return SyncState(
        voters=c.voters,
        k=c.k,
        kd=c.kd,
        r=c.r,
        names=c.names,
        names_k=c.names_k,
        generation=old.generation + 1 if changed else old.generation,
        in_use=in_use,
    )


def broken_rule(sync: SyncState) -> str:
    """Which safety rule this state breaks, in words; "" when it is sound.

    Checked on every change: (Q), and kd not above the weakest k in use.
    """
    for members, k in uses(sync):
        if k > len(members):
            return f"k = {k} of only {len(members)} standbys"
    if not sync.voters:
        return "" if sync.kd == 0 else "kd must be 0 without voters"
    weakest = weakest_k(sync)
    if weakest < 1:
        return "a configuration without synchronous standbys may still be in use"
    if sync.kd > weakest:
        return f"kd = {sync.kd} is above the weakest k in use, {weakest}"
    everyone = set(sync.voters)
    for members, _ in uses(sync):
        everyone |= set(members)
    if len(everyone) > sync.r + weakest - 1:
        return f"(Q): |V u S| = {len(everyone)} > R + k - 1 = {sync.r + weakest - 1}"
    return ""
