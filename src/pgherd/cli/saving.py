"""`pgherd raft snapshot save | restore`: the ledger in a file, and a new cluster from it.

Saving asks a daemon; restoring is for nodes whose daemons are stopped and whose consensus stores
are gone, in two steps: the first one only looks and says a word, the second one is told it. Owns
the questions and refusals around it. What is restored is `store.restoring`'s, and that no copy of
the data is overlooked afterwards is the ledger's: all that are left have to be sealed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pgherd.cli.app import Command, Common, asking
from pgherd.cli.client import REFUSED, NotConfirmed, own_file, read_settings
from pgherd.cli.output import Format, emit, line, say
from pgherd.cli.recovering import Alive, keep_member, who_answers
from pgherd.ledger import saved as ledger_file
from pgherd.model.errors import OperatorError, PgherdError
from pgherd.model.ids import NodeId, Term

if TYPE_CHECKING:
    from pgherd.config.settings import Settings
    from pgherd.ledger.saved import Saved
    from pgherd.store.base import Store
    from pgherd.store.restoring import Beginning

FILE_BYTES_MAX = 64 * 1024 * 1024
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The file of the ledger.")]


class HasStore(PgherdError):
    """There is something that a restored ledger would take the place of."""

    exit_code = REFUSED


@asking
def save(common: Common, file: FileArgument) -> None:
    """Keep ledger and membership in a file; there is no secret in it."""
    if file.exists():
        raise OperatorError(f"{file} is there already", "name another file")
    found = common.api().get("/raft/snapshot")
    ledger_file.parse(found["content"])
    from pgherd.pki.files import write_private

    try:
        write_private(file, found["content"].encode())
    except OSError as error:
        raise OperatorError(f"cannot write {file}: {error}", "name another file") from error
    if common.output is not Format.TABLE:
        emit({name: found[name] for name in found if name != "content"}, common.output)
        return
    line(f"{file}: ledger of {found['cluster']} up to index {found['raft_index']}")
    say("  it holds no data of PostgreSQL: that needs backups of its own")


def restore(
    file: FileArgument,
    config: Annotated[str | None, typer.Option("--config", "-c", help="This node's file.")] = None,
    lost: Annotated[
        list[str] | None,
        typer.Option("--lost", help="A member that will not come back; may be repeated."),
    ] = None,
    above_term: Annotated[
        int, typer.Option("--above-term", min=0, help="A term that the data has come to.")
    ] = 0,
    confirm: Annotated[
        str, typer.Option("--confirm", help="The second step: the word of the first.")
    ] = "",
    output: Annotated[Format, typer.Option("--output", "-o")] = Format.TABLE,
) -> None:
    """Begin a new cluster from a saved ledger, on every node that lost its consensus store."""
    from pgherd.store.restoring import begin, beginning

    path = own_file(config)
    settings = read_settings(path)
    saved = read(file)
    given_up = frozenset(NodeId(name) for name in lost or ())
    found = beginning(saved, lost=given_up, above=Term(above_term))
    me = require_member(found, settings)
    store = open_new(settings.raft.data_dir)
    try:
        incarnation = require_copy(found, settings)
        show(saved, found, me, output)
        if alive := who_answers(found.facts, me=me):
            raise Alive(alive, "stop pgherd everywhere: all are restored before one is started")
        if confirm != found.code:
            more = "".join(f" --lost {name}" for name in sorted(given_up))
            more += f" --above-term {above_term}" if above_term else ""
            why = f"{confirm} is not the word for this" if confirm else "nothing was changed yet"
            again = f"restore {file} --config {path}{more} --confirm {found.code}"
            raise NotConfirmed(why, f"pgherd raft snapshot {again}")
        began = begin(store, found, node=me, incarnation=incarnation)
        keep_member(settings.raft.data_dir, began)
    finally:
        store.close()
    say(f"{me} begins term {found.facts.term} with {', '.join(sorted(found.facts.members))}")
    say("  next: the same on the others, with the same file; then pgherd start on all of them")
    say("        whoever is not named as lost has to be there before a primary is elected")


def read(file: Path) -> Saved:
    """The saved ledger in a file."""
    try:
        if file.stat().st_size > FILE_BYTES_MAX:
            raise OperatorError(f"{file} is too large to be a saved ledger", ledger_file.ANOTHER)
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise OperatorError(f"cannot read {file}: {error}", ledger_file.ANOTHER) from error
    except UnicodeDecodeError as error:
        raise OperatorError(f"{file} is no saved ledger", ledger_file.ANOTHER) from error
    try:
        return ledger_file.parse(text)
    except OperatorError as error:
        raise OperatorError(f"{file}: {error.message}", error.hint) from error


def require_member(found: Beginning, settings: Settings) -> NodeId:
    """This node's name; it has to be of this cluster, and not given up."""
    me, cluster = NodeId(settings.node.name), found.facts.cluster
    if cluster != settings.cluster.name:
        raise OperatorError(
            f"the file is of cluster {cluster}, this node is of {settings.cluster.name}",
            "take the file of this cluster",
        )
    if me not in found.facts.members:
        raise OperatorError(
            f"{me} is not among the members to restore: {', '.join(sorted(found.facts.members))}",
            "restore those and start them; here, join anew: pgherd join",
        )
    return me


