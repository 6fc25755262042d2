"""What may go into the archive of WAL, what may come out of it, and when a follower asks it.

Theory of operation. An archive is the one thing that all branches of a cluster share, and nothing
in it is ever taken back. So a segment goes there only once every later primary is sure to have all
of it: so many voters have flushed it that any set an elector seals meets them (inequality (Q) of
PROTOCOL.md 4, as for an acknowledged commit). An old primary that is cut off gets no such flushes,
and archives nothing. One that writes alone has its lease instead of voters.

Out of it comes only what is on the history that the ledger records: of an earlier timeline what
ends before that was left, of the present one what its leader says that it archived itself. And only
to a member that follows the leader of a stable term: not to one that promised a later term, so that
nothing is replayed behind a seal's back.
"""

from __future__ import annotations

from typing import NamedTuple

from pgherd.ledger.levels import FETCHES
from pgherd.ledger.lineage import forks_of
from pgherd.model import action as act
from pgherd.model.archive import SEGMENT_BYTES, WalFile, read_name
from pgherd.model.branch import Fork
from pgherd.model.facts import Facts, Mode, Phase
from pgherd.model.ids import MemberKey, format_lsn
from pgherd.model.observation import Observation, Server, ServerSeen
from pgherd.model.promises import Promises
from pgherd.model.remedy import Step
from pgherd.plan.following import leader_member
from pgherd.plan.own import Answer, MemberRule, Self, is_gone
from pgherd.plan.remedies import because, has_tried, is_fed


class Verdict(NamedTuple):
    """go · wait: not yet · skip: never, and it is not missed · halt: the archiver may end ·
    none: there is nothing to fetch. begins: of a history file that comes, where it must begin."""

    word: str
    why: str = ""
    begins: str = ""


GO = Verdict("go")


# --- into the archive -----------------------------------------------------------------------------


def may_go(
    facts: Facts,
    me: MemberKey,
    server: ServerSeen,
    name: str,
    *,
    has_lease: bool,
    segment_bytes: int = SEGMENT_BYTES,
) -> Verdict:
    """Whether this node's server may archive a file now. Pure.

    server: as of any look in this term, for what was flushed stays flushed.
    """
    file = read_name(name, segment_bytes)
    if file is None:
        return Verdict("skip", "it is no file of WAL")
    if facts.leader != me:
        return Verdict("halt", "this node does not lead")
    if facts.phase is not Phase.STABLE:
        return Verdict("wait", "its term is not stable")
    if server.state is not Server.PRIMARY:
        return Verdict("halt", "this node's server is no primary now")
    if alone(facts) and not has_lease:
        return Verdict("wait", "this node writes alone and has no lease")
    chain = forks_of(facts.history, facts.term)
    if file.timeline < server.timeline:
        return of_earlier(chain, file)
    if not file.whole or alone(facts):
        return GO
    return covered(facts, server, file)


def alone(facts: Facts) -> bool:
    """Whether no standby stands for what the leader writes."""
    return not facts.sync.voters or facts.mode is Mode.ASYNC


def of_earlier(chain: tuple[Fork, ...], file: WalFile) -> Verdict:
    """An earlier timeline is on this leader's own history up to where it was left."""
    left = left_at(chain, file)
    if left is None or file.is_history or not file.whole or file.ends <= left.begins:
        return GO
    return Verdict("skip", f"its timeline was left at {format_lsn(left.begins)}")


def left_at(chain: tuple[Fork, ...], file: WalFile) -> Fork | None:
    """The timeline that ended a file's own; None where the record has none.

    One of a reign that was never established has no number in the record, and ended it all the
    same.
    """
    numbers = [fork.timeline for fork in chain]
    if file.timeline in numbers:
        later = chain[numbers.index(file.timeline) + 1 :]
    elif is_older(chain, file):
        later = chain
    else:
        later = tuple(fork for fork in chain if fork.timeline > file.timeline)
    return later[0] if later else None


def is_older(chain: tuple[Fork, ...], file: WalFile) -> bool:
    """Whether a timeline was there before all that the record knows of."""
    return all(file.timeline < fork.timeline for fork in chain if fork.timeline)


