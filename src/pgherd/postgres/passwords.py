"""What a server keeps of its roles' passwords (pg_authid), read for those who check them.

Uses a session that nothing else uses, opened by the first question: it must not wait behind a look
at a busy server, nor make one wait. It is one of the server's own, which a closing gate spares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from pgherd.postgres.server import PostgresServer

READ_S = 1.5
READ_SQL = (
    "SELECT rolname::text, coalesce(rolpassword, '') FROM pg_authid WHERE rolname = ANY($1::text[])"
)


class Stored(msgspec.Struct, frozen=True):
    """stored: role -> its password as PostgreSQL keeps it, "" for none; only roles that exist ·
    mock_nonce: of this cluster, the same on all its copies.
    """

    stored: dict[str, str]
    mock_nonce: bytes

    def __repr__(self) -> str:
        """Without what is stored: a repr ends up in logs."""
        return f"Stored({len(self.stored)} roles)"


async def read_passwords(server: PostgresServer, roles: tuple[str, ...]) -> Stored:
    """What is stored now of those roles that exist. Raises PostgresError."""
    rows = await server.reading.rows(READ_SQL, [list(roles)], timeout_s=READ_S, again=True)
    nonce = bytes.fromhex(server.control.mock_nonce) if server.control is not None else b""
    return Stored(dict(rows), nonce)
