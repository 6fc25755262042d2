"""Statements that leave nothing behind and need no look at their answers: `is_plain`.

Theory of operation. A plain statement keeps nothing in its server process beyond the transaction,
changes no parameter, moves no COPY data, prepares nothing and refers to nothing that an earlier
statement got from its server. So whoever passes it on need not know what it says. What is asked is
the statement without its literals; a text that cannot be parted into code and literals at a look
is judged as it is. Everything is taken for not plain that does not begin with one of a few words.

The twin of this cut is the shuttle's (_shuttle_text.c), which remembers what was said here of
statements that differ in their literals alone, and looks into those literals itself.

Pure.
"""

from __future__ import annotations

import re

from pgherd.wire.lowering import settings_in
from pgherd.wire.marks import kept_by
from pgherd.wire.tracker import STATEMENT_BYTES_MAX

_FIRST = frozenset(
    b"select insert update delete merge with values table begin start commit end rollback abort"
    b" savepoint release explain fetch move declare close".split()
)
_WORD = re.compile(rb"(?:\s+|/\*[^*]*\*+(?:[^/*][^*]*\*+)*/|--[^\n]*\n)*([a-z_]\w*)")
_LITERAL = re.compile(rb"'[^']*'|\"[^\"]*\"")
_UNSURE = re.compile(rb"\\|--|/\*|\$(?![0-9])")
_DRAWN = (b"currval", b"lastval")


def is_plain(text: bytes) -> bool:
    """Whether a statement is plain; see the module's text."""
    if len(text) > STATEMENT_BYTES_MAX or b"\0" in text:
        return False
    lower = text.lower()
    word = _WORD.match(lower)
    if word is None or word[1] not in _FIRST:
        return False
    code = lower if _UNSURE.search(lower) else _LITERAL.sub(b"''", lower)
    if b";" in code.rstrip(b"; \t\r\n\f\v"):
        return False
    if any(name in code for name in _DRAWN) or b"set_config" in code:
        return False
    return kept_by(lower) is None and not settings_in(text)
