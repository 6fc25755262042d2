"""The replicated facts: commands, and the one pure function that applies them.

Owns what a command may change and when it is refused, the exactly-once table of clients, the
lineage of reigns and the sync-set inequality. Leaves what to propose to `plan` and how commands
travel to `raft` and the daemon. Pure and deterministic: the same log gives the same facts.
"""
