"""The PostgreSQL protocol, as far as a relay and an agent must understand it (3.0 and 3.2).

Owns bytes to values and back: startup packets, cancel keys, error responses, and the client's side
of a plain session. Leaves sockets and time to `relay` and `postgres`, and which server to use to
`route`. Pure.
"""
