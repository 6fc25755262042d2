"""The network between nodes: who does not hear whom, on which ports, how much of it (N).

Clients of the run reach every node all the while, but where a plug is pulled.
"""

from __future__ import annotations

import threading

from pgherd.chaos.fault import Kind, Needs, NotNow, Primitive, Scene, Strike, Undo

PART_SMALL = 600
"""Bytes of a packet that a black hole still lets through."""


def isolate(scene: Scene, name: str) -> Undo:
    return scene.network().cut((name, other) for other in scene.others(name))


def isolate_primary(scene: Scene) -> Undo:
    return isolate(scene, scene.primary())


def isolate_raft_leader(scene: Scene) -> Undo:
    return isolate(scene, scene.raft_leader())


def isolate_standby(scene: Scene) -> Undo:
    return isolate(scene, scene.standby())


def cut_off_standbys(scene: Scene) -> Undo:
    """No standby reaches the primary's server, while all agents reach each other."""
    name = scene.primary()
    ports = [place.ports.postgres for place in scene.herd.places.values()]
    return scene.network().cut(((name, other) for other in scene.others(name)), ports=ports)


def cut_off_peers(scene: Scene) -> Undo:
    """The primary's agent reaches no other, while clients and standbys reach its server."""
    name = scene.primary()
    ports = [place.ports.raft for place in scene.herd.places.values()]
    return scene.network().cut(((name, other) for other in scene.others(name)), ports=ports)


def mute(scene: Scene) -> Undo:
    """The primary is not heard, but hears."""
    name, network = scene.primary(), scene.network()
    return network.add([network.rule(name, other) for other in scene.others(name)])


def deafen(scene: Scene) -> Undo:
    """The primary is heard, but hears nobody."""
    name, network = scene.primary(), scene.network()
    return network.add([network.rule(other, name) for other in scene.others(name)])


def partial_mesh(scene: Scene) -> Undo:
    """The primary and one standby do not reach each other, though both reach the rest."""
    primary, standby = scene.primary(), scene.standby()
    return scene.network().cut([(primary, standby)])


def split_standbys(scene: Scene) -> Undo:
    """The standbys do not reach each other, though both reach the primary."""
    standbys = scene.others(scene.primary())
    if len(standbys) < 2:
        raise NotNow("there are no two standbys")
    a, b = (scene.aim(name) for name in scene.rng.sample(standbys, 2))
    return scene.network().cut([(a, b)])


def flapping(scene: Scene) -> Undo:
    """The primary's links go down and up."""
    name, over = scene.primary(), threading.Event()
    pauses = [scene.rng.uniform(0.3, 2.5) for _ in range(200)]

    def flap() -> None:
        for pause in pauses:
            undo = isolate(scene, name)
            over.wait(pause)
            undo()
            if over.wait(pause / 2):
                return

    thread = threading.Thread(target=flap, name="chaos-flapping", daemon=True)
    thread.start()

    def end() -> None:
        over.set()
        thread.join()

    return end


def lossy(scene: Scene) -> Undo:
    """Every tenth to third packet is lost, everywhere."""
    percent = scene.rng.randint(10, 30)
    return scene.network().everywhere(match=f"numgen random mod 100 < {percent}")


def reset(scene: Scene) -> Undo:
    """Every connection of the primary to other nodes is answered with a reset."""
    name, network = scene.primary(), scene.network()
    pairs = [way for other in scene.others(name) for way in ((name, other), (other, name))]
    verdict = "reject with tcp reset"
    return network.add(
        [network.rule(a, b, match="meta l4proto tcp", verdict=verdict) for a, b in pairs]
    )


def pull_out(scene: Scene) -> Undo:
    return scene.network().pull_out(scene.primary())


def black_hole(scene: Scene) -> Undo:
    """Large packets from and to the primary vanish, small ones pass."""
    name, network = scene.primary(), scene.network()
    pairs = [way for other in scene.others(name) for way in ((name, other), (other, name))]
    match = f"meta length > {PART_SMALL}"
    return network.add([network.rule(a, b, match=match) for a, b in pairs])


def narrow(scene: Scene) -> Undo:
    """A standby gets a megabit a second."""
    return scene.network().narrow(scene.standby(), rate="1mbit")


def kind(
    name: str,
    rows: tuple[int, ...],
    target: str,
    how: str,
    strike: Strike,
    *,
    hold_s: tuple[float, float] = (3.0, 12.0),
    fails_over: bool = False,
) -> Kind:
    """A kind that the router does and undoes."""
    return Kind(
        name=name,
        primitive=Primitive.NETWORK,
        rows=rows,
        target=target,
        how=how,
        undone="the router forgets it",
        strike=strike,
        needs=Needs.NETWORK,
        hold_s=hold_s,
        fails_over=fails_over,
    )


PRIMARY, STANDBY = "primary", "standby"
KINDS = (
    kind(
        "primary.isolated",
        (23, 33),
        PRIMARY,
        "dropped, both ways, to and from all nodes",
        isolate_primary,
        fails_over=True,
    ),
    kind(
        "raft.leader.isolated",
        (57,),
        "Raft leader",
        "dropped, both ways, to and from all nodes",
        isolate_raft_leader,
    ),
    kind(
        "standby.isolated",
        (57,),
        STANDBY,
        "dropped, both ways, to and from all nodes",
        isolate_standby,
    ),
    kind(
        "primary.cut_off.standbys",
        (25,),
        PRIMARY,
        "dropped on PostgreSQL's ports alone",
        cut_off_standbys,
    ),
    kind(
        "primary.cut_off.peers",
        (24,),
        PRIMARY,
        "dropped on Raft's ports alone",
        cut_off_peers,
        fails_over=True,
    ),
    kind(
        "network.one_way.out",
        (26,),
        PRIMARY,
        "dropped from it to the others",
        mute,
        fails_over=True,
    ),
    kind(
        "network.one_way.in",
        (26,),
        PRIMARY,
        "dropped from the others to it",
        deafen,
        fails_over=True,
    ),
    kind("network.partial", (27,), "primary and standby", "dropped between the two", partial_mesh),
    kind(
        "network.partial.standbys", (27,), "two standbys", "dropped between the two", split_standbys
    ),
    kind(
        "network.flaps",
        (28,),
        PRIMARY,
        "isolated again and again, 0.3 to 2.5 s each",
        flapping,
        hold_s=(8.0, 20.0),
    ),
    kind("network.bad", (29,), "all", "10 to 30 % of packets dropped", lossy),
    kind(
        "network.reset", (), PRIMARY, "its connections to nodes are reset", reset, fails_over=True
    ),
    kind("link.down", (32,), PRIMARY, "ip link down, for clients too", pull_out, fails_over=True),
    kind(
        "network.black_hole",
        (31,),
        PRIMARY,
        f"packets over {PART_SMALL} bytes dropped",
        black_hole,
    ),
    kind("network.narrow", (30,), STANDBY, "tbf, 1 Mbit/s towards it", narrow),
)
