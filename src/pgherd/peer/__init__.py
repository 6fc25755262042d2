"""How nodes talk: Raft messages, reports and requests over mutual TLS, one port per node.

Owns connections, framing, names of the other side, reconnecting and queues that never grow without
limit. Leaves the meaning of a message to `raft`, `plan` and `daemon`: who may say what as which
Raft id is checked there.
"""
