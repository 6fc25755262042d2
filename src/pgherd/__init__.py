"""pgherd keeps a PostgreSQL cluster writable and loses no acknowledged commit.

One room (sub-package) per idea; ARCHITECTURE.md is the map. This module owns only the version.
"""

__version__ = "0.1.0"
