"""The REST API of a node: what people and programs see of the herd, and what they may ask for.

Owns routes, the public contract (`schema`), who may do what (`guard`), the form of errors
(`failures`) and what a status means (`views`, pure). Speaks to the agent only through the port in
`herd`. Leaves every decision to the deciders and every change to the ledger.
"""
