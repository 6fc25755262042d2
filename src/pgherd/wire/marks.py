"""Words of a statement that say that it keeps something in its server process.

Owns the words. A word that may stand for a column as well (`temp`, `hold`) counts only where SQL
would read it so; a comment could part what belongs together, so with one in the statement every
such word counts. `set_config()` with both values seen and `true` behind them ends with the
transaction; of a parameter that every server reports the server tells the value, and it goes along
as with SET (Django sets its time zone so).

Pure; takes statements in small letters.
"""

from __future__ import annotations

import re

_ANY = re.compile(
    rb"\b(temp|temporary|pg_temp\w*|hold|set_config|pg_(?:try_)?advisory_lock\w*|dblink_\w+"
    rb"|currval|lastval)\b"
)
"""What a statement keeps beyond its transaction."""

_COLUMNS = frozenset({b"temp", b"temporary", b"hold"})
_SURE = re.compile(
    rb"\b(?:create\s+(?:or\s+replace\s+)?|into\s+)(?:local\s+|global\s+)?(temp|temporary)\b"
    rb"|\bwith\s+(hold)\b"
)
_ARGUMENT = rb"\s*(?:'(?:[^'\\]|'')*'|\$\d+)(?:::\w+)?\s*"
_LOCAL_CONFIG = re.compile(
    rb"\bset_config\s*\(" + _ARGUMENT + rb"," + _ARGUMENT + rb",\s*(?:true|'t'|'true')\s*\)"
)
_REPORTED_CONFIG = re.compile(
    rb"\bset_config\s*\(\s*'(?:timezone|datestyle|intervalstyle|application_name)'\s*,"
    + _ARGUMENT
    + rb",\s*(?:false|'f'|'false')\s*\)"
)
_DRAWN = re.compile(rb"\b(?:currval|lastval)\s*\(")


def kept_by(text: bytes) -> str | None:
    """The first word that says so."""
    if not (
        b"temp" in text or b"hold" in text or b"set_config" in text
        or b"advisory_lock" in text or b"dblink" in text
        or b"currval" in text or b"lastval" in text
    ):  # fmt: skip
        return None
    if b"set_config" in text:
        text = _REPORTED_CONFIG.sub(b"set_told()", _LOCAL_CONFIG.sub(b"set_local()", text))
    may_hide = b"/*" in text or b"--" in text
    for mark in _ANY.finditer(text):
        word = mark[1]
        if word not in _COLUMNS or may_hide or _SURE.search(text):
            return word.decode("ascii")
    return None


def recalls(text: bytes) -> bool:
    """Whether it asks for what its session drew from a sequence in an earlier statement."""
    if b"currval" not in text and b"lastval" not in text:
        return False
    may_draw = b"nextval" in text or b"insert" in text
    return not may_draw and _DRAWN.search(text) is not None
