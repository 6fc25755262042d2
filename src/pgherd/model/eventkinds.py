"""Every kind of event, with its level and one sentence. Names are promises: once told they stay.

Owns the table; docs/reference/events.md is made from it, and tests see that nothing is told which
does not stand here. Leaves who tells of it, and when, to the rooms that know.
"""

from __future__ import annotations

import msgspec

from pgherd.model.event import Level

D, I, W, E = Level.DEBUG, Level.INFO, Level.WARNING, Level.ERROR  # noqa: E741 - a column


class Kind(msgspec.Struct, frozen=True):
    """One kind. level: how much it matters where nothing more is known."""

    level: Level
    text: str


CLUSTER: dict[str, Kind] = {
    "founder.chosen": Kind(I, "The node that makes the first data directory is named."),
    "cluster.born": Kind(I, "The cluster's data exists; its system identifier is known."),
    "term.begun": Kind(W, "An election began: rule and reason say why."),
    "leader.drained": Kind(I, "In a switchover the old primary stopped, at its final position."),
    "leader.elected": Kind(I, "An election has a winner."),
    "candidate.catches-up": Kind(I, "In an election a candidate takes the last WAL from another."),
    "term.established": Kind(I, "The winner's epoch record is on its replicas: writes go on."),
    "primary.changed": Kind(
        W, "Another node is primary: kind (failover, switchover), from, to, duration."
    ),
    "primary.returned": Kind(W, "The same node is primary again, under a new term."),
    "standby-leader.named": Kind(W, "In a standby cluster another node streams from the remote."),
    "cluster.promoted": Kind(W, "A standby cluster is to become one that takes writes."),
    "cluster.demoted": Kind(W, "This cluster is to follow a remote primary, or another one."),
    "cluster.follows": Kind(I, "A standby cluster follows another remote from now on."),
    "sync.changed": Kind(I, "Other members are waited for by commits."),
    "sync.tuned": Kind(I, "Somebody changed what commits wait for."),
    "member.added": Kind(I, "A node joined."),
    "member.updated": Kind(I, "A member's record follows its file."),
    "member.leaving": Kind(I, "Somebody asked a member to leave."),
    "member.removed": Kind(I, "A member is forgotten."),
    "member.rebuilt": Kind(I, "A member has a new data directory."),
    "member.store-known": Kind(D, "It is known which consensus store a member takes part with."),
    "member.readmitted": Kind(W, "A member that lost its consensus store takes part again."),
    "member.stays": Kind(W, "A leaving member had to be elected, and stays."),
    "member.maintenance": Kind(I, "A node goes into maintenance, or comes out of it."),
    "switchover.requested": Kind(I, "Somebody asked for another primary."),
    "switchover.held": Kind(D, "Clients wait, for a switchover is about to begin."),
    "switchover.ended": Kind(W, "A switchover was refused, cancelled or given up."),
    "switchover.undone": Kind(W, "An election came in between, and the switchover is no more."),
    "failover.requested": Kind(W, "Somebody ordered an election."),
    "token.issued": Kind(I, "A join token was made."),
    "token.made": Kind(I, "A token of the API was made."),
    "token.revoked": Kind(W, "A token of the API counts no more."),
    "mode.set": Kind(W, "Somebody asked for another replication mode."),
    "voters.limited": Kind(I, "Somebody changed how many members vote."),
    "lease.granted": Kind(I, "The primary has a lease again."),
    "lease.ended": Kind(I, "A lease is over; a warning where it was the present primary's."),
    "data.given-up": Kind(E, "An operator gave members up for lost, with what only they held."),
    "data.loss-accepted": Kind(E, "An election gave up commits, as it was allowed to."),
    "fence.ended": Kind(W, "A fencing command ended."),
    "config.changed": Kind(I, "The cluster's configuration has a new version."),
    "config.failed": Kind(E, "A version did not work on a server, and goes back."),
    "config.confirmed": Kind(I, "A version on trial is kept."),
    "config.tried": Kind(I, "A version on trial was kept, or went back."),
    "password.made": Kind(I, "A password of pgherd's own roles is being changed."),
    "password.stepped": Kind(D, "A change of a password has come one step further."),
    "password.hurried": Kind(I, "A former password ends before its time."),
    "cluster.paused": Kind(W, "Nobody fails over and nothing is repaired by itself."),
    "cluster.resumed": Kind(I, "A pause is over."),
    "work.requested": Kind(I, "Somebody asked for work on nodes: a restart, a copy, a reload."),
    "work.goes-on": Kind(D, "Work has come to the next node, or a step further."),
    "work.forgotten": Kind(D, "Work that ended a day ago is forgotten."),
    "work.ended": Kind(I, "Work is done, failed or was cancelled; its state says which."),
    "drill.begun": Kind(I, "A change of primary is made to measure it."),
    "drill.ended": Kind(I, "It is over: what was measured, or why nothing was."),
    "drill.regressed": Kind(W, "Writes stood still for much longer than in the drills before."),
    "slot.wanted": Kind(I, "Somebody wants a replication slot on whoever is primary."),
    "slot.dropped": Kind(I, "Somebody wants it no more."),
    "slot.gone": Kind(I, "It is gone everywhere."),
}
"""What comes from the ledger: every node has it, with the same id."""

