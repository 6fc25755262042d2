"""Callbacks with real programs: what they are told, one at a time, killed in time, replaced."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from waiting import until

from pgherd.config.hooks import BeforePromotion, Hooks, Program
from pgherd.daemon.callbacks import Callbacks
from pgherd.daemon.happenings import PRIMARY, REPLICA, Happenings
from pgherd.daemon.preparing import GRACE_MS, VETO_MS, Preparation
from pgherd.model.event import Event
from pgherd.model.facts import Facts, Kind, Phase, Reign
from pgherd.model.ids import Instant, Lsn, MemberKey, NodeId, Position, Term
from pgherd.model.observation import Server, ServerSeen
from pgherd.model.standbycluster import Following, Remote
from pgherd.model.upkeep import Upkeep, Verb, Work, WorkState
from pgherd.telemetry.metrics import Metrics, RaftSeen

N1, N2 = NodeId("n1"), NodeId("n2")


class Told:
    """What a node's journal would get."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []

    def __call__(self, kind: str, text: str, *, fields: Any = None, **_: Any) -> None:
        self.events.append((kind, fields or {}))
        self.texts.append(text)

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]


def script(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def program(path: Path, *, deadline_ms: int = 20_000) -> Program:
    return Program.model_construct(command=(str(path), "extra"), deadline_ms=deadline_ms)


def event(what: str, /, *, index: int = 0, **fields: str) -> Event:
    return Event(
        at_ms=1,
        node=N1,
        kind=what,
        text="why",
        term=Term(4),
        rule=203,
        id=f"e{index}",
        fields=fields,
        index=index,
    )


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())


def callbacks(told: Told, kind: Kind = Kind.DATA, **programs: Program) -> Callbacks:
    hooks = Hooks.model_construct(**{**dict.fromkeys(Hooks.model_fields), **programs})
    metrics = Metrics(node=N1, version="1")
    return Callbacks(N1, hooks, kind=kind, cluster="main", happened=told, metrics=metrics)


def test_a_program_is_told_all_of_it(tmp_path: Path) -> None:
    """Action, role and cluster as arguments, the rest in the environment; its group is its own."""
    log, group_file = tmp_path / "log", tmp_path / "group"
    path = script(
        tmp_path / "told",
        f'echo "$@ $PGHERD_NODE $PGHERD_TERM $PGHERD_RULE $PGHERD_OLD_ROLE $PGHERD_EVENT" > {log}'
        f'\necho "$PGHERD_HOOK=$PGHERD_REASON"; (ps -o pgid= -p $$; echo $$) > {group_file}',
    )

    async def test() -> None:
        told = Told()
        made = callbacks(told, on_role_change=program(path))
        made.heed(event("role.changed", **{"role": PRIMARY, "from": REPLICA}), role=PRIMARY)
        made.heed(event("server.started"), role=PRIMARY)  # nobody wants to know
        await until(lambda: bool(told.events))
        assert log.read_text() == "extra on_role_change primary main n1 4 203 replica e0\n"
        group, pid = group_file.read_text().split()
        assert group == pid
        assert told.kinds == ["hook.done"]
        assert told.texts == ["on_role_change primary: exit code 0: on_role_change=why"]

    run(test)


def test_runs_are_counted_by_how_they_ended(tmp_path: Path) -> None:
    """`pgherd_hook_runs_total`, of each hook."""
    good, bad = script(tmp_path / "good", "exit 0"), script(tmp_path / "bad", "exit 3")

    async def test() -> None:
        told, metrics = Told(), Metrics(node=N1, version="1")
        programs = {"on_start": program(good), "on_stop": program(bad)}
        hooks = Hooks.model_construct(**{**dict.fromkeys(Hooks.model_fields), **programs})
        made = Callbacks(N1, hooks, kind=Kind.DATA, cluster="main", happened=told, metrics=metrics)
        for kind in ("server.started", "server.stopped", "server.started"):
            made.heed(event(kind), role=REPLICA)
        await until(lambda: len(told.events) == 3)
        raft = RaftSeen(1, "leader", 1, 1, has_quorum=True)
        page = metrics.render(facts=Facts(cluster="main"), reports={}, raft=raft).decode()
        assert 'pgherd_hook_runs_total{hook="on_start",result="done"} 2.0' in page
        assert 'pgherd_hook_runs_total{hook="on_stop",result="failed"} 1.0' in page

    run(test)


