"""Statements put together from names and texts that are not ours, quoted as PostgreSQL reads them.

Owns the quoting. Values of a query travel beside it as parameters ($1, $2, ...); this is for the
commands that take none (PostgreSQL docs, "Lexical Structure").
"""

from __future__ import annotations

from typing import LiteralString, NewType

Quoted = NewType("Quoted", str)
"""A piece of SQL, or a whole statement, in which nothing foreign is left unquoted."""

Statement = LiteralString | Quoted


def identifier(name: str) -> Quoted:
    """A name of something in the database. Raises ValueError for what no name can hold."""
    _check(name)
    return Quoted('"' + name.replace('"', '""') + '"')


def literal(text: str) -> Quoted:
    """A text constant, the same whatever standard_conforming_strings says."""
    _check(text)
    doubled = text.replace("'", "''")
    if "\\" not in text:
        return Quoted(f"'{doubled}'")
    return Quoted(" E'" + doubled.replace("\\", "\\\\") + "'")


def compose(template: LiteralString, *parts: Statement) -> Quoted:
    """A template of ours with {} for each part."""
    return Quoted(template.format(*parts))


def _check(text: str) -> None:
    if "\0" in text:
        raise ValueError("PostgreSQL takes no text with a zero byte")
