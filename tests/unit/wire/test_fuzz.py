"""Proves that no bytes of a peer, client or server, get more out of a parser than a refusal.

Valid conversations are taken apart and put together wrongly, from a case's number alone: bits flip,
lengths lie, pieces vanish, come twice or come from elsewhere. Whatever comes of it, only the
exceptions that a parser names come out, cutting the bytes differently changes nothing, and what is
kept stays small. A case that fails is made small before it is shown.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from itertools import pairwise

import pytest

from pgherd.wire import query
from pgherd.wire.answer import Refusal, error_response
from pgherd.wire.entry import EntryImpossible, ServerEntry
from pgherd.wire.frames import Frames
from pgherd.wire.guard import Guard
from pgherd.wire.login import (
    AskVerifier,
    Authenticated,
    BeginTls,
    Cancels,
    ClientLogin,
    LoginRefused,
    authentication,
    startup_packet,
)
from pgherd.wire.opening import Opening
from pgherd.wire.query import Answers, ServerError
from pgherd.wire.scram import MECHANISM, ScramClient, ScramServer, keys_of, parse, verifier
from pgherd.wire.startup import (
    SSL_REQUEST,
    CancelKey,
    ProtocolViolation,
    SslRequest,
    encode_cancel,
)
from pgherd.wire.tracker import Tracker

CASES = int(os.environ.get("PGHERD_SOAK", 15_000))
"""Of each target; there are eight."""

KEPT_BYTES_MAX = 200_000
NONCE = "fyko+d2lbbFgONRv9qkxdawL"
SALT = bytes(16)
VERIFIER = verifier("right", salt=SALT)
KEYS = keys_of("right", salt=SALT, iterations=4096)
LENGTHS = (0, 3, 4, 5, 8, 255, 9_999, 10_001, 65_536, 0x3FFFFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
ANN = (("user", "ann"), ("database", "postgres"), ("options", "-c synchronous_commit=off"))


def message(kind: str, body: bytes = b"") -> bytes:
    return kind.encode() + (4 + len(body)).to_bytes(4, "big") + body


def _proofs() -> tuple[bytes, bytes]:
    """The two answers of a client whose password is right, for our nonces."""
    client = ScramClient(KEYS, nonce=NONCE)
    known = parse(VERIFIER)
    assert known is not None
    server = ScramServer(known, nonce=NONCE, end_point=b"")
    first = client.first()
    answer = server.first(MECHANISM, first)
    name = MECHANISM.encode() + b"\0" + len(first).to_bytes(4, "big")
    return message("p", name + first), message("p", client.final(answer))


FIRST, FINAL = _proofs()
LOGIN = [startup_packet(ANN), FIRST, FINAL]
OPENINGS = [SSL_REQUEST, encode_cancel(CancelKey(7, b"abcd")), *LOGIN]
SAID_BY_CLIENT = [
    query.simple("SELECT 1; SET client_min_messages = error; SELECT $$ it's $$"),
    query.prepare("one", "SELECT set_config('synchronous_commit', $1, /* no */ false)"),
    query.run("one", ["off"]),
    query.simple("DO $x$ BEGIN SET LOCAL synchronous_commit TO 'off'; END $x$"),
    message("d", b"1\tx\n" * 20),
    message("c"),
    message("C", b"Sone\0"),
    query.SYNC,
    query.TERMINATE,
]
PARTS = (b"SWARNING\0VWARNING\0C01000\0Mcancelled\0", b"RSyncRepWaitForLSN\0\0")
SAID_BY_SERVER = [
    message("S", b"TimeZone\0UTC\0"),
    message("K", bytes(8)),
    message("T", b"\0\1n\0" + bytes(6) + (23).to_bytes(4, "big") + bytes(8)),
    message("D", b"\0\1\0\0\0\x012"),
    message("C", b"SET\0"),
    message("N", b"".join(PARTS)),
    message("G", bytes(3)),
    error_response(Refusal("22012", "division by zero"), severity="ERROR"),
    message("Z", b"I"),
    message("Z", b"T"),
]
GREETING = [
    authentication(10, MECHANISM.encode() + b"\0\0"),
    authentication(11, b"r=" + NONCE.encode() * 2 + b",s=" + b"A" * 24 + b",i=4096"),
    authentication(12, b"v=AAAA"),
    authentication(0),
    *SAID_BY_SERVER,
]


def told(corpus: list[bytes], dice: random.Random) -> bytes:
    """A conversation, and what may become of it on the way."""
    begins = dice.randrange(2)
    said = list(corpus) if begins else [dice.choice(corpus) for _ in range(dice.randrange(1, 7))]
    data = bytearray(b"".join(said))
    for _ in range(dice.randrange(5)):
        at = dice.randrange(len(data) + 1)
        match dice.randrange(7):
            case 0 if at < len(data):
                data[at] ^= 1 << dice.randrange(8)
            case 1:
                del data[at : at + dice.randrange(1, 40)]
            case 2:
                data[at:at] = data[at : at + dice.randrange(1, 40)]
            case 3:
                data[at:at] = dice.randbytes(dice.randrange(1, 12))
            case 4:
                data[at : at + 4] = dice.choice(LENGTHS).to_bytes(4, "big")
            case 5:
                data[at:at] = dice.choice(corpus)
            case 6 if dice.random() < 0.3:
                del data[at:]
    return bytes(data)


def cut(data: bytes, dice: random.Random) -> list[bytes]:
    places = sorted({0, len(data), *(dice.randrange(len(data) + 1) for _ in range(4))})
    return [data[start:end] for start, end in pairwise(places)]


# What each target makes of bytes that come in pieces. Two ways to cut must give the same.

Target = Callable[[list[bytes]], object]


def kept(one: object) -> int:
    """Bytes that a parser holds on to."""
    names = getattr(one, "__slots__", None) or vars(one)
    held = [getattr(one, name) for name in names]
    return sum(len(each) for each in held if isinstance(each, bytes | bytearray))


def opening(pieces: list[bytes]) -> object:
    reader, found = Opening(), []
    try:
        for piece in pieces:
            found += reader.client(piece)
            assert kept(reader) <= KEPT_BYTES_MAX
    except ProtocolViolation as why:
        return str(why)
    return found


def answered(pieces: list[bytes]) -> object:
    """The server's half of an opening: cut anywhere, since its answers are single bytes."""
    reader = Opening()
    reader.client(SSL_REQUEST + startup_packet(ANN))
    for piece in pieces:
        reader.server(piece)
        assert kept(reader) <= KEPT_BYTES_MAX
    return reader.opaque, reader.done, reader.key


