"""SCRAM-SHA-256 verifiers (RFC 5803), so that no password is ever sent to PostgreSQL in clear.

Pure; the salt arrives as an argument.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode

ITERATIONS = 4096
SALT_BYTES = 16


def verifier(password: str, *, salt: bytes, iterations: int = ITERATIONS) -> str:
    """What PostgreSQL stores for a password, in the form of pg_authid.rolpassword."""
    assert password.isascii(), "SASLprep is only the identity for ASCII"
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client = hmac.digest(salted, b"Client Key", "sha256")
    stored = hashlib.sha256(client).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${iterations}:{_text(salt)}${_text(stored)}:{_text(server)}"


def matches(stored: str, password: str) -> bool:
    """Whether a stored verifier was made from this password."""
    try:
        scheme, parameters, _keys = stored.split("$")
        iterations, salt = parameters.split(":")
        mine = verifier(password, salt=b64decode(salt), iterations=int(iterations))
    except ValueError:
        return False
    return scheme == "SCRAM-SHA-256" and hmac.compare_digest(stored, mine)


def _text(data: bytes) -> str:
    return b64encode(data).decode()
