"""What SQL can do to a server, by accident or by hand (S), and what operators wish (O)."""

from __future__ import annotations

import threading
import time

import psycopg
from psycopg.conninfo import make_conninfo

from pgherd.chaos.fault import Kind, NotNow, Primitive, Scene, Strike, Undo
from pgherd.chaos.load import OUTSIDER
from pgherd.model.ids import NodeId, slot_name
from pgherd.proof.client import NoAnswer

TERMINATE_EVERY_S = 0.05
STOP_WITHIN_S = 30.0
CONNECTIONS_MAX = 300
SETTINGS = (
    ("restart_after_crash", "on"),
    ("primary_conninfo", "host=192.0.2.1"),
    ("recovery_min_apply_delay", "3s"),
    ("wal_retrieve_retry_interval", "1min"),
)
"""Those that safety or speed rests on and that ALTER SYSTEM could take from the agent."""

WAITING = "wait_event = 'SyncRep'"


def ask(scene: Scene, name: str, statement: str) -> list[tuple[object, ...]]:
    """Ask a server, which may be gone."""
    try:
        return scene.herd.query(name, statement)
    except psycopg.Error as error:
        raise NotNow(f"{name}: {error}".strip().splitlines()[0]) from error


def terminate(where: str) -> Strike:
    """For a while every session of a client that is seen in a state is ended."""

    def strike(scene: Scene) -> Undo:
        name, over = scene.primary(), threading.Event()
        statement = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
            f"backend_type = 'client backend' AND pid <> pg_backend_pid() AND {where} "
            "AND application_name = 'pgherd-proof'"
        )
        ask(scene, name, "SELECT 1")

        def hunt() -> None:
            try:
                with psycopg.connect(scene.herd.dsn_node(name), autocommit=True) as connection:
                    connection.execute(b"SET application_name = 'chaos'")
                    while not over.wait(TERMINATE_EVERY_S):
                        connection.execute(statement.encode())
            except psycopg.Error:
                pass  # it is no primary any more

        thread = threading.Thread(target=hunt, name="chaos-terminate", daemon=True)
        thread.start()

        def end() -> None:
            over.set()
            thread.join()

        return end

    return strike


def exhaust_connections(scene: Scene) -> Undo:
    """Every slot that is for ordinary roles is taken."""
    name = scene.primary()
    dsn = make_conninfo(scene.herd.dsn_node(name), user=OUTSIDER, application_name="chaos")
    held: list[psycopg.Connection[tuple[object, ...]]] = []
    try:
        while len(held) < CONNECTIONS_MAX:
            held.append(psycopg.connect(dsn, autocommit=True))
    except psycopg.Error:
        pass
    if not held:
        raise NotNow(f"{name} takes no connection")

    def undo() -> None:
        for connection in held:
            connection.close()

    return undo


def pause_replay(scene: Scene) -> Undo:
    name = scene.standby()
    ask(scene, name, "SELECT pg_wal_replay_pause()")

    def undo() -> None:
        try:
            scene.herd.query(name, "SELECT pg_wal_replay_resume() WHERE pg_is_in_recovery()")
        except psycopg.Error:
            pass  # it was started again, which ends the pause

    return undo


def drop_slot(scene: Scene) -> None:
    """Somebody ends a standby's walsender on the primary and drops its slot."""
    primary, standby = scene.primary(), scene.standby()
    slot = slot_name(NodeId(standby))
    end = (
        "SELECT pg_terminate_backend(active_pid, 2000) FROM pg_replication_slots "
        f"WHERE slot_name = '{slot}' AND active"
    )
    for _ in range(20):
        ask(scene, primary, end)
        try:
            scene.herd.query(primary, f"SELECT pg_drop_replication_slot('{slot}')")
            return
        except psycopg.Error:
            time.sleep(0.05)
    raise NotNow(f"the slot {slot} is held")


def alter_system(scene: Scene) -> Undo:
    """Somebody lays a setting of his own over one of ours, and reloads."""
    name = scene.primary() if scene.rng.random() < 0.5 else scene.standby()
    setting, value = scene.rng.choice(SETTINGS)
    scene.struck.append(f"{setting} = {value}")
    ask(scene, name, f"ALTER SYSTEM SET {setting} = '{value}'")
    ask(scene, name, "SELECT pg_reload_conf()")

    def undo() -> None:
        try:
            scene.herd.query(name, f"ALTER SYSTEM RESET {setting}")
            scene.herd.query(name, "SELECT pg_reload_conf()")
        except psycopg.Error:
            pass  # the agent takes it away before every start

    return undo


def promote(scene: Scene) -> None:
    """Somebody promotes a standby by hand, beside the primary that there is."""
    name = scene.standby()
    ask(scene, name, "SELECT pg_promote(false)")


