"""The nouns of pgherd: immutable values that every other room speaks in.

Owns names, positions, facts, observations, plans and events as frozen values. Leaves every
decision to `plan`, every fact's change to `ledger`, and everything that touches the world to the
rooms above. Pure: time, randomness and identity arrive as arguments.
"""
