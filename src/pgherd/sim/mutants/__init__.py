"""Planted errors: each takes one rule of the protocol away, and a named invariant must notice.

They are installed in the deciders, the ledger or the simulated hands while a run lasts, and never
exist in product code. A mutant brings the faults that make its window likely. The errors lie beside
each other by what they are errors of; `table` has them all, `search` runs them.
"""
