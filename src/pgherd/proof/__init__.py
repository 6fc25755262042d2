"""What proves the promise: history checker, writers, and a herd of real processes on this machine.

Used by `pgherd demo`, the cluster tests and `bench/` alike, so that all three judge by one rule.
Owns the definition of "lost" (`history`), the load that can notice it (`writers`) and the starting,
breaking and stopping of local nodes (`herd`, `processes`). Imports no daemon code: a node is a
process that it starts, an API that it asks and a PostgreSQL that it queries, as a user would.
"""
