"""Which settings of a client would take it outside of the promise, as far as its words show.

Two parameters matter (docs/adr/0041-commit-wait.md):

    synchronous_commit   below `on` a commit is acknowledged before a standby has it
    client_min_messages  above `warning` PostgreSQL does not say that a wait was cancelled

Statements are read as PostgreSQL reads them (docs, "Lexical Structure"): comments, strings and
quoted names are told apart, and the body of a DO is looked into. Found are SET in all its forms,
`ALTER ROLE | DATABASE | SYSTEM ... SET`, set_config() with its name written out, and an update of
pg_settings. Not found is what is put together at run time, or done by functions that exist.

Pure. Says where a value stands; what becomes of it is `guard`'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

COMMIT = "synchronous_commit"
MESSAGES = "client_min_messages"
LOUD_ENOUGH = "warning"

HIDING = frozenset({"error", "fatal", "panic"})
"""Values of client_min_messages that hide a warning."""

HIGH = frozenset({"on", "true", "yes", "1", "remote_apply", "default"})
"""Values of synchronous_commit that wait for a standby to have the commit on its disk."""

_NAMES = frozenset({COMMIT, MESSAGES})
_MENTIONS = re.compile(rb"synchronous_commit|client_min_messages", re.IGNORECASE)
_DEPTH_MAX = 4

_TOKEN = re.compile(
    rb"""
      (?P<space>   \s++ | --[^\n]*+ | /\*(?:.*?\*/|.*) )
    | (?P<string>  [eE]'(?:[^'\\]++|''|\\.)*+(?:'|\Z) | '(?:[^']++|'')*+(?:'|\Z) )
    | (?P<name>    "(?:[^"]++|"")*+(?:"|\Z) )
    | (?P<dollar>  \$(?:[A-Za-z_\x80-\xff][\w\x80-\xff]*+)?\$ )
    | (?P<word>    [A-Za-z_\x80-\xff][\w$\x80-\xff]*+ | \d++ | \$\d++ )
    | (?P<other>   . )
    """,
    re.VERBOSE | re.DOTALL,
)


class Token(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A word in small letters, or the inside of a string, and where it stands.

    kind: how it is written (`_TOKEN`).
    """

    kind: str
    text: str
    start: int
    end: int


class Found(msgspec.Struct, frozen=True):
    """A setting that is given a value. value: "" where the words do not show it · start, end: where
    the value stands · is_kept: it is written down for later sessions, not in force in this one.
    """

    name: str
    value: str
    start: int
    end: int
    is_kept: bool = False

    @property
    def is_low(self) -> bool:
        """Whether commits would not wait for a standby, or it cannot be told."""
        return self.name == COMMIT and self.value not in HIGH

    @property
    def hides(self) -> bool:
        """Whether this session would not be told of a wait that was cancelled."""
        return self.name == MESSAGES and not self.is_kept and self.value in HIDING

    @property
    def is_dark(self) -> bool:
        """Whether it may hide warnings, and a value to put in its place is nowhere to be seen."""
        return self.name == MESSAGES and not self.is_kept and not self.value


def settings_in(text: bytes) -> list[Found]:
    """What the statements of a text set of the two parameters."""
    if _MENTIONS.search(text) is None:
        return []
    found: list[Found] = []
    for statement in _statements(_tokens(text, 0, len(text), 0)):
        found += _in_statement(statement)
    return found


def asked_at_startup(parameters: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """What startup parameters give the two: `options` first, what stands by itself wins."""
    asked: dict[str, str] = {}
    for name, value in parameters:
        if name == "options":
            told = options(value)
            asked = {**{one: told[one].lower() for one in _NAMES if one in told}, **asked}
    for name, value in parameters:
        if name.lower() in _NAMES:
            asked[name.lower()] = value.lower()
    return asked


def made_loud(parameters: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Startup parameters with which warnings are heard, whatever is kept for role and database."""
    rest = tuple(one for one in parameters if one[0].lower() != MESSAGES)
    return (*rest, (MESSAGES, LOUD_ENOUGH))


def options(text: str) -> dict[str, str]:
    """The settings in `-c name=value` and `--name=value` (config-setting, "via the Shell")."""
    words = [re.sub(r"\\(.)", r"\1", word) for word in re.findall(r"(?:\\.|[^\s\\])+", text)]
    found: dict[str, str] = {}
    for at, word in enumerate(words):
        if word == "-c":
            setting = words[at + 1] if at + 1 < len(words) else ""
        else:
            setting = word[2:] if word.startswith(("-c", "--")) else ""
        name, equals, value = setting.partition("=")
        if equals:
            found[name.replace("-", "_").lower()] = value
    return found


def _tokens(text: bytes, at: int, end: int, depth: int) -> Iterator[Token]:
    while at < end:
        match = _TOKEN.match(text, at, end)
        assert match is not None  # any byte is `other`
        kind, after = match.lastgroup or "", match.end()
        if kind == "dollar":
            closes = text.find(match[0], after, end)
            closes = end if closes < 0 else closes
            yield Token("body", "", after, closes)
            if depth < _DEPTH_MAX:
                yield from _tokens(text, after, closes, depth + 1)
            yield Token("end", "", closes, closes)
            after = min(closes + len(match[0]), end)
        elif kind != "space":
            yield Token(kind, _read(kind, match[0]), at, after)
        at = after


def _read(kind: str, raw: bytes) -> str:
    text = raw.decode("utf-8", "replace").lower()
    if kind == "string":
        return text.removeprefix("e").strip("'")
    return text.strip('"') if kind == "name" else text


def _statements(tokens: Iterator[Token]) -> Iterator[list[Token]]:
    """Parted at each semicolon outside of bodies. Only those of DO are looked into: what a function
    is made of does nothing yet, and a body in any other place is a string.
    """
    current: list[Token] = []
    depth = 0
    for token in tokens:
        depth += (token.kind == "body") - (token.kind == "end")
        if token.kind == "other" and token.text == ";" and not depth:
            yield current
            current = []
        elif token.kind not in ("body", "end") and (not depth or _opens(current, "do")):
            current.append(token)
    yield current


def _opens(statement: list[Token], word: str) -> bool:
    return bool(statement) and statement[0].text == word


def _in_statement(tokens: list[Token]) -> list[Found]:
    if _opens(tokens, "create"):
        return []  # a SET clause is in force until its function ends, and none can commit
    if _opens(tokens, "update") and any(token.text == "pg_settings" for token in tokens):
        named = {token.text for token in tokens if token.kind == "string"} & _NAMES
        return [Found(name, "", 0, 0) for name in sorted(named)]
    is_kept = _opens(tokens, "alter")
    found = []
    for at, token in enumerate(tokens):
        if token.text not in _NAMES:
            continue
        one = _called(tokens, at) if token.kind == "string" else _set(tokens, at)
        if one is not None:
            value = one.text if one.kind in ("string", "word", "name") else ""
            value = "" if value.startswith("$") else value
            found.append(Found(token.text, value, one.start, one.end, is_kept))
    return found


def _set(tokens: list[Token], at: int) -> Token | None:
    """The value in `SET [SESSION | LOCAL] name TO value`."""
    before = [token.text for token in tokens[max(0, at - 2) : at]]
    if before[-1:] != ["set"] and not (
        before[:1] == ["set"] and before[-1] in ("session", "local")
    ):
        return None
    is_given = len(tokens) > at + 2 and tokens[at + 1].text in ("=", "to")
    return tokens[at + 2] if is_given else None


def _called(tokens: list[Token], at: int) -> Token | None:
    """The value in `set_config('name', value, is_local)`; what is no string does not show it."""
    before = [token.text for token in tokens[max(0, at - 2) : at]]
    if before != ["set_config", "("] or len(tokens) <= at + 3 or tokens[at + 1].text != ",":
        return None
    value, after = tokens[at + 2], tokens[at + 3]
    if value.kind == "string" and after.text in (",", ":"):
        return value
    return Token("other", "", value.start, value.end)