def open_new(directory: Path) -> Store:
    """An empty store. Whatever is left of an old one is for the operator to move away."""
    from pgherd.store.base import StoreDamaged
    from pgherd.store.sqlite import SqliteStore

    away = f"mv {directory} {directory}.old; or, where it is sound, see pgherd raft recover"
    try:
        store = SqliteStore(directory)
    except StoreDamaged as error:
        raise HasStore(f"there is a damaged consensus store in {directory}", away) from error
    identity = store.identity()
    if identity is None:
        return store
    store.close()
    raise HasStore(f"{identity.node} has its consensus store in {directory}", away)


def require_copy(found: Beginning, settings: Settings) -> str:
    """The incarnation of this node's copy, which has to be the one that the ledger knows."""
    facts, me = found.facts, NodeId(settings.node.name)
    known = facts.members[me].incarnation
    if not known:
        return ""
    import asyncio

    from pgherd.postgres.binaries import find
    from pgherd.postgres.datadir import DirKind, inspect
    from pgherd.postgres.identity import resolve

    pg = settings.postgresql
    user = resolve(pg.user)
    programs = find(str(pg.bin_dir), user=user)
    state = asyncio.run(
        inspect(pg.data_dir, binaries=programs, user=user, system_id=facts.system_id)
    )
    if state.kind is DirKind.UNUSABLE:
        raise OperatorError(state.problem, state.hint)
    if state.kind is DirKind.RUNNING or state.leftovers:
        raise OperatorError(
            f"PostgreSQL runs in {pg.data_dir}", "stop pgherd here: its end is PostgreSQL's too"
        )
    if state.incarnation != known:
        what = f"copy {state.incarnation}" if state.incarnation else "no copy"
        raise OperatorError(
            f"{me} has {what} of the data in {pg.data_dir}, the file knows {known}",
            f"give it up on every node: --lost {me}; later, here: pgherd join",
        )
    return known


def show(saved: Saved, found: Beginning, me: NodeId, form: Format) -> None:
    """What would be restored, and what is given up."""
    facts = found.facts
    lost = sorted(set(saved.facts.members) - set(facts.members))
    if form is not Format.TABLE:
        told = {
            "node": me,
            "cluster": facts.cluster,
            "saved": saved.saved,
            "saved_term": saved.facts.term,
            "term": facts.term,
            "members": sorted(facts.members),
            "lost": lost,
            "confirm": found.code,
        }
        emit(told, form)
        return
    line(f"file      ledger of cluster {facts.cluster}, saved {saved.saved}")
    line(f"ledger    term {saved.facts.term} in the file; it begins anew with term {facts.term}")
    line(f"members   {', '.join(sorted(facts.members))}; this one is {me}")
    line(f"needed    {', '.join(key.node for key in facts.sync.voters)}, all of them")
    line(f"given up  {', '.join(lost) or 'nobody'}")
    line(f"confirm   {found.code}; the same on every node, or it is another cluster")
    say("WARNING: this makes a NEW cluster. What the ledger learnt after it was saved is gone:")
    say("         members that joined later, changes of the replication mode, join tokens.")
    if lost:
        say("WARNING: acknowledged commits that only the given up nodes hold are lost for good.")


COMMANDS: dict[str, Command] = {"save": save, "restore": restore}