def login(pieces: list[bytes]) -> object:
    """How far it gets; not compared: what came together with a request counts (CVE-2021-23214)."""
    logged_in(pieces)
    return None


def logged_in(pieces: list[bytes]) -> list[type]:
    known = parse(VERIFIER)
    one = ClientLogin(nonce=NONCE, offers_tls=False)
    steps: list[type] = []
    try:
        for piece in pieces:
            one.feed(piece)
            while (step := one.next()) is not None:
                steps.append(type(step))
                if isinstance(step, AskVerifier):
                    one.give(known if step.user == "ann" else None, mock_nonce=bytes(32))
                if isinstance(step, BeginTls | Cancels | Authenticated):
                    return steps
    except (ProtocolViolation, LoginRefused):
        pass
    return steps


def entry(pieces: list[bytes]) -> object:
    one = ServerEntry(ANN, KEYS, nonce=NONCE)
    said = one.start()
    try:
        for piece in pieces:
            said += one.feed(piece)
            if one.is_over:
                break
    except (ProtocolViolation, EntryImpossible) as why:
        return str(why)
    assert one.is_over or kept(one) <= KEPT_BYTES_MAX
    return said, one.is_over, one.greeting, one.refusal, one.key


def frames(pieces: list[bytes]) -> object:
    reader, found = Frames(skip=b"d", keep=b"QPZ", keep_bytes=50), []
    try:
        for piece in pieces:
            found += reader.feed(piece)
            assert kept(reader) <= KEPT_BYTES_MAX
    except ProtocolViolation:
        return "refused"
    return found, reader.at_boundary


