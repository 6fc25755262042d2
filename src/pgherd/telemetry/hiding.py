"""Takes secrets out of log lines before they leave the node.

Owns the forms in which a password may stand in a log: SQL, connection strings, verifiers, headers.
What a form cannot tell (a literal that an application logged) is known by its value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

HIDDEN = "(hidden)"
KNOWN_LETTERS_MIN = 6
"""A shorter secret would hide ordinary words."""

QUOTED = r"E?'(?:[^'\\]|\\+[^\\]|'')*'|E?'(?:[^']|'')*'|\"(?:[^\"\\]|\\+[^\\])*\""
"""As SQL and libpq have it: a quote within is doubled or has backslashes before it (JSON)."""
TO_THE_BLANK = r"(?:\\+[^\\\s]|[^\s'\"\\])+"
"""A value without quotes, as libpq reads it: commas and brackets are of it."""
_VALUE = rf"(?:{QUOTED}|\$(\w*)\$.*?\$\3\$|[^\s'\",;)&]+)"
_FORMS = (
    (
        re.compile(rf"(?is)\b(password|passwd|pgpassword)(\s*=\s*)(?:{QUOTED}|{TO_THE_BLANK})"),
        rf"\1\2{HIDDEN}",
    ),
    (re.compile(rf"(?is)\b(password|passwd|pgpassword)(\s*:\s*|\s+){_VALUE}"), rf"\1\2{HIDDEN}"),
    (re.compile(r"(?i)\b(bearer\s+)[\w.~+/=-]+"), rf"\1{HIDDEN}"),
    (re.compile(r"(://[^/\s:@]*:)[^\s'\"<>]{1,512}@"), rf"\1{HIDDEN}@"),
    (re.compile(r"SCRAM-SHA-256\$[\w:$+/=]+"), f"SCRAM-SHA-256${HIDDEN}"),
    (re.compile(r"\bmd5[0-9a-f]{32}\b"), f"md5{HIDDEN}"),
    (re.compile(r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*KEY-----|\Z)"), HIDDEN),
)


def hide(lines: Iterable[str], *, known: Iterable[str] = ()) -> tuple[str, ...]:
    """The same number of lines or fewer, without secrets. known: values that are secret."""
    text = "\n".join(lines)
    if not text:
        return ()
    for secret in known:
        if len(secret) >= KNOWN_LETTERS_MIN:
            text = text.replace(secret, HIDDEN)
    for form, shown in _FORMS:
        text = form.sub(shown, text)
    return tuple(text.split("\n"))
