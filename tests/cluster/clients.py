"""Clients that come in by the proxy of one node, by its place among all."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import psycopg

from pgherd.proof.herd import LocalHerd


def connect(herd: LocalHerd, node: int = 0, database: str = "postgres") -> psycopg.Connection[Any]:
    """A session as the superuser, at a node's proxy."""
    host, port = herd.proxy_of(herd.nodes[node])
    return psycopg.connect(
        host=host,
        port=port,
        user="postgres",
        password=herd.secrets.superuser,
        dbname=database,
        autocommit=True,
        connect_timeout=40,
    )


def pgbench(herd: LocalHerd, node: int, *words: str) -> subprocess.Popen[str]:
    """pgbench at a node's proxy."""
    host, port = herd.proxy_of(herd.nodes[node])
    login = {
        "PGHOST": host,
        "PGPORT": str(port),
        "PGUSER": "postgres",
        "PGPASSWORD": herd.secrets.superuser,
        "PGDATABASE": "postgres",
    }
    program = herd.psql().replace("psql", "pgbench")
    return subprocess.Popen(
        [program, "--no-vacuum", *words],
        env={**os.environ, **login},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
