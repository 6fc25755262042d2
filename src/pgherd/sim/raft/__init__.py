"""The consensus core under simulated storms: `python -m pgherd.sim raft` (`./dev sim raft`).

Owns a group of 1 to 7 servers (the production `RaftNode` over the production memory twin of the
store), their clients and operator, the faults that strike them, the invariants I1 to I6 and their
kin (checker.py), and the mutants that show that each invariant would be noticed. Leaves every vote,
append and count to `pgherd.raft`: nothing of it is imitated here. A seed and a commit reproduce a
run.
"""
