"""What is known of a statement's text alone, before anything is known of its database.

Pure. Owns the words that the rest of the split of reads and writes uses: the kind of a statement,
the names in it that a database has to explain, and the verdict. `shape` makes a `Shape` of a parse
tree, `vocabulary` makes a `Verdict` of a shape.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

import msgspec


class Kind(StrEnum):
    """What a statement asks of the server that runs it.

    READ: any replica may answer · DOUBT: the primary answers, unless the client's own word sends it
    to a replica · WRITE: it changes something, locks rows, or keeps something in its session: the
    primary, whatever anybody says.
    """

    READ = "read"
    DOUBT = "doubt"
    WRITE = "write"


class Begins(StrEnum):
    """What a statement does to the transaction it is in. READING: it begins one that cannot write
    and that a replica can hold.
    """

    NOTHING = ""
    READING = "reading"
    WRITING = "writing"


class Shape(msgspec.Struct, frozen=True):
    """A statement as its text shows it. why: for people, of what `kind` says; "" for a read.

    functions, operators, relations: names of them, without their schemas · attributes: what is
    written like a column and would be the call of a function if no column has the name · changes:
    it may change what names mean (DDL) · begins: what transaction it opens.
    """

    kind: Kind
    why: str = ""
    functions: frozenset[str] = frozenset()
    operators: frozenset[str] = frozenset()
    relations: frozenset[str] = frozenset()
    attributes: frozenset[str] = frozenset()
    changes: bool = False
    begins: Begins = Begins.NOTHING


class Verdict(msgspec.Struct, frozen=True):
    """What a statement is in its database. why: for people · is_final: False while a name in it has
    not been asked about yet.
    """

    kind: Kind
    why: str
    is_final: bool = True


class Unparsed(msgspec.Struct, frozen=True):
    """A text that PostgreSQL's parser does not take."""

    why: str


Tree = list[dict[str, Any]]
"""The statements of a text, each as the parser's JSON has it: `{"stmt": {"SelectStmt": {...}}}`."""

Parse = Callable[[str], Tree | Unparsed]
"""PostgreSQL's own parser. Neither raises nor ends the process, whatever the text is."""