def order(scene: Scene, path: str, body: dict[str, object]) -> None:
    """Ask the API for something; a refusal means that it cannot be now."""
    try:
        scene.herd.ask(path, method="POST", body=body, timeout_s=30.0)
    except NoAnswer as error:
        if error.status:
            raise NotNow(str(error).splitlines()[0]) from error


def switch_over(scene: Scene) -> None:
    scene.primary()
    order(scene, "/cluster/switchover", {})


def fail_over(scene: Scene) -> None:
    scene.primary()
    order(scene, "/cluster/failover", {"force": True})


def hasty(scene: Scene) -> None:
    """A switchover is ordered, and before it is done a failover."""
    first = threading.Thread(target=lambda: _quietly(switch_over, scene), daemon=True)
    first.start()
    time.sleep(scene.rng.uniform(0.02, 0.5))
    _quietly(fail_over, scene)
    first.join()


def switch_over_killed(scene: Scene) -> None:
    """A switchover is ordered, and in the middle of it the primary's postmaster is killed."""
    primary = scene.primary()
    first = threading.Thread(target=lambda: _quietly(switch_over, scene), daemon=True)
    first.start()
    time.sleep(scene.rng.uniform(0.02, 0.6))
    try:
        scene.herd.kill_postmaster(primary)
    except (OSError, ValueError, AssertionError):
        pass  # it has been stopped by the switchover
    first.join()


def restart_hosts(scene: Scene) -> None:
    """Every node is stopped in order and started, the primary after a switchover."""
    herd = scene.herd
    for name in herd.nodes:
        scene.aim(name)
        if herd.primary() == name:
            order(scene, "/cluster/switchover", {})
            herd.wait_primary(other_than=name)
        herd.terminate_node(name, within_s=STOP_WITHIN_S)
        herd.start_node(name)
        herd.wait_stable()


def _quietly(act: Strike, scene: Scene) -> None:
    try:
        act(scene)
    except NotNow:
        pass


S, O = Primitive.SQL, Primitive.OPERATOR  # noqa: E741 # the catalogue's letters
PRIMARY, STANDBY = "primary", "standby"
NOTHING = "nothing is to be undone"

KINDS = (
    Kind(
        "commits.terminated",
        S,
        (80,),
        PRIMARY,
        "pg_terminate_backend of commits that wait",
        "the hunt ends",
        terminate(WAITING),
    ),
    Kind(
        "sessions.terminated",
        S,
        (),
        PRIMARY,
        "pg_terminate_backend of all clients",
        "the hunt ends",
        terminate("true"),
        hold_s=(0.5, 2.0),
    ),
    Kind(
        "connections.exhausted",
        S,
        (15,),
        PRIMARY,
        "max_connections taken by an ordinary role",
        "they are closed",
        exhaust_connections,
        hold_s=(3.0, 8.0),
    ),
    Kind(
        "replay.paused",
        S,
        (78,),
        STANDBY,
        "pg_wal_replay_pause",
        "pg_wal_replay_resume",
        pause_replay,
        hold_s=(2.0, 8.0),
    ),
    Kind(
        "slot.dropped",
        S,
        (69,),
        "primary, of a standby",
        "pg_drop_replication_slot",
        "the agent makes it again",
        drop_slot,
    ),
    Kind(
        "settings.altered",
        S,
        (),
        "primary or standby",
        "ALTER SYSTEM and a reload",
        "ALTER SYSTEM RESET and a reload",
        alter_system,
    ),
    Kind(
        "server.promoted",
        S,
        (68,),
        STANDBY,
        "pg_promote by hand",
        "the agent's business",
        promote,
        hold_s=(3.0, 8.0),
        alone=True,
    ),
    Kind(
        "switchover",
        O,
        (),
        PRIMARY,
        "asked of the API",
        NOTHING,
        switch_over,
        hold_s=(1.0, 2.0),
    ),
    Kind(
        "failover",
        O,
        (),
        PRIMARY,
        "asked of the API, with force",
        NOTHING,
        fail_over,
        hold_s=(1.0, 2.0),
        fails_over=True,
    ),
    Kind(
        "operator.hasty",
        O,
        (),
        PRIMARY,
        "a switchover, and a failover before it is done",
        NOTHING,
        hasty,
        hold_s=(1.0, 3.0),
        fails_over=True,
    ),
    Kind(
        "switchover.killed",
        O,
        (65,),
        PRIMARY,
        "a switchover, and SIGKILL in the middle of it",
        "the agent starts it again",
        switch_over_killed,
        hold_s=(1.0, 3.0),
        fails_over=True,
    ),
    Kind(
        "hosts.restarted",
        O,
        (11,),
        "all in turn",
        "a switchover from the primary, SIGTERM to each daemon",
        "it is started",
        restart_hosts,
        hold_s=(0.5, 1.0),
        alone=True,
    ),
)
