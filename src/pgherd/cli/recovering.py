"""`pgherd raft recover`: go on with one node after the majority is lost for good. In two steps.

The first step only looks, and says what to compare with the other nodes' directories; the second
rewrites this node's consensus store. Owns the questions and the refusals around it; what is kept
is `store.rescue`'s. The daemon must be stopped here, and nobody else may answer.
"""

from __future__ import annotations

import shutil
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pgherd.cli.client import REFUSED, NotConfirmed, own_file, read_settings
from pgherd.cli.output import Format, emit, line, say
from pgherd.model.errors import OperatorError, PgherdError

if TYPE_CHECKING:
    from pgherd.model.facts import Facts
    from pgherd.model.ids import NodeId
    from pgherd.store.base import Identity
    from pgherd.store.rescue import Found

TRY_S = 1.0


class Alive(PgherdError):
    """Somebody else is there: this is no lost quorum, or not yet."""

    exit_code = REFUSED


def recover(
    config: Annotated[str | None, typer.Option("--config", "-c", help="This node's file.")] = None,
    keep: Annotated[
        bool, typer.Option("--keep-this-node", help="Go on from this node's copy.")
    ] = False,
    compared: Annotated[
        bool, typer.Option("--yes-i-compared", help="The second step: do it, give the rest up.")
    ] = False,
    output: Annotated[Format, typer.Option("--output", "-o")] = Format.TABLE,
) -> None:
    """Go on with this node alone after the majority is lost for good."""
    from pgherd.store.sqlite import SqliteStore

    path = own_file(config)
    directory = read_settings(path).raft.data_dir
    if not (directory / "store.sqlite").exists():
        raise OperatorError(f"there is no consensus store in {directory}", "see raft.data_dir")
    again = f"pgherd raft recover --config {path} --keep-this-node --yes-i-compared"
    store = SqliteStore(directory)
    try:
        from pgherd.store.rescue import look, rescue

        found = look(store)
        show(found, output)
        if alive := who_answers(found.facts, me=found.identity.node):
            hint = (
                "start this node, and look: pgherd status; who is to be given up is stopped first"
            )
            raise Alive(f"{alive}: it is not lost", hint)
        if not keep or not compared:
            raise NotConfirmed("nothing was changed yet", again)
        kept = keep_copy(directory)
        facts = rescue(store, found, at_ms=int(time.time() * 1000))
        keep_member(directory, found.identity)
    finally:
        store.close()
    say(f"{found.identity.node} is the only member now; term {facts.term} elects from its copy")
    say(f"the store as it was: {kept}")
    say(f"  next: pgherd start --config {path}, then pgherd add-node for each new one")
    say("        never start a lost node again with its old directories: they belong to the past")


def keep_member(directory: Path, one: Identity) -> None:
    """This store counts from now on, also if it had been given up; the others are gone."""
    from pgherd.daemon.memberfile import MemberFile, write_member

    write_member(directory, MemberFile(one.cluster, one.node, one.raft_id, one.store_incarnation))


def show(found: Found, form: Format) -> None:
    """Where this node's log and copy end, and what is lost with the others."""
    told = described(found)
    if form is not Format.TABLE:
        emit(told, form)
        return
    line(f"node      {told['node']} of cluster {told['cluster']}, Raft id {told['raft_id']}")
    line(f"log       ends at {told['position']} (Raft term.index), committed {told['commit']}")
    line(f"ledger    term {told['term']} is {told['phase']}, primary {told['primary'] or 'none'}")
    line(f"promises  term {told['promised']}, copy {told['incarnation']}")
    line(f"given up  {', '.join(told['lost']) or 'nobody'}")
    say("WARNING: acknowledged commits that only the given up nodes hold will be lost for good.")
    say(
        "compare: run this on every other node that still has its directories, with pgherd stopped;"
    )
    say("         go on only where the log ends at the greatest position, by term, then index;")
    say("         where positions are equal, prefer the node that the ledger names as primary")


def described(found: Found) -> dict[str, Any]:
    facts, identity = found.facts, found.identity
    return {
        "node": identity.node,
        "cluster": identity.cluster,
        "raft_id": identity.raft_id,
        "position": found.position,
        "commit": found.commit,
        "term": facts.term,
        "phase": facts.phase.value,
        "primary": facts.leader.node if facts.leader is not None else None,
        "promised": found.promises.promise,
        "incarnation": found.promises.incarnation,
        "lost": sorted(set(facts.members) - {identity.node}),
    }


def who_answers(facts: Facts, *, me: NodeId) -> str:
    """Which other member's daemon answers, and where; "" when none does."""
    for node, member in sorted(facts.members.items()):
        if node == me:
            continue
        host, port = member.address.raft()
        try:
            socket.create_connection((host, port), timeout=TRY_S).close()
        except OSError:
            continue
        return f"{node} answers at {host}:{port}"
    return ""


def keep_copy(directory: Path) -> Path:
    """A copy of the whole store beside it, before anything changes."""
    kept = directory.with_name(f"{directory.name}.before-recover-{int(time.time())}")
    try:
        shutil.copytree(directory, kept)
    except OSError as error:
        raise OperatorError(f"cannot copy the store to {kept}: {error}", "make room") from error
    return kept
