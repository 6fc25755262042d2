"""What a client's text says beside its statement: hints in comments, and what it is known by.

Owns the key under which a statement is remembered. Texts that differ only in plain literals share
one, so that a statement with its values written out is parsed once:

    SELECT a FROM t WHERE b = 17 AND c = 'x'   ->   SELECT a FROM t WHERE b = . AND c = .

The key is a keyed hash, so nobody who does not know the secret can make two texts meet. Stripped
are 'strings' and numbers, told apart by what the grammar tells apart. Whatever makes it hard to
say where a literal ends is known by its whole text: backslashes, dollar quotes, comments, E'' B''
X'' N'' U&'', `float(n)`, at whose number the grammar itself looks, and COPY, whose tree does not
tell TO '' from TO STDOUT.

Pure. Reads as PostgreSQL does (docs, "Lexical Structure").
"""

from __future__ import annotations

import re
from enum import StrEnum
from hashlib import blake2b

from pgherd.route.choose import Route

KEY_BYTES = 16
INTEGER_MAX = 0x7FFFFFFF
"""Above it the grammar has no integer constant, but a number."""

_INTEGER, _NUMBER, _STRING = b"\x01", b"\x02", b"\x03"
"""What stands for literals; no text that is stripped has these bytes of its own."""

_RUN = re.compile(
    rb"""
    (?P<plain> (?:
        (?! [eEbBxXnN]' | [uU]&['"] | (?i:float|copy)(?![\w$\x80-\xff]) )
        [A-Za-z_\x80-\xff][\w$\x80-\xff]*+                                 # a word
      | [\t\n\x0b\f\r ,()\[\]:;=<>+*%^&|~!@\#?`]++
      | -(?!-) | /(?!\*) | \.(?!\d)
      | "(?:[^"]++|"")*+"
      | \$\d++(?![\w$\x80-\xff])
    )*+ )
    (?: (?P<string>  '(?:[^'\\]++|'')*+' )
      | (?P<integer> \d++(?![\w.$\x80-\xff]) )
      | (?P<number>  (?:\d++(?:\.\d*+)?+|\.\d++)(?:[eE][+-]?+\d++)?+(?![\w.$\x80-\xff]) )
      | (?P<end>     \Z )
      | (?P<bail>    . )
    )
    """,
    re.VERBOSE | re.DOTALL,
)
"""What stays, and the literal behind it."""

_PART = re.compile(
    rb"""
      (?P<open>    /\* )
    | (?P<line>    --[^\n\r]*+ )
    | (?P<escape>  (?<![\w$\x80-\xff])[eE]'(?:[^'\\]++|''|\\.)*+(?:'|\Z) )
    | (?P<string>  '(?:[^']++|'')*+(?:'|\Z) )
    | (?P<name>    "(?:[^"]++|"")*+(?:"|\Z) )
    | (?P<dollar>  (?<![\w$\x80-\xff])\$(?:[A-Za-z_\x80-\xff][\w\x80-\xff]*+)?+\$ )
    """,
    re.VERBOSE | re.DOTALL,
)
_NESTING = re.compile(rb"/\*|\*/")
_HINT = re.compile(rb"\s*pgherd:\s*(\w+)\s*")


class Hint(StrEnum):
    """What a comment in a statement asks for. NONE: nothing."""

    NONE = ""
    PRIMARY = "primary"
    REPLICA = "replica"

    @property
    def route(self) -> Route | None:
        """The same as a route."""
        return None if self is Hint.NONE else Route(self.value)


def key_of(text: bytes, secret: bytes) -> bytes:
    """What a text is remembered by: shared only by texts whose trees differ in literals alone."""
    parts = []
    for match in _RUN.finditer(text):
        parts.append(match["plain"])
        match match.lastgroup:
            case "string":
                parts.append(_STRING)
            case "integer":
                parts.append(_INTEGER if _is_small(match["integer"]) else _NUMBER)
            case "number":
                parts.append(_NUMBER)
            case "end":
                break
            case _:
                return exact_key_of(text, secret)
    return b"s" + _hashed(b"".join(parts), secret)


def exact_key_of(text: bytes, secret: bytes) -> bytes:
    """A key that no other text shares."""
    return b"x" + _hashed(text, secret)


def hint_in(text: bytes) -> Hint:
    """What the comments of a text ask for. Two that say different things: the primary."""
    if b"pgherd:" not in text:
        return Hint.NONE
    found = {match[1].lower() for comment in _comments(text) if (match := _HINT.fullmatch(comment))}
    if not found:
        return Hint.NONE
    return Hint.REPLICA if found == {b"replica"} else Hint.PRIMARY


def _hashed(text: bytes, secret: bytes) -> bytes:
    return blake2b(text, digest_size=KEY_BYTES, key=secret).digest()


def _is_small(digits: bytes) -> bool:
    digits = digits.lstrip(b"0")
    return len(digits) <= 10 and int(digits or b"0") <= INTEGER_MAX


def _comments(text: bytes) -> list[bytes]:
    """The insides of block comments, outermost only."""
    found = []
    at = 0
    while match := _PART.search(text, at):
        at = match.end()
        if match.lastgroup == "open":
            closes = _closes(text, at)
            if closes is None:
                break
            found.append(text[at : closes - 2])
            at = closes
        elif match.lastgroup == "dollar":
            closes = text.find(match[0], at)
            at = len(text) if closes < 0 else closes + len(match[0])
    return found


def _closes(text: bytes, at: int) -> int | None:
    """Where a block comment ends whose inside begins here, if it does; they nest in PostgreSQL."""
    depth = 1
    while depth:
        match = _NESTING.search(text, at)
        if match is None:
            return None
        depth += 1 if match[0] == b"/*" else -1
        at = match.end()
    return at
