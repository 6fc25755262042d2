"""Takes secrets out of everything that goes into a support bundle. Reads no file, asks nobody.

Three sieves, one behind the other: a value whose key says that it is secret; the forms in which
secrets stand in text (`telemetry.hiding`, and a few more that our own tokens and applications use);
and every secret that this machine knows, by its value, however it is written. What passes all three
is `leaks`' to find: a bundle in which a known secret is left is not written.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from pgherd.telemetry.hiding import HIDDEN, KNOWN_LETTERS_MIN, QUOTED, hide

KEYS = re.compile(
    r"(?i)(passw(?!ord_encryption)|pwd|passphrase|secret|credential|private|bearer|authorization"
    r"|cookie|api_?key|access_?key|conninfo|dsn|token$|tokens$|sha256|verifier|(^|_)command$|headers"
    r"|^env$|environment|^url$|webhook)"
)
"""Keys whose values are not shown, whatever they are."""
PROGRAMS = re.compile(r"^(on_\w+|pre_promote|fence)$")
"""Keys of programs, which may be written as a line or a list, with whatever they are given."""
REFERENCES = ("file:", "env:")
"""A value that only says where a secret is."""
_VALUE = rf"""(?:{QUOTED}|(?:\\.|[^\s,;)}}\]&"'\\])+)"""
_FORMS = (
    (
        re.compile(
            r"(?i)([\w.-]*(?:passw(?:or)?d|pwd|secret|token|api[_-]?key|access[_-]?key|passphrase"
            rf"|credentials?)[\w.-]*[\"']?\s*[=:]\s*)(?!(?:file|env):)({_VALUE})"
        ),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"(?i)\b(basic|bearer)(\s+)[\w.~+/=-]{6,}"), rf"\1\2{HIDDEN}"),
    (re.compile(r"\bpgherd_[\w-]{16,}"), HIDDEN),
    (re.compile(r"\bpgherd1\.[\w=-]{16,}"), HIDDEN),
    (re.compile(r"\bAKIA[0-9A-Z]{16}\b"), HIDDEN),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"), HIDDEN),
    (re.compile(r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)"), HIDDEN),
)
"""Assignments, headers, our own tokens, keys of clouds, JSON Web Tokens, private keys."""


class Sieve:
    """Everything passes through one of these. known: secrets by their value."""

    def __init__(self, known: Iterable[str]) -> None:
        words = {word.strip() for word in known}
        words = {word for word in words if len(word) >= KNOWN_LETTERS_MIN and word not in HIDDEN}
        self._known = [
            form for word in sorted(words, key=len, reverse=True) for form in forms(word)
        ]

    def value(self, value: Any, *, key: str = "") -> Any:
        """A value as JSON and YAML have it, with what its keys say."""
        if key and is_secret(key, value) and not is_harmless(value):
            return HIDDEN
        if isinstance(value, dict):
            return {
                self.text(str(name)): self.value(one, key=str(name)) for name, one in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.value(one) for one in value]
        if isinstance(value, str):
            return self.text(value)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return HIDDEN if is_number and self._is_known(str(value)) else value

    def text(self, text: str) -> str:
        """Lines, a sentence, a file."""
        text = self.by_value(text)
        text = "\n".join(hide(text.split("\n"))) if text else ""
        for form, shown in _FORMS:
            text = form.sub(shown, text)
        return text

    def by_value(self, text: str) -> str:
        """What this machine knows to be secret, and nothing else."""
        for form in self._known:
            if form.core in text:
                text = form.pattern.sub(HIDDEN, text)
        return text

    def leaks(self, content: bytes) -> bool:
        """Whether a known secret is left in what is to be written."""
        return self._is_known(content.decode(errors="replace"))

    def _is_known(self, text: str) -> bool:
        return any(form.core in text and form.pattern.search(text) for form in self._known)


def is_secret(key: str, value: Any) -> bool:
    """Whether a key says so. A word without a path is a program's mode, and no program."""
    if PROGRAMS.search(key):
        is_word = isinstance(value, str) and "/" not in value
        return not isinstance(value, dict) and not is_word
    return KEYS.search(key) is not None


def is_harmless(value: Any) -> bool:
    """What tells nothing: no value, a switch, and where a secret is kept. A number may be one."""
    if isinstance(value, str):
        return not value or value.startswith(REFERENCES)
    return value is None or isinstance(value, bool) or value in ([], {})


class Form(NamedTuple):
    """A way in which a secret may stand somewhere. core: a part that is in all of them, to look for
    before the pattern, which takes its time.
    """

    core: str
    pattern: re.Pattern[str]


def forms(word: str) -> Iterator[Form]:
    """As it is, in URLs, SQL, connection strings, JSON and in one within the other; and in base64,
    wherever in what was encoded it stands.
    """
    yield Form(core(word), re.compile("".join(map(letter, word))))
    for before in range(3):
        if text := in_base64(word, before=before):
            pattern = text.replace("+", "[+-]").replace("/", "[/_]")
            yield Form(core(text), re.compile(pattern))


def core(word: str) -> str:
    """Its longest part of letters and digits, which nothing writes in another way."""
    return max(re.split(r"[^A-Za-z0-9]+", word), key=len)


def letter(one: str) -> str:
    """A character in all ways. What is no letter and no digit may have backslashes before it."""
    if one.isascii() and one.isalnum():
        return one
    percent = "".join(f"%{byte:02x}" for byte in one.encode(errors="surrogatepass"))
    if one == "\\":
        return rf"(?:\\+(?i:u005c)?|(?i:{percent}))"
    ways = [re.escape(one), f"(?i:{percent})", f"(?i:{re.escape(escaped(one))})"]
    ways += ["''"] if one == "'" else [r"\+"] if one == " " else []
    return rf"\\*(?:{'|'.join(ways)})"


def escaped(one: str) -> str:
    """As JSON may write it, without the backslash before it."""
    return f"u{ord(one):04x}" if one.isascii() else json.dumps(one)[2:-1]


def in_base64(word: str, *, before: int) -> str:
    """The part of its encoding that does not depend on what is around; "" where that is short.

    before: how many bytes of others there are in its first group of three.
    """
    data = bytes(before) + word.encode()
    text = base64.b64encode(data).decode().rstrip("=")
    text = text[(0, 2, 3)[before] : len(text) - (1 if len(data) % 3 else 0)]
    return text if len(text) >= KNOWN_LETTERS_MIN else ""
