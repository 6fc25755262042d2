"""Secrets and the text of a join token: `pgherd1.` + base64url(msgpack + CRC-32).

The CRC only tells a badly copied token from a wrong one; it protects nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import zlib

import msgspec

from pgherd.model.errors import OperatorError

PREFIX = "pgherd1."
SECRET_BYTES = 24
TOKEN_CHARACTERS_MAX = 2048


class Invitation(msgspec.Struct, frozen=True, array_like=True):
    """What a join token says: whom to ask (host, API port), with what, and whom to trust."""

    host: str
    port: int
    id: str
    secret: str
    ca_sha256: str


class TokenInvalid(OperatorError):
    """The text is not a join token."""


_decoder = msgspec.msgpack.Decoder(Invitation)


def encode_token(invitation: Invitation) -> str:
    """The text that is pasted after `pgherd join`."""
    body = msgspec.msgpack.encode(invitation)
    body += zlib.crc32(body).to_bytes(4, "big")
    return PREFIX + base64.urlsafe_b64encode(body).rstrip(b"=").decode()


def decode_token(text: str) -> Invitation:
    """Read a token; TokenInvalid says what is wrong with it."""
    text = "".join(text.split())
    if not text.startswith(PREFIX) or len(text) > TOKEN_CHARACTERS_MAX:
        raise TokenInvalid("this is not a join token", "make one with: pgherd token create --join")
    encoded = text[len(PREFIX) :]
    damaged = TokenInvalid("the join token is damaged", "copy it again, whole, on one line")
    try:
        data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        body, crc = data[:-4], int.from_bytes(data[-4:], "big")
        if len(data) < 5 or zlib.crc32(body) != crc:
            raise damaged
        return _decoder.decode(body)
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise damaged from error


def new_secret() -> str:
    """A secret of 192 bits, as text."""
    return secrets.token_urlsafe(SECRET_BYTES)


def hash_secret(secret: str) -> str:
    """What is stored of a secret. It has full entropy, so one plain SHA-256 is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()


def secret_matches(secret: str, stored_sha256: str) -> bool:
    """Compare without telling by time how much of it is right."""
    return hmac.compare_digest(hash_secret(secret).encode(), stored_sha256.encode())
