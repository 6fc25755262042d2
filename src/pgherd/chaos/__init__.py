"""Chaos on real PostgreSQL: a herd in network namespaces, attacked under load and then judged.

Owns the machine below such a herd (`machine`, `networks`, `disks`, `groups`, `timers`), the table
of what is done to it (`kinds` and the rooms of each primitive), when (`schedule`), the run itself
(`run`) and how it is told (`timeline`, `report`). Leaves nodes, writers and the definition of
"lost" to `proof`, and the promise to the daemon, which knows nothing of this room.
"""
