"""Processes that are killed (K) or stopped for a while (P). Choosing and timing is `run`'s."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from pgherd.chaos.fault import Kind, NotNow, Primitive, Scene, Strike, Undo
from pgherd.proof import processes

BY_AGENT = "the agent starts it again"
BY_SUPERVISOR = "the supervisor starts it again"
BY_START = "its daemon is started"


def kill_primary_postmaster(scene: Scene) -> None:
    processes.send([scene.postmaster(scene.primary())], signal.SIGKILL)


def kill_standby_postmaster(scene: Scene) -> None:
    processes.send([scene.postmaster(scene.standby())], signal.SIGKILL)


def kill_all_servers(scene: Scene) -> None:
    """Every postmaster at once; no node of them is left to lead on."""
    pids = [scene.postmaster(scene.aim(name)) for name in scene.herd.data]
    processes.send(pids, signal.SIGKILL)


def kill_server_process(title: str, *, primary: bool) -> Strike:
    """One process of a server, by the word in its title."""

    def strike(scene: Scene) -> None:
        name = scene.primary() if primary else scene.standby()
        scene.postmaster(name)
        found = scene.herd.server_processes(name, title)
        if not found:
            raise NotNow(f"{name} has no {title}")
        processes.send([scene.rng.choice(found).pid], signal.SIGKILL)

    return strike


def crash(scene: Scene, *names: str) -> Undo:
    """Every process of some nodes, as a power cut does, but for what was not on disk."""
    for name in names:
        scene.herd.kill_node(name)

    def undo() -> None:
        for name in scene.rng.sample(names, len(names)):
            if not scene.herd.is_running(name):
                scene.herd.start_node(name)
            time.sleep(scene.rng.uniform(0, 1.5) if len(names) > 1 else 0)

    return undo


def crash_primary(scene: Scene) -> Undo:
    return crash(scene, scene.primary())


def crash_standby(scene: Scene) -> Undo:
    return crash(scene, scene.standby())


def crash_standbys(scene: Scene) -> Undo:
    """All but the primary: no synchronous standby is left, and no quorum."""
    primary = scene.herd.primary()
    if primary is None:
        raise NotNow("there is no primary")
    return crash(scene, *(scene.aim(name) for name in scene.others(primary)))


def crash_all(scene: Scene) -> Undo:
    return crash(scene, *(scene.aim(name) for name in scene.herd.nodes))


def kill_part(part: str, who: Callable[[Scene], str]) -> Strike:
    """A process of a daemon."""

    def strike(scene: Scene) -> None:
        processes.send([scene.herd.must_part(who(scene), part)], signal.SIGKILL)

    return strike


def crash_loop(scene: Scene) -> None:
    """An agent is killed again and again, hardly started."""
    name = scene.anybody()
    for _ in range(4):
        pid = scene.herd.part_pid(name, "agent")
        if pid is not None:
            processes.send([pid], signal.SIGKILL)
        time.sleep(scene.rng.uniform(0.1, 1.2))


def restart_daemons(scene: Scene) -> None:
    """Every daemon is killed and started in turn, its server goes on."""
    for name in scene.herd.nodes:
        killed = scene.herd.must_part(scene.aim(name), "agent")
        processes.send([killed], signal.SIGTERM)
        scene.wait(
            lambda name=name, killed=killed: (  # type: ignore[misc] # binds both
                scene.herd.part_pid(name, "agent") not in (None, killed)
            ),
            f"a new agent on {name}",
        )


def pause_node(who: Callable[[Scene], str]) -> Strike:
    """A whole node stands still: by its freezer group, or process by process."""

    def strike(scene: Scene) -> Undo:
        name = who(scene)
        scene.herd.silent.add(name)
        if name in scene.herd.groups:
            wake = scene.group(name).freeze(at_most_s=scene.at_most_s)
        else:
            pids = list(scene.herd.processes_of(name))
            wake = scene.herd.stop_processes(pids, at_most_s=scene.at_most_s)

        def undo() -> None:
            wake()
            scene.herd.silent.discard(name)

        return undo

    return strike


def pause_agent(who: Callable[[Scene], str]) -> Strike:
    """The agent stands still, its server and its proxy go on."""

    def strike(scene: Scene) -> Undo:
        name = who(scene)
        pid = scene.herd.must_part(name, "agent")
        scene.herd.silent.add(name)
        wake = scene.herd.stop_processes([pid], at_most_s=scene.at_most_s)

        def undo() -> None:
            wake()
            scene.herd.silent.discard(name)

        return undo

    return strike


def hang_server(scene: Scene) -> Undo:
    """The postmaster stands still: its port is open, nobody is let in; backends go on."""
    pid = scene.postmaster(scene.primary())
    return scene.herd.stop_processes([pid], at_most_s=scene.at_most_s)


def pause_walreceiver(scene: Scene) -> Undo:
    name = scene.standby()
    scene.postmaster(name)
    found = scene.herd.server_processes(name, "walreceiver")
    if not found:
        raise NotNow(f"{name} has no walreceiver")
    return scene.herd.stop_processes([found[0].pid], at_most_s=scene.at_most_s)


def stop_server(scene: Scene, name: str) -> Undo:
    """End a server and all its processes while its agent stands still; what wakes the agent."""
    scene.postmaster(name)
    agent = scene.herd.must_part(name, "agent")
    wake = scene.herd.stop_processes([agent], at_most_s=scene.at_most_s)
    try:
        scene.herd.kill_postmaster(name)
        scene.wait(
            lambda: not any(one.is_postgres for one in scene.herd.processes_of(name).values()),
            f"the end of the server of {name}",
        )
    except BaseException:
        wake()
        raise
    return wake


K, P = Primitive.KILL, Primitive.PAUSE
PRIMARY, STANDBY, ANY = "primary", "standby", "any node"
PROCESS_TITLES = (
    ("checkpointer", True, (2,), BY_AGENT),
    ("walsender", True, (2,), BY_AGENT),
    ("startup", False, (7,), BY_AGENT),
    ("walreceiver", False, (7,), BY_AGENT),
)


KILLED = "SIGKILL"
STOPPED = "SIGSTOP"
WOKEN = "SIGCONT, by a timer at the latest"

KINDS = (
    Kind(
        "primary.postmaster.killed",
        K,
        (1,),
        PRIMARY,
        f"{KILLED} to the postmaster",
        BY_AGENT,
        kill_primary_postmaster,
        fails_over=True,
    ),
    Kind(
        "standby.postmaster.killed",
        K,
        (7,),
        STANDBY,
        f"{KILLED} to the postmaster",
        BY_AGENT,
        kill_standby_postmaster,
    ),
    Kind(
        "servers.killed.all",
        K,
        (),
        "all",
        f"{KILLED} to every postmaster",
        BY_AGENT,
        kill_all_servers,
        fails_over=True,
        alone=True,
    ),
    Kind(
        "backend.killed",
        K,
        (2,),
        PRIMARY,
        f"{KILLED} to one client's backend",
        BY_AGENT,
        kill_server_process("postgres postgres", primary=True),
        fails_over=True,
    ),
    *(
        Kind(
            f"{title}.killed",
            K,
            rows,
            PRIMARY if leads else STANDBY,
            f"{KILLED} to the {title}",
            undone,
            kill_server_process(title, primary=leads),
            fails_over=leads,
        )
        for title, leads, rows, undone in PROCESS_TITLES
    ),
    Kind(
        "primary.node.crashed",
        K,
        (1,),
        PRIMARY,
        f"{KILLED} to every process",
        BY_START,
        crash_primary,
        hold_s=(3.0, 8.0),
        fails_over=True,
    ),
    Kind(
        "standby.node.crashed",
        K,
        (7,),
        STANDBY,
        f"{KILLED} to every process",
        BY_START,
        crash_standby,
        hold_s=(2.0, 8.0),
    ),
    Kind(
        "standbys.crashed.all",
        K,
        (54, 70),
        "all standbys",
        f"{KILLED} to every process of theirs",
        BY_START,
        crash_standbys,
        hold_s=(2.0, 12.0),
        alone=True,
    ),
    Kind(
        "all.crashed",
        K,
        (),
        "all",
        f"{KILLED} to every process of every node",
        "daemons are started one after another, in any order",
        crash_all,
        hold_s=(0.5, 3.0),
        fails_over=True,
        alone=True,
    ),
    Kind(
        "agent.killed",
        K,
        (3,),
        PRIMARY,
        f"{KILLED} to the agent",
        BY_SUPERVISOR,
        kill_part("agent", Scene.primary),
    ),
    Kind(
        "raft.leader.killed",
        K,
        (3,),
        "Raft leader",
        f"{KILLED} to the agent",
        BY_SUPERVISOR,
        kill_part("agent", Scene.raft_leader),
    ),
    Kind(
        "agent.crash_loop",
        K,
        (3,),
        ANY,
        f"{KILLED} to the agent, four times",
        BY_SUPERVISOR,
        crash_loop,
    ),
    Kind(
        "agents.restarted",
        K,
        (10,),
        "all in turn",
        "SIGTERM to each agent",
        BY_SUPERVISOR,
        restart_daemons,
        alone=True,
    ),
    Kind(
        "proxy.killed",
        K,
        (),
        ANY,
        f"{KILLED} to the proxy",
        BY_SUPERVISOR,
        kill_part("proxy", Scene.anybody),
    ),
    Kind(
        "primary.node.paused",
        P,
        (5,),
        PRIMARY,
        "its freezer group, or SIGSTOP to all of it",
        "thawed, by a timer at the latest",
        pause_node(Scene.primary),
        hold_s=(3.0, 15.0),
        fails_over=True,
        alone=True,
    ),
    Kind(
        "node.paused",
        P,
        (8,),
        STANDBY,
        "its freezer group, or SIGSTOP to all of it",
        "thawed, by a timer at the latest",
        pause_node(Scene.standby),
        hold_s=(2.0, 10.0),
        alone=True,
    ),
    Kind(
        "agent.paused",
        P,
        (4,),
        PRIMARY,
        f"{STOPPED} to the agent",
        WOKEN,
        pause_agent(Scene.primary),
        hold_s=(2.0, 15.0),
        fails_over=True,
    ),
    Kind(
        "raft.leader.paused",
        P,
        (61,),
        "Raft leader",
        f"{STOPPED} to the agent",
        WOKEN,
        pause_agent(Scene.raft_leader),
        hold_s=(2.0, 12.0),
    ),
    Kind(
        "server.hung",
        P,
        (16,),
        PRIMARY,
        f"{STOPPED} to the postmaster",
        WOKEN,
        hang_server,
        hold_s=(4.0, 12.0),
        fails_over=True,
    ),
    Kind(
        "walreceiver.paused",
        P,
        (8,),
        STANDBY,
        f"{STOPPED} to the walreceiver",
        WOKEN,
        pause_walreceiver,
        hold_s=(2.0, 10.0),
    ),
)
