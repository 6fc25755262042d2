"""SCRAM-SHA-256: verifiers, and both ends of the exchange (RFC 5802, 7677; 5929 for the binding).

Pure; salts and nonces arrive as arguments. A verifier is what PostgreSQL keeps for a password
(pg_authid.rolpassword). It proves a client without being enough to pose as one: that takes the
client key, which is in no verifier but follows from a right proof. A proxy that has checked one
can therefore log in to the server in the client's name, and never learns the password.

    client                                  server
    n,,n=,r=NONCE                 ->
                                  <-        r=NONCE+MORE,s=SALT,i=COUNT
    c=BINDING,r=NONCE+MORE,p=PROOF ->                     proof = client key XOR signature
                                  <-        v=SIGNATURE
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode

import msgspec

from pgherd.wire.startup import ProtocolViolation

MECHANISM = "SCRAM-SHA-256"
MECHANISM_PLUS = "SCRAM-SHA-256-PLUS"
ITERATIONS = 4096
SALT_BYTES = 16
NONCE_BYTES = 18
KEY_BYTES = 32
MESSAGE_BYTES_MAX = 1024
"""Longest message of an exchange (PG_MAX_SASL_MESSAGE_LENGTH of PostgreSQL)."""

_BINDING = "p=tls-server-end-point"
_NOT_SUPPORTED = "0A000"
_NOT_AUTHORISED = "28000"


class WrongProof(Exception):
    """The other end does not know the password."""


class Keys(msgspec.Struct, frozen=True):
    """What a login takes instead of a password, and what the server's answer is checked with."""

    client: bytes
    server: bytes

    def __repr__(self) -> str:
        """Without the keys: a repr ends up in logs."""
        return "Keys(...)"

    @property
    def stored(self) -> bytes:
        """What the server keeps of the client key."""
        return hashlib.sha256(self.client).digest()


class Verifier(msgspec.Struct, frozen=True):
    """A verifier, taken apart."""

    iterations: int
    salt: bytes
    stored: bytes
    server: bytes

    def __repr__(self) -> str:
        """Without the keys: a repr ends up in logs."""
        return "Verifier(...)"


def keys_of(password: str, *, salt: bytes, iterations: int) -> Keys:
    """The keys that follow from a password; slow on purpose."""
    assert password.isascii(), "SASLprep is only the identity for ASCII"
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    return Keys(
        hmac.digest(salted, b"Client Key", "sha256"), hmac.digest(salted, b"Server Key", "sha256")
    )


def verifier(password: str, *, salt: bytes, iterations: int = ITERATIONS) -> str:
    """What PostgreSQL stores for a password, in the form of pg_authid.rolpassword."""
    keys = keys_of(password, salt=salt, iterations=iterations)
    return f"{MECHANISM}${iterations}:{_text(salt)}${_text(keys.stored)}:{_text(keys.server)}"


def matches(stored: str, password: str) -> bool:
    """Whether a stored verifier was made from this password."""
    known = parse(stored)
    if known is None:
        return False
    mine = keys_of(password, salt=known.salt, iterations=known.iterations)
    return hmac.compare_digest(mine.stored + mine.server, known.stored + known.server)


def parse(stored: str) -> Verifier | None:
    """Take a verifier apart; None for anything else that PostgreSQL may keep as a password."""
    try:
        scheme, parameters, keys = stored.split("$")
        iterations, salt = parameters.split(":")
        client, server = keys.split(":")
        known = Verifier(int(iterations), _bytes(salt), _bytes(client), _bytes(server))
    except ValueError:
        return None
    is_whole = len(known.stored) == len(known.server) == KEY_BYTES and known.iterations > 0
    return known if scheme == MECHANISM and is_whole else None


def mock(user: bytes, nonce: bytes) -> Verifier:
    """What a user without a verifier is asked, so that nobody learns which users there are.

    nonce: the server's own (mock_authentication_nonce in pg_control), which makes this the very
    salt that PostgreSQL would show (scram_mock_salt in auth-scram.c). No proof fits it.
    """
    salt = hashlib.sha256(user + nonce).digest()[:SALT_BYTES]
    return Verifier(ITERATIONS, salt, bytes(KEY_BYTES), bytes(KEY_BYTES))


def mechanisms(end_point: bytes) -> tuple[str, ...]:
    """What to offer. end_point: hash of our certificate, b"" where no binding is possible."""
    return (MECHANISM_PLUS, MECHANISM) if end_point else (MECHANISM,)


