"""The proxy: a process of its own that carries client sessions to the right server.

Owns listeners, sessions and the pump, and the local channel to the agent (both ends). Leaves who is
primary to the agent, the choice of a server to `route`, and the protocol's bytes to `wire`. It
decides nothing: it holds the last routing snapshot and obeys its deadline.
Lean on purpose: neither pydantic nor structlog nor psycopg is imported here.
"""
