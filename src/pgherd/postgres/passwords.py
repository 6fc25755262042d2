"""What a server keeps of its roles' passwords (pg_authid), read for those who check them.

Owns one session of its own, which is opened by the first question: it must not wait behind a look
at a busy server, nor make one wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pgherd.postgres.session import Session

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


class Passwords:
    """Of one server."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._session = Session(server.login, statement_timeout_ms=int(READ_S * 1000))

    async def read(self, roles: tuple[str, ...]) -> Stored:
        """What is stored now. Raises PostgresError."""
        rows = await self._session.rows(READ_SQL, [list(roles)], timeout_s=READ_S, again=True)
        control = self._server.control
        nonce = bytes.fromhex(control.mock_nonce) if control is not None else b""
        return Stored(dict(rows), nonce)

    async def close(self) -> None:
        """End the session."""
        await self._session.close()
