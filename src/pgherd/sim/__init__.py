"""The whole herd in one process: production consensus, ledger and deciders, simulated surroundings.

Owns the simulated clock, network, disk and PostgreSQL, the faults that strike them, the invariants
of PROTOCOL.md 10 and the mutants that show that those would be noticed. Leaves every decision to
`plan`, every fact to `ledger` and every vote to `raft`: nothing of these is imitated here. A
seed and a commit reproduce a run.
"""
