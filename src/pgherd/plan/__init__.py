"""The two deciders: what the herd should agree on next, and what one member should do next.

Owns the numbered rules. `herd` turns facts and reports into ledger commands (only on the Raft
leader); `member` turns facts and a node's own observation into one action for that node. Pure:
leaves committing to `raft` and the daemon, acting to `act`. Rule numbers are never re-used.
"""