def covered(facts: Facts, server: ServerSeen, file: WalFile) -> Verdict:
    """Any R members of V that are sealed must meet those that have flushed all of it."""
    sync = facts.sync
    needed = max(1, len(sync.voters) - sync.r + 1)
    have = {
        sender.member
        for sender in server.senders
        if sender.member in sync.voters
        and sender.term == facts.term
        and sender.flush_lsn >= file.ends
    }
    if len(have) >= needed:
        return GO
    return Verdict("wait", f"{len(have)} of {needed} voters have flushed it")


# --- out of the archive ---------------------------------------------------------------------------


def may_come(
    facts: Facts,
    promises: Promises,
    leader: Observation | None,
    name: str,
    *,
    rewinds: bool = False,
    segment_bytes: int = SEGMENT_BYTES,
) -> Verdict:
    """Whether a file may be fetched for this node's server now. Pure.

    leader: its fresh report · rewinds: pg_rewind reads it in a directory whose server is stopped,
    to find where the histories part; it replays nothing.
    """
    file = read_name(name, segment_bytes)
    if file is None:
        return Verdict("none", "it is no file of WAL")
    if facts.phase is not Phase.STABLE or facts.leader is None:
        return Verdict("none", "no term is stable")
    adopted = (facts.term, facts.leader.node) == (promises.adopted, promises.adopted_leader)
    follows = adopted and promises.frozen is None
    if promises.promise > facts.term or not (follows or rewinds):
        return Verdict("none", "this node does not follow the leader of the term now")
    if leader is None or file.timeline > leader.server.timeline:
        return Verdict("none", "the primary is not heard, or knows of no such timeline")
    last = read_name(leader.archive.last, segment_bytes)
    if file.timeline == leader.server.timeline and not is_archived(last, file):
        return Verdict("none", "the primary has not archived it")
    chain = forks_of(facts.history, facts.term)
    begins = {fork.timeline: format_lsn(fork.begins) for fork in chain}.get(file.timeline, "")
    if not begins and not is_older(chain, file):
        return Verdict("none", f"timeline {file.timeline} was opened by no term")
    left = of_earlier(chain, file)
    return Verdict("go", begins=begins) if left.word == "go" else Verdict("none", left.why)


def is_archived(last: WalFile | None, file: WalFile) -> bool:
    """Whether the leader has archived it itself; its history file goes before all segments.

    last: the newest segment that it says it has.
    """
    return last is not None and last.timeline == file.timeline and last.ends >= file.ends


# --- when a follower asks it ----------------------------------------------------------------------


def fetch(s: Self) -> Answer | None:
    """Its leader has removed what it needs: rather the archive than a new copy.

    Not beside programs that could not read a report which tells of it.
    """
    if s.facts.level < FETCHES or s.server.delay_ms or s.server.fed_at:
        return None  # a delayed one is sealed without replaying, and who cascades has its primary
    if not s.archive.can_fetch or s.server.fetches or has_tried(s, Step.FETCH):
        return None
    if s.facts.phase is not Phase.STABLE or not is_fed(s) or not is_gone(s):
        return None
    return f"lacks WAL{because(s)}: fetches it from the archive", use(s, fetches=True)


def end_fetch(s: Self) -> Answer | None:
    if not s.server.fetches or s.nostream or not is_fed(s) or s.leader_report is None:
        return None
    receiver = s.server.receiver
    if receiver is None or receiver.status != "streaming" or receiver.term != s.facts.term:
        return None
    return f"streams from {s.leader_report.node} again", use(s, fetches=False)


def use(s: Self, *, fetches: bool) -> act.Action | None:
    member, leader = leader_member(s), s.facts.leader
    if member is None or leader is None:
        return None
    host, port = member.address.postgres()
    return act.Fetch(term=s.facts.term, leader=leader, host=host, port=port, fetches=fetches)


RULES: tuple[MemberRule, ...] = (
    MemberRule(96, "A follower whose leader lacks the WAL that it needs asks the archive.", fetch),
    MemberRule(97, "One that streams again asks the archive for nothing more.", end_fetch),
)
