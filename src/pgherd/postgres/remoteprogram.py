"""Asks replication servers who they are; a program of its own, so that no agent keeps libpq loaded.

argv: connection strings, without passwords (those are in the passfile that they name). Prints what
each said as JSON, up to the first one that is a primary.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from psycopg import pq


def main(argv: list[str]) -> None:
    """Ask one after the other."""
    said = []
    for text in argv:
        said.append(ask(text))
        if said[-1].get("is_primary"):
            break
    json.dump(said, sys.stdout)


def ask(conninfo: str) -> dict[str, Any]:
    """What one server says, or its problem."""
    connection = pq.PGconn.connect(conninfo.encode())
    try:
        if connection.status != pq.ConnStatus.OK:
            return {"problem": words(connection.error_message)}
        who = connection.exec_(b"IDENTIFY_SYSTEM")
        if who.status != pq.ExecStatus.TUPLES_OK:
            return {"problem": words(who.error_message)}
        system, timeline, lsn = (text(who, column) for column in range(3))
        found: dict[str, Any] = {
            "system_id": system,
            "timeline": int(timeline),
            "lsn": lsn,
            "is_primary": connection.parameter_status(b"in_hot_standby") == b"off",
        }
        if int(timeline) > 1:
            history = connection.exec_(f"TIMELINE_HISTORY {int(timeline)}".encode())
            if history.status != pq.ExecStatus.TUPLES_OK:
                return {"problem": words(history.error_message)}
            found["history"] = text(history, 1)
        return found
    finally:
        connection.finish()


def text(result: Any, column: int) -> str:
    return (result.get_value(0, column) or b"").decode(errors="replace")


def words(message: bytes) -> str:
    lines = [line.strip() for line in message.decode(errors="replace").splitlines()]
    return "; ".join(line for line in lines if line)


if __name__ == "__main__":
    main(sys.argv[1:])