def test_a_program_is_killed_at_its_deadline_with_its_children(tmp_path: Path) -> None:
    """And a failed one is told as such; neither holds anything up."""
    pids = tmp_path / "pids"
    slow = script(tmp_path / "slow", f"sleep 600 & echo $$ $! > {pids}; wait")
    bad = script(tmp_path / "bad", "echo no address >&2; exit 3")

    async def test() -> None:
        told = Told()
        made = callbacks(told, on_start=program(slow, deadline_ms=500), on_stop=program(bad))
        made.heed(event("server.started"), role=REPLICA)
        made.heed(event("server.stopped"), role=REPLICA)
        await until(lambda: len(told.events) == 2)
        assert told.kinds == ["hook.failed", "hook.failed"]
        assert any("exit code 3: no address" in text for text in told.texts)
        assert any("did not end within 0.5 s" in text for text in told.texts)
        for pid in pids.read_text().split():
            await until(lambda pid=pid: not Path(f"/proc/{pid}").exists() or is_dead(pid))

    run(test)


def is_dead(pid: str) -> bool:
    """A zombie counts: whoever adopted it has not looked yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_newer_change_of_role_supersedes_the_older(tmp_path: Path) -> None:
    """The older program is killed, what waited in between is not run, and only one runs."""
    log = tmp_path / "log"
    path = script(
        tmp_path / "told", f'echo "$3" >> {log}; [ "$3" = primary ] && exec sleep 600; true'
    )

    async def test() -> None:
        told = Told()
        made = callbacks(told, on_role_change=program(path))
        made.heed(event("role.changed", role=PRIMARY), role=PRIMARY)
        await until(log.exists)
        made.heed(event("role.changed", role="lost"), role=PRIMARY)
        made.heed(event("role.changed", role=REPLICA), role=REPLICA)
        await until(lambda: "hook.done" in told.kinds)
        assert log.read_text().split() == ["primary", "replica"]
        assert told.kinds == ["hook.superseded", "hook.superseded", "hook.done"]

    run(test)


def test_other_hooks_wait_for_each_other_and_the_newest_is_told(tmp_path: Path) -> None:
    """One at a time: of two that wait, the older is passed over."""
    log, go = tmp_path / "log", tmp_path / "go"
    path = script(
        tmp_path / "told",
        f'echo "$PGHERD_EVENT" >> {log}; while [ ! -e {go} ]; do sleep 0.02; done',
    )

    async def test() -> None:
        told = Told()
        made = callbacks(told, on_reload=program(path))
        for index in (1, 2, 3):
            made.heed(replace(event("server.reloaded"), id=f"e{index}"), role=REPLICA)
        await until(log.exists)
        go.touch()
        await until(lambda: told.kinds.count("hook.done") == 2)
        assert log.read_text().split() == ["e1", "e3"]

    run(test)


def test_a_change_of_primary_is_told_on_every_node(tmp_path: Path) -> None:
    """By what brought it about, each with its own role; a witness is one."""
    log = tmp_path / "log"
    path = script(tmp_path / "told", f'echo "$2 $3 $PGHERD_OLD_PRIMARY $PGHERD_PRIMARY" >> {log}')

    async def test() -> None:
        for kind, role, way, to in (
            (Kind.DATA, PRIMARY, "switchover", "n1"),
            (Kind.DATA, REPLICA, "failover", "n2"),
            (Kind.WITNESS, "witness", "failover", "n2"),
        ):
            told = Told()
            made = callbacks(told, kind, on_switchover=program(path), on_failover=program(path))
            change = event("primary.changed", index=9, **{"kind": way, "from": "n3", "to": to})
            made.heed(change, role="")
            await until(lambda told=told: bool(told.events))
            assert log.read_text().split("\n")[-2] == f"on_{way} {role} n3 {to}"

    run(test)


def test_the_end_of_an_agent_waits_for_what_runs(tmp_path: Path) -> None:
    """For so long, and no longer."""
    log = tmp_path / "log"
    path = script(tmp_path / "told", f"sleep 0.2; echo done >> {log}")
    endless = script(tmp_path / "endless", "exec sleep 600")

    async def test() -> None:
        told = Told()
        made = callbacks(told, on_stop=program(path), on_start=program(endless))
        made.heed(event("server.stopped"), role=REPLICA)
        made.heed(event("server.started"), role=REPLICA)
        await made.finish(3.0)
        assert log.read_text() == "done\n"
        assert "hook.superseded" in told.kinds

    run(test)


# --- what happens to a server --------------------------------------------------------------------


def facts(leader: NodeId, phase: Phase = Phase.STABLE, **more: Any) -> Facts:
    return Facts(cluster="main", leader=MemberKey(leader, "a"), phase=phase, term=Term(2), **more)


def test_starts_stops_and_roles_of_a_server() -> None:
    """One event each, and none for an agent that finds its server as it was."""
    told, kept = Told(), []
    made = Happenings(N1, told, role="", keep=kept.append)
    made.look(facts(N2), ServerSeen(state=Server.NONE))
    assert told.events == []
    made.look(facts(N2), ServerSeen(state=Server.STARTING, pid=7))
    made.look(facts(N2), ServerSeen(state=Server.STANDBY, pid=7))
    made.look(facts(N2), ServerSeen(state=Server.STANDBY, pid=7))
    assert told.kinds == ["server.started", "role.changed"]
    made.look(facts(N1, Phase.ESTABLISHING), ServerSeen(state=Server.PRIMARY, pid=7))
    assert len(told.events) == 2
    made.look(facts(N1), ServerSeen(state=Server.PRIMARY, pid=7))
    assert told.events[-1] == (
        "role.changed",
        {"role": "primary", "from": "replica", "primary": "n1"},
    )
    made.look(facts(N1), ServerSeen(state=Server.HUNG, pid=7))
    made.look(facts(N1, Phase.ELECTING), ServerSeen(state=Server.STOPPED))
    assert told.events[-1] == ("server.stopped", {"role": "primary"})
    made.look(facts(N2), ServerSeen(state=Server.STOPPED))
    assert told.events[-1][1]["role"] == "replica"
    made.look(facts(N2), ServerSeen(state=Server.STANDBY, pid=8))
    assert told.events[-1] == ("server.started", {"role": "replica"})
    assert kept == ["replica", "primary", "replica"]
    again = Happenings(N1, told, role="replica", keep=kept.append)
    before = len(told.events)
    again.look(facts(N2), ServerSeen(state=Server.STANDBY, pid=8))
    assert len(told.events) == before
    late = Happenings(N1, told, role="primary", keep=kept.append)
    late.look(facts(N2), ServerSeen(state=Server.STANDBY, pid=8))
    assert told.events[-1][1] == {"role": "replica", "from": "primary", "primary": "n2"}


def test_a_standby_cluster_has_a_leader_of_its_own() -> None:
    """It streams from the remote primary; who programs ask for is standby_leader, as elsewhere."""
    told = Told()
    made = Happenings(N1, told, role="replica", keep=lambda role: None)
    remote = Remote(hosts=(("10.0.0.9", 5432),))
    for leader, role in ((N2, "replica"), (N1, "standby_leader"), (N2, "replica")):
        unborn = Facts(cluster="main", follows=Following(remote, leader=leader))
        made.look(unborn, ServerSeen(state=Server.STANDBY, pid=7))
        assert made.role == role
    assert [fields["role"] for _, fields in told.events] == ["standby_leader", "replica"]


def test_a_restart_that_was_asked_for_is_one_event() -> None:
    """Not a stop and a start; also where nobody looked in between."""
    work = Work(
        id="w",
        verb=Verb.RESTART,
        nodes=(N1,),
        requested_by="otto",
        asked_at_ms=1,
        state=WorkState.RUNNING,
        node=N1,
    )
    busy = facts(N2, upkeep=Upkeep(works=(work,)))
    for seen in ((Server.STOPPED, 0), None):
        told = Told()
        made = Happenings(N1, told, role="replica", keep=lambda role: None)
        made.look(facts(N2), ServerSeen(state=Server.STANDBY, pid=7))
        made.look(busy, ServerSeen(state=Server.STANDBY, pid=7))
        if seen is not None:
            made.look(busy, ServerSeen(state=seen[0], pid=seen[1]))
        made.look(busy, ServerSeen(state=Server.STANDBY, pid=8))
        assert told.kinds == ["server.restarted"]
        made.look(facts(N2), ServerSeen(state=Server.STANDBY, pid=8))
        made.look(facts(N2), ServerSeen(state=Server.STOPPED))
        assert told.kinds == ["server.restarted", "server.stopped"]


# --- before a promotion --------------------------------------------------------------------------


def reign(term: int, *, established: bool) -> Reign:
    return Reign(
        term=Term(term),
        leader=MemberKey(N2, "a"),
        start=Position(Term(0), Lsn(1)),
        promoted=True,
        rule=203,
        reason="",
        established=established,
    )


class Promoting:
    """A node that is about to be promoted in term 3, on a clock of its own."""

    def __init__(
        self, path: Path | None, *, deadline_ms: int = 20_000, first: bool = False
    ) -> None:
        self.now = 1_000
        self.told = Told()
        before = () if first else (reign(2, established=True),)
        history = (*before, reign(3, established=False))
        self.facts = replace(facts(N1, Phase.ESTABLISHING, history=history), term=Term(3))
        wanted = BeforePromotion.model_construct(command=(str(path),), deadline_ms=deadline_ms)
        self.preparation = Preparation(
            N1,
            Hooks.model_construct(pre_promote=wanted if path is not None else None),
            facts=lambda: self.facts,
            happened=self.told,
            metrics=Metrics(node=N1, version="1"),
            clock=lambda: Instant(self.now),
        )

    def before(self, term: int = 3) -> str:
        return asyncio.run(self.preparation.before(Term(term)))


def test_only_a_programs_own_word_refuses_a_promotion(tmp_path: Path) -> None:
    """Success goes on; so does a deadline, and a program that is not there."""
    log = tmp_path / "log"
    well = Promoting(script(tmp_path / "well", f'echo "$@ $PGHERD_OLD_PRIMARY" > {log}'))
    assert well.before() == ""
    assert log.read_text() == "pre_promote replica main n2\n"
    assert well.told.kinds == ["hook.done"]
    assert well.preparation.busy()
    well.now += GRACE_MS
    assert not well.preparation.busy()
    late = Promoting(script(tmp_path / "late", "exec sleep 600"), deadline_ms=300)
    assert late.before() == ""
    assert late.told.kinds == ["hook.failed"]
    assert "the promotion goes on" in late.told.texts[0]
    assert Promoting(tmp_path / "absent").before() == ""
    assert Promoting(None).before() == ""
    assert Promoting(tmp_path / "never-run", first=True).told.events == []


def test_a_refusal_counts_for_the_term_and_for_a_while(tmp_path: Path) -> None:
    """It is not asked twice in a term; the node is passed over until the time is up."""
    log = tmp_path / "log"
    node = Promoting(script(tmp_path / "no", f"echo x >> {log}; echo disk is old; exit 1"))
    text = "pre_promote refused the promotion: exit code 1: disk is old"
    assert node.before() == text
    assert node.before() == text
    assert log.read_text() == "x\n"
    assert node.told.kinds == ["promotion.vetoed"]
    assert node.preparation.veto() == text
    assert not node.preparation.busy()
    node.now += VETO_MS
    assert node.preparation.veto() == ""
    assert node.before(term=4) == text
    assert node.preparation.veto() == text
    node.preparation.forgive()
    assert node.preparation.veto() == ""
