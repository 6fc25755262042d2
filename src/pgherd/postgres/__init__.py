"""PostgreSQL as an object: one server with its data directory, files, processes and tools.

Owns everything that touches PostgreSQL's processes, configuration files, SQL catalogs and tools.
Leaves to others: what should be done (`plan`), when and under which promise (`act`, `daemon`), and
turning a `Look` into a report (`observe`). The door is `server.PostgresServer`.
"""
