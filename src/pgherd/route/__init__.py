"""Which server a new session goes to, and which sessions must end. Pure.

Owns the routing snapshot and the choice. Leaves who makes the snapshot to the agent and every
socket to `relay`.
"""
