"""The durable memory of a node: Raft log, hard state, snapshot, promises and identity.

Owns the port `Store` and its twins: `sqlite` for real disks, `memory` for simulation and tests.
Leaves what to store, and when, to `raft` and `daemon`. One contract suite runs on both twins.
"""
