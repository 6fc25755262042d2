"""One node's settings: read from YAML and environment, checked whole, compared and explained.

Owns the keys, their units, defaults, lower limits and reload classes (`settings`), reading with
line numbers (`source`, `load`), the difference of two settings (`reload`), the commented example
(`generate`) and the reference page (`reference`). Leaves applying a change to `daemon`, and every
cluster-wide fact to `ledger`. Imports nothing here, so that the supervisor stays small.
"""
