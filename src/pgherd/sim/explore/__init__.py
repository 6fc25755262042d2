"""Small-scope exhaustive exploration of the safety protocol: every interleaving, no chance.

Owns an abstract PostgreSQL, disk and network of few nodes (`values`, `server`, `hands`), the search
(`engine`), scopes, invariants and planted mistakes. Production code: every change of the ledger
(`ledger.apply`, `ledger.rescue`), every decision (`plan.herd.decide`, `plan.member.decide`), the
order of positions and the record of reigns. Abstracted: consensus (one ledger that never forks, of
which each node knows any former state), time (limits are over whenever that allows more), reports
(the elector hears any part of the members during an election). Leaves long runs, real Raft, leases
and clocks to `sim`.

A deciding function is called once per different input: its answers are remembered by what it was
shown, and it is shown nothing else. Members are not taken for interchangeable: deciders break ties
by name, so that two states that differ in names only have different futures.
"""
