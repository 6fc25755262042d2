"""Looking: turns what the local server and the peers show into observations.

Owns when to look and how probes become a `ServerSeen`. Leaves judging to `plan` and every change to
`act`.
"""
