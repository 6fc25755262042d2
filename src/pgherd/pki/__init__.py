"""Certificates, TLS contexts, secrets and join tokens: what trust between nodes rests on.

Owns the making and checking of them, and private files. Leaves the routes of `join` to `api`, and
who may join to `ledger`. `cryptography` is imported inside the functions that make certificates,
so that a running daemon never loads it.
"""
