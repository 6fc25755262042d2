"""`pgherd raft readmit`: give up a node's own Raft store, so that the others re-admit the node.

For a store that is whole and of the past: the directory or the machine was set back. Two steps, for
a copy may run elsewhere, and then this is the wrong end to give up. Changes nothing but the note
that the store is lost; all else the daemon does when it starts (see docs/design/consensus.md).
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from pgherd.cli.client import NotConfirmed, own_file, read_settings
from pgherd.cli.output import Format, emit, line, say
from pgherd.model.errors import OperatorError
from pgherd.model.ids import NodeId, RaftId


def readmit(
    config: Annotated[str | None, typer.Option("--config", "-c", help="This node's file.")] = None,
    sure: Annotated[
        bool,
        typer.Option("--yes-nobody-else-runs-it", help="The second step: give the store up."),
    ] = False,
    output: Annotated[Format, typer.Option("--output", "-o")] = Format.TABLE,
) -> None:
    """Give up this node's Raft store, which was set back; the others re-admit the node."""
    from pgherd.daemon.memberfile import MemberFile, declare_lost, read_member
    from pgherd.store.directory import StoreDirectory

    path = own_file(config)
    settings = read_settings(path)
    if not settings.raft.data_dir.is_dir():
        raise OperatorError(f"there is no {settings.raft.data_dir}", "see raft.data_dir")
    node, cluster = NodeId(settings.node.name), settings.cluster.name
    held = StoreDirectory(settings.raft.data_dir)
    try:
        known = read_member(held.path, cluster=cluster, node=node) or MemberFile(cluster, node)
        show(described(known), output)
        if known.raft_id and not known.members:
            hint = "a store that is lost here is lost for good; keep the directory, and ask"
            raise OperatorError(f"{node} is the only member: nobody could re-admit it", hint)
        if not sure:
            again = f"pgherd raft readmit --config {path} --yes-nobody-else-runs-it"
            raise NotConfirmed("nothing was changed yet", again)
        # The operator's word, for what this old directory says of its Raft id may be old too.
        declare_lost(held.path, msgspec.structs.replace(known, raft_id=RaftId(0)))
    except OSError as error:
        raise OperatorError(f"cannot write there: {error.strerror}", "see raft.data_dir") from error
    finally:
        held.close()
    say(f"{node} has given up its Raft store; it is set aside once the others have a new place")
    say(f"  next: pgherd start --config {path}, then pgherd status")


def described(known: Any) -> dict[str, Any]:
    return {
        "node": known.node,
        "cluster": known.cluster,
        "raft_id": known.raft_id,
        "store": known.store,
        "others": sorted(seat.node for seat in known.members),
    }


def show(told: dict[str, Any], form: Format) -> None:
    """Whose store it is, and what giving it up means."""
    if form is not Format.TABLE:
        emit(told, form)
        return
    line(f"node      {told['node']} of cluster {told['cluster']}, Raft id {told['raft_id']}")
    line(f"store     {told['store'] or 'unknown'}")
    line(f"others    {', '.join(told['others']) or 'unknown here'}")
    say("make sure that no other machine runs as this node: a copy of it, or its original")
    say("  then this node forgets what it promised and comes back as a newcomer under its name;")
    say("  commits that only its copy of the data holds count no more, see pgherd status first")
