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
from typing import Any
from urllib.parse import quote

from pgherd.telemetry.hiding import HIDDEN, KNOWN_LETTERS_MIN, hide

KEYS = re.compile(
    r"(?i)(passw(?!ord_encryption)|pwd|passphrase|secret|credential|private|bearer|authorization"
    r"|cookie|api_?key|access_?key|conninfo|dsn|token$|tokens$|sha256|verifier|(^|_)command$|headers"
    r"|^env$|environment|^url$|webhook)"
)
"""Keys whose values are not shown, whatever they are."""
REFERENCES = ("file:", "env:")
"""A value that only says where a secret is."""
_VALUE = r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s,;)}\]&"']+)"""
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
        self._known = sorted(
            {form for word in words if len(word) >= KNOWN_LETTERS_MIN for form in written(word)},
            key=len,
            reverse=True,
        )

    def value(self, value: Any, *, key: str = "") -> Any:
        """A value as JSON and YAML have it, with what its keys say."""
        if key and KEYS.search(key) and not is_harmless(value):
            return HIDDEN
        if isinstance(value, dict):
            return {
                self.text(str(name)): self.value(one, key=str(name)) for name, one in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.value(one) for one in value]
        return self.text(value) if isinstance(value, str) else value

    def text(self, text: str) -> str:
        """Lines, a sentence, a file."""
        text = self._by_value(text)
        text = "\n".join(hide(text.split("\n"))) if text else ""
        for form, shown in _FORMS:
            text = form.sub(shown, text)
        return text

    def leaks(self, content: bytes) -> bool:
        """Whether a known secret is left in what is to be written."""
        return any(word.encode() in content for word in self._known)

    def _by_value(self, text: str) -> str:
        for word in self._known:
            text = text.replace(word, HIDDEN)
        return text


def is_harmless(value: Any) -> bool:
    """What tells nothing: no value, a switch, and where a secret is kept. A number may be one."""
    if isinstance(value, str):
        return not value or value.startswith(REFERENCES)
    return value is None or isinstance(value, bool) or value in ([], {})


def written(word: str) -> Iterator[str]:
    """The ways in which a secret may stand somewhere."""
    yield word
    yield quote(word, safe="")
    yield json.dumps(word)[1:-1]
    yield json.dumps(word, ensure_ascii=False)[1:-1]
    yield word.replace("'", "''")
    yield base64.b64encode(word.encode()).decode().rstrip("=")