class ScramServer:
    """The end that has the verifier; `first` and `final` take the client's messages in turn.

    nonce: printable text that nobody can guess · end_point: as for `mechanisms`.
    """

    def __init__(self, known: Verifier, *, nonce: str, end_point: bytes = b"") -> None:
        self._known = known
        self._nonce = nonce
        self._end_point = end_point
        self._binding = b""
        self._said = ""

    def first(self, mechanism: str, message: bytes) -> bytes:
        """Answer the client's first message. Raises ProtocolViolation."""
        if mechanism not in mechanisms(self._end_point):
            raise ProtocolViolation("client selected an invalid SASL authentication mechanism")
        flag, authzid, bare = _split(_decoded(message), 3)
        self._bind(flag, is_plus=mechanism == MECHANISM_PLUS)
        if authzid:
            raise ProtocolViolation("client uses authorization identity", _NOT_SUPPORTED)
        name, nonce, *_extensions = bare.split(",")
        if name.startswith("m="):
            raise ProtocolViolation("client requires a SCRAM extension", _NOT_SUPPORTED)
        _attribute(name, "n")
        theirs = _attribute(nonce, "r")
        if not theirs or not all("!" <= each <= "~" for each in theirs):
            raise ProtocolViolation("malformed SCRAM message: nonce is not printable")
        self._nonce = theirs + self._nonce
        known = self._known
        answer = f"r={self._nonce},s={_text(known.salt)},i={known.iterations}"
        self._said = f"{bare},{answer}"
        return answer.encode()

    def final(self, message: bytes) -> tuple[bytes, Keys]:
        """Check the proof. The answer and the client's keys; raises WrongProof."""
        text = _decoded(message)
        unproven, found, proof = text.rpartition(",p=")
        binding, nonce, *_extensions = unproven.split(",") if found else ("", "")
        if not found or _attribute(nonce, "r") != self._nonce:
            raise ProtocolViolation("malformed SCRAM message: nonce does not match")
        if _base64(_attribute(binding, "c")) != self._binding:
            raise ProtocolViolation("SCRAM channel binding check failed", _NOT_AUTHORISED)
        spoken = f"{self._said},{unproven}".encode()
        signature = hmac.digest(self._known.stored, spoken, "sha256")
        client = _xor(_key(proof), signature)
        if not hmac.compare_digest(hashlib.sha256(client).digest(), self._known.stored):
            raise WrongProof
        answer = hmac.digest(self._known.server, spoken, "sha256")
        return f"v={_text(answer)}".encode(), Keys(client, self._known.server)

    def _bind(self, flag: str, *, is_plus: bool) -> None:
        if is_plus != (flag == _BINDING):
            raise ProtocolViolation("malformed SCRAM message: channel binding and mechanism differ")
        if flag not in ("n", "y", _BINDING):
            raise ProtocolViolation("malformed SCRAM message: unknown channel binding")
        if flag == "y" and self._end_point:
            raise ProtocolViolation("SCRAM channel binding negotiation error", _NOT_AUTHORISED)
        self._binding = f"{flag},,".encode() + (self._end_point if is_plus else b"")


class ScramClient:
    """The end that has the keys.

    end_point: hash of the server's certificate where the binding shall be used, else b"".
    """

    def __init__(self, keys: Keys, *, nonce: str, end_point: bytes = b"", user: str = "") -> None:
        self._keys = keys
        self._nonce = nonce
        self._header = f"{_BINDING if end_point else 'n'},,"
        self._binding = self._header.encode() + end_point
        self._bare = f"n={user},r={nonce}"
        self._answer = b""
        self.mechanism = MECHANISM_PLUS if end_point else MECHANISM

    def first(self) -> bytes:
        """Our first message. PostgreSQL takes the user from the startup packet, not from here."""
        return (self._header + self._bare).encode()

    def final(self, message: bytes) -> bytes:
        """Answer the server's first message with the proof. Raises ProtocolViolation."""
        text = _decoded(message)
        nonce = _attribute(text.partition(",")[0], "r")
        if not nonce.startswith(self._nonce) or nonce == self._nonce:
            raise ProtocolViolation("the server's nonce does not continue ours")
        unproven = f"c={_text(self._binding)},r={nonce}"
        spoken = f"{self._bare},{text},{unproven}".encode()
        proof = _xor(self._keys.client, hmac.digest(self._keys.stored, spoken, "sha256"))
        self._answer = f"v={_text(hmac.digest(self._keys.server, spoken, 'sha256'))}".encode()
        return f"{unproven},p={_text(proof)}".encode()

    def check(self, message: bytes) -> None:
        """Check the server's signature. Raises WrongProof: it has not this user's verifier."""
        answer = message.partition(b",")[0]
        if not self._answer or not hmac.compare_digest(answer, self._answer):
            raise WrongProof


def _decoded(message: bytes) -> str:
    try:
        return message.decode()
    except UnicodeDecodeError as error:
        raise ProtocolViolation("malformed SCRAM message: not UTF-8") from error


def _split(text: str, parts: int) -> list[str]:
    found = text.split(",", parts - 1)
    if len(found) != parts or "," not in found[-1]:
        raise ProtocolViolation("malformed SCRAM message: attributes are missing")
    return found


def _attribute(text: str, name: str) -> str:
    if not text.startswith(f"{name}="):
        raise ProtocolViolation(f"malformed SCRAM message: attribute {name} expected")
    return text[2:]


def _key(text: str) -> bytes:
    key = _base64(text)
    if len(key) != KEY_BYTES:
        raise ProtocolViolation("malformed SCRAM message: proof of another length")
    return key


def _base64(text: str) -> bytes:
    try:
        return _bytes(text)
    except ValueError as error:
        raise ProtocolViolation("malformed SCRAM message: not base64") from error


def _bytes(text: str) -> bytes:
    return b64decode(text, validate=True)


def _text(data: bytes) -> str:
    return b64encode(data).decode()


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(one ^ other for one, other in zip(left, right, strict=True))
