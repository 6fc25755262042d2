"""What proves the promise: history checker, writers, and a herd of real processes on this machine.

Used by `pgherd demo`, the cluster tests and `bench/` alike, so that all three judge by one rule.
Owns the definition of "lost" (`history`), the load that can notice it (`writers`), the starting,
asking and breaking of local nodes (`herd`, `asking`, `layout`, `processes`) and what a trial is
(`trials`). Leaves what is shown of it to `cli` and `bench/`, and every promise to the daemon: it
imports no daemon code. A node is a process that it starts, an API that it asks and a PostgreSQL
that it queries, as a user would.
"""