NODE: dict[str, Kind] = {
    "herd.decided": Kind(
        I, "The node that decides for all waits for something, or has Raft do something."
    ),
    "action.done": Kind(I, "This node has done something to itself: act, rule, reason, duration."),
    "action.failed": Kind(W, "It could not; it tries again, or decides anew."),
    "action.cut": Kind(I, "It was cut short, for it is not wanted any more."),
    "role.changed": Kind(W, "This node is primary or replica now: role, from."),
    "server.started": Kind(I, "PostgreSQL takes connections here."),
    "server.stopped": Kind(W, "PostgreSQL does not run here any more."),
    "server.restarted": Kind(I, "An operator's restart of PostgreSQL here is done."),
    "server.reloaded": Kind(I, "PostgreSQL here was told to read its configuration again."),
    "server.full": Kind(E, "Every connection is taken, those for superusers too."),
    "server.forkless": Kind(E, "PostgreSQL cannot start a process for a session."),
    "server.writes-hang": Kind(E, "No WAL becomes durable any more."),
    "server.died-again": Kind(E, "PostgreSQL died by itself, more than once in a row."),
    "server.well": Kind(I, "What PostgreSQL suffered from is over."),
    "lease.lost": Kind(E, "The lease of this primary was not renewed in time."),
    "lease.regained": Kind(I, "It is renewed again."),
    "split_brain.seen": Kind(E, "A node contradicts the ledger."),
    "split_brain.over": Kind(I, "It does so no more."),
    "remedy.begun": Kind(W, "This follower gets nothing, and something is done about it."),
    "remedy.ended": Kind(I, "What was done about it has ended."),
    "slot.renewed": Kind(W, "A slot had lost its WAL and was made anew."),
    "slot.given-up": Kind(E, "A slot was given up, for want of room."),
    "archive.failing": Kind(W, "A file of WAL could not be archived; it is tried again."),
    "archive.works": Kind(I, "WAL is archived again."),
    "archive.gap": Kind(E, "A file of WAL was given up: no recovery leads across it."),
    "archive.made-up": Kind(I, "What the former primary had not archived is archived from here."),
    "vip.taken": Kind(I, "An address that moves is here now."),
    "vip.left": Kind(I, "It is here no more."),
    "vip.claimed": Kind(E, "Somebody else has an address that should be here."),
    "vip.failed": Kind(E, "An address cannot be put here."),
    "warden.killed": Kind(E, "The warden ended a server whose agent did not."),
    "member.amnesia": Kind(E, "This node lost its consensus store and waits for the others."),
    "member.readmitted": Kind(W, "It has a place again, and begins anew."),
    "promotion.vetoed": Kind(E, "The pre_promote hook refused: another node is asked."),
    "hook.done": Kind(D, "A hook's program ended well."),
    "hook.failed": Kind(W, "A hook's program failed, or was killed at its deadline."),
    "hook.superseded": Kind(I, "A hook's program was not run, or ended, for a newer change came."),
    "webhook.failing": Kind(W, "A receiver of webhooks does not take them; it is tried again."),
    "webhook.well": Kind(I, "It takes them again."),
    "webhook.refused": Kind(W, "It refused an event for good: that one is not sent again."),
    "webhook.lost": Kind(E, "Events were given up that it did not take in time."),
}
"""What one node noticed or did; the others do not know of it unless they ask."""


def level_of(kind: str, *, clusters: bool) -> Level:
    """The level of a kind; what is unknown is told as a warning rather than not at all."""
    found = (CLUSTER if clusters else NODE).get(kind)
    return found.level if found is not None else Level.WARNING


def page() -> str:
    """The reference page, from the tables."""
    parts = [
        "# Events",
        "",
        "Made by `./dev docs` from `src/pgherd/model/eventkinds.py`. How to follow and send them:"
        " [events and hooks](../operate/events.md).",
    ]
    for title, table, note in (
        ("Of the cluster", CLUSTER, "Every node has these, with the same id."),
        ("Of one node", NODE, "Told by the node that they name."),
    ):
        rows = [f"| `{name}` | {one.level.value} | {one.text} |" for name, one in table.items()]
        head = ["", f"## {title}", "", note, "", "| kind | level | meaning |", "|---|---|---|"]
        parts += [*head, *rows]
    return "\n".join(parts) + "\n"