def tracker(pieces: list[bytes]) -> object:
    one = Tracker()
    try:
        for piece in pieces:
            one.client(piece)
        for piece in pieces:
            one.server(piece)
    except ProtocolViolation:
        return "refused"
    return one.is_idle, one.is_clean, one.reasons, one.settings, one.wait_cancelled


def guard(pieces: list[bytes]) -> object:
    one, passed = Guard(has_floor=True), b""
    try:
        for piece in pieces:
            passed += one.client(piece)
            assert kept(one) <= KEPT_BYTES_MAX
    except ProtocolViolation:
        return "refused"
    return passed, one.holds


def answers(pieces: list[bytes]) -> object:
    one, found = Answers(), []
    try:
        for piece in pieces:
            one.feed(piece)
            while one.feed(b""):
                found.append(one.take())
    except (ProtocolViolation, ServerError) as why:
        return type(why)
    return found


TARGETS: dict[str, tuple[list[bytes], Target]] = {
    "opening": (OPENINGS, opening),
    "answered": (GREETING, answered),
    "login": (OPENINGS, login),
    "entry": (GREETING, entry),
    "frames": (SAID_BY_CLIENT, frames),
    "tracker": (SAID_BY_CLIENT + SAID_BY_SERVER, tracker),
    "guard": (SAID_BY_CLIENT, guard),
    "answers": (SAID_BY_SERVER, answers),
}


def complaint(target: Target, pieces: list[bytes]) -> str:
    """Why bytes are not taken as they should be; "" where they are."""
    try:
        whole, parted = target([b"".join(pieces)]), target(pieces)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "" if whole == parted else f"whole: {whole}\nin pieces: {parted}"


def smaller(target: Target, pieces: list[bytes]) -> list[bytes]:
    """The least that still fails: pieces and parts of them are left out while it does."""
    is_less = True
    while is_less:
        is_less = False
        for number, piece in enumerate(pieces):
            step = max(1, len(piece) // 2)
            while step and not is_less:
                for at in range(0, len(piece), step):
                    rest = piece[:at] + piece[at + step :]
                    less = [*pieces[:number], rest, *pieces[number + 1 :]]
                    if complaint(target, less):
                        pieces, is_less = less, True
                        break
                step //= 2
            if is_less:
                break
    return [piece for piece in pieces if piece]


@pytest.mark.parametrize("name", TARGETS)
def test_fuzzed(name: str, count: Callable[..., None]) -> None:
    """A seed is its number: `told` and `cut` make the case from it again."""
    corpus, target = TARGETS[name]
    dice = random.Random()
    for number in range(CASES):
        dice.seed(number)
        pieces = cut(told(corpus, dice), dice)
        why = complaint(target, pieces)
        if why:
            least = smaller(target, pieces)
            raise AssertionError(f"case {number}: {least}\n{complaint(target, least)}\n{why}")
    count(wire_cases=CASES)


def test_valid_conversations_are_understood() -> None:
    """Else the cases would break what was broken before."""
    assert logged_in([b"".join(LOGIN)])[-1] is Authenticated
    assert opening([SSL_REQUEST]) == [SslRequest()]
    assert guard(SAID_BY_CLIENT)[0] != b"".join(SAID_BY_CLIENT)  # type: ignore[index] # a pair
    assert tracker(SAID_BY_CLIENT) != "refused"


def test_a_failing_case_is_made_small() -> None:
    """The shrinker finds what matters."""

    def hates(pieces: list[bytes]) -> object:
        assert b"\xff" not in b"".join(pieces)
        return b"".join(pieces)

    assert smaller(hates, [b"abc", b"de\xfffg" * 3, b""]) == [b"\xff"]
