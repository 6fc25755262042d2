"""The PostgreSQL protocol, as far as a relay must understand it (3.0 and 3.2).

Owns bytes to values and back: startup packets, cancel keys, error responses. Leaves sockets and
time to `relay` and which server to use to `route`. Pure.
"""
